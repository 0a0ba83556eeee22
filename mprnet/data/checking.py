"""Whether pairs of pictures are what they should be, found by reading all of them."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from tqdm import tqdm

from mprnet.data.pairs import Pair
from mprnet.data.reading import read_rgb, size_problem
from mprnet.errors import UserError

# A displacement counts if it is larger than what blur does to a centre of mass, and if undoing it lowers the mean
# squared error to this part: noise and repetition have peaks of correlation too.
_LEAST_SHIFT, _LOWER, _SMOOTH = 2.5, 0.7, 1.5
# Below this correlation of thumbnails two pictures are strangers, unless a thumbnail varies by less grey levels.
_LIKE, _STRUCTURE = 0.5, 8.0


@dataclass(frozen=True)
class Look:
    """What reading one pair showed.

    Attributes:
        problem: why it cannot be trained on, one sentence; empty if it can.
        size: (width, height) in pixels; (0, 0) if it cannot be read.
        digest: of the input's pixels, the same for the same picture in whatever file.
    """

    pair: Pair
    problem: str = ""
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""


@dataclass
class Findings:
    """What there is to say of pairs.

    Attributes:
        problems: sentences; each calls for something to be done.
        sizes: how many pairs there are of each (width, height).
        digests: of the readable inputs' pixels, each with a name that has it.
    """

    pairs: list[Pair] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    digests: dict[bytes, str] = field(default_factory=dict)


def check_pairs(pairs: Sequence[Pair], name: str, aligned: bool = True) -> Findings:
    """Read all pairs, with a progress bar of this name.

    Finds pictures that are unreadable, of two sizes, displaced against each other, the same on both sides, and inputs
    that are there twice.

    Args:
        aligned: whether input and target are meant to lie on each other.
    """
    findings = Findings(list(pairs))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = pool.map(partial(look_at, aligned=aligned), pairs)
        _collect(findings, tqdm(looks, name, total=len(pairs), unit="pair", leave=False))
    return findings


def look_at(pair: Pair, aligned: bool = True) -> Look:
    """Read one pair; ``aligned`` as in ``check_pairs``."""
    try:
        degraded, target = read_rgb(pair.input), read_rgb(pair.target)
    except UserError as error:
        return Look(pair, str(error))
    size = (degraded.shape[1], degraded.shape[0])
    digest = hashlib.blake2b(degraded.tobytes() + str(degraded.shape).encode(), digest_size=16).digest()
    problem = size_problem(pair.input, pair.target, (degraded, target))
    return Look(pair, problem or _content_problem(pair, degraded, target, aligned), size, digest)


def _content_problem(pair: Pair, degraded: np.ndarray, target: np.ndarray, aligned: bool) -> str:
    """What is wrong with two pictures of one size, one sentence; empty if nothing is."""
    if np.array_equal(degraded, target):
        return f"{pair.input} and {pair.target} hold the same picture."
    if aligned and any(shift := displacement(degraded, target)):
        right, down = shift
        return f"{pair.target} lies {right:+d} pixels to the right of {pair.input}, and {down:+d} below it."
    if likeness(degraded, target) < _LIKE:
        return f"{pair.input} and {pair.target} do not look like one scene: are they a pair?"
    return ""


def likeness(degraded: np.ndarray, target: np.ndarray) -> float:
    """How alike the coarse structure of two pictures is: the correlation of their grey thumbnails, from -1 to 1.

    Args:
        degraded, target: (H, W, 3) uint8, of one size.

    Returns:
        1 where one of them has no coarse structure, and nothing can be said.
    """
    thumbnails = [
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64)
        for image in (degraded, target)
    ]
    if min(thumbnail.std() for thumbnail in thumbnails) < _STRUCTURE:
        return 1.0
    return float(np.corrcoef([thumbnail.ravel() for thumbnail in thumbnails])[0, 1])


def displacement(degraded: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """By how many pixels (right, down) the target's content lies off the degraded picture's, by phase correlation.

    Args:
        degraded, target: (H, W, 3) uint8, of one size.

    Returns:
        (0, 0) for less than two and a half pixels, and where moving the target back does not make the two more alike.
    """
    height, width = degraded.shape[:2]
    if min(height, width) < 16:
        return 0, 0
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (degraded, target))
    (x, y), _ = cv2.phaseCorrelate(first, second, cv2.createHanningWindow((width, height), cv2.CV_32F))
    dx, dy = round(x), round(y)
    if np.hypot(x, y) < _LEAST_SHIFT or abs(dx) > width // 2 or abs(dy) > height // 2:
        return 0, 0
    rows, columns = slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
    back_rows, back_columns = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    smooth, other = (cv2.GaussianBlur(image, (0, 0), _SMOOTH) for image in (first, second))  # noise counts less then
    before = np.mean(np.square(smooth - other))
    after = np.mean(np.square(smooth[back_rows, back_columns] - other[rows, columns]))
    return (dx, dy) if after < _LOWER * before else (0, 0)


def _collect(findings: Findings, looks: Iterable[Look]) -> None:
    for look in looks:
        if look.problem:
            findings.problems.append(look.problem)
        if look.digest:
            findings.sizes[look.size] += 1
            earlier = findings.digests.setdefault(look.digest, look.pair.name)
            if earlier != look.pair.name:
                findings.problems.append(f"{look.pair.input} holds the same picture as the input {earlier}.")
