"""Finding problems in pairs of pictures, by reading all of them."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from tqdm import tqdm

from mprnet.data.pairs import Pair
from mprnet.data.reading import check_sizes, read_rgb
from mprnet.errors import UserError
from mprnet.processors import available_processors

# A displacement is reported if it is longer than this: blur moves a centre of mass too. In pixels.
_MIN_SHIFT = 2.5
# And if moving the target back multiplies the mean squared error by less than this. Noise and repetition have peaks of
# correlation too, but moving does not lower the error then. The images are smoothed first, by this sigma in pixels.
_MAX_ERROR_RATIO, _SMOOTHING = 0.7, 1.5
# Pictures of one scene have at least this correlation of their thumbnails. A thumbnail whose standard deviation is less
# than so many grey levels is too flat to tell.
_MIN_CORRELATION, _MIN_DEVIATION = 0.5, 8.0


@dataclass(frozen=True)
class PairCheck:
    """The result of reading one pair.

    Attributes:
        problem: one sentence, why the pair is not good for training; empty if it is good.
        size: (width, height) of the input in pixels; (0, 0) if the pair cannot be read.
        digest: a hash of the input's pixels. It does not depend on the file format. Empty if the pair cannot be read.
    """

    pair: Pair
    problem: str = ""
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""


@dataclass
class Findings:
    """The results of reading pairs.

    Attributes:
        problems: one sentence for each problem.
        sizes: how many pairs have each (width, height).
        digests: for each digest of an input's pixels, the name of the first pair that has it.
    """

    pairs: list[Pair] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    digests: dict[bytes, str] = field(default_factory=dict)


def check_pairs(pairs: Sequence[Pair], name: str, aligned: bool = True) -> Findings:
    """Read all pairs and return what is wrong with them.

    Problems are: a picture cannot be read; input and target differ in size, are displaced, are the same picture, or do
    not show the same scene; two inputs are the same picture.

    Args:
        name: the title of the progress bar.
        aligned: True if input and target should not be displaced.
    """
    findings = Findings(list(pairs))
    with ThreadPoolExecutor(available_processors()) as pool:
        checks = pool.map(partial(check_pair, aligned=aligned), pairs)
        _collect(findings, tqdm(checks, name, total=len(pairs), unit="pair", leave=False, disable=None))
    return findings


def check_pair(pair: Pair, aligned: bool = True) -> PairCheck:
    """Read one pair and return what is wrong with it; arguments as for ``check_pairs``."""
    try:
        degraded, target = read_rgb(pair.input), read_rgb(pair.target)
    except UserError as error:
        return PairCheck(pair, str(error))
    size = (degraded.shape[1], degraded.shape[0])
    digest = hashlib.blake2b(degraded.tobytes() + str(degraded.shape).encode(), digest_size=16).digest()
    try:
        check_sizes(pair, degraded, target)
        problem = _find_problem(pair, degraded, target, aligned)
    except UserError as error:
        problem = str(error)
    return PairCheck(pair, problem, size, digest)


def _find_problem(pair: Pair, degraded: np.ndarray, target: np.ndarray, aligned: bool) -> str:
    """Return what is wrong with two images of one size, one sentence; empty if nothing is wrong."""
    if np.array_equal(degraded, target):
        return f"{pair.input} and {pair.target} hold the same picture."
    if aligned and any(shift := find_displacement(degraded, target)):
        right, down = shift
        return f"{pair.target} lies {right:+d} pixels to the right of {pair.input}, and {down:+d} below it."
    if thumbnail_correlation(degraded, target) < _MIN_CORRELATION:
        return f"{pair.input} and {pair.target} do not look like one scene: are they a pair?"
    return ""


def thumbnail_correlation(degraded: np.ndarray, target: np.ndarray) -> float:
    """Return the correlation of the grey thumbnails of two images, from -1 to 1.

    Args:
        degraded, target: (H, W, 3) uint8, of one size.

    Returns:
        The correlation; 1 if one of the thumbnails is too flat.
    """
    thumbnails = [
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64)
        for image in (degraded, target)
    ]
    if min(thumbnail.std() for thumbnail in thumbnails) < _MIN_DEVIATION:
        return 1.0
    return float(np.corrcoef([thumbnail.ravel() for thumbnail in thumbnails])[0, 1])


def find_displacement(degraded: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """Return by how many pixels (right, down) the target is displaced against the degraded image.

    The displacement is found by phase correlation.

    Args:
        degraded, target: (H, W, 3) uint8, of one size.

    Returns:
        (0, 0) also if the displacement is shorter than 2.5 pixels, or if moving the target back does not make the two
        images more similar.
    """
    height, width = degraded.shape[:2]
    if min(height, width) < 16:
        return 0, 0
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (degraded, target))
    (x, y), _ = cv2.phaseCorrelate(first, second, cv2.createHanningWindow((width, height), cv2.CV_32F))
    dx, dy = round(x), round(y)
    if np.hypot(x, y) < _MIN_SHIFT or abs(dx) > width // 2 or abs(dy) > height // 2:
        return 0, 0
    rows, columns = slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
    back_rows, back_columns = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    smooth, other = (cv2.GaussianBlur(image, (0, 0), _SMOOTHING) for image in (first, second))
    before = np.mean(np.square(smooth - other))
    after = np.mean(np.square(smooth[back_rows, back_columns] - other[rows, columns]))
    return (dx, dy) if after < _MAX_ERROR_RATIO * before else (0, 0)


def _collect(findings: Findings, checks: Iterable[PairCheck]) -> None:
    for check in checks:
        if check.problem:
            findings.problems.append(check.problem)
        if check.digest:
            findings.sizes[check.size] += 1
            earlier = findings.digests.setdefault(check.digest, check.pair.name)
            if earlier != check.pair.name:
                findings.problems.append(f"{check.pair.input} holds the same picture as the input {earlier}.")
