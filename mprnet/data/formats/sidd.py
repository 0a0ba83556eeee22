"""SIDD (Abdelhamed et al., CVPR 2018): full photographs to train on, and blocks to validate on in MATLAB's files."""

import json
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import scipy.io
from tqdm import tqdm

from mprnet.data.paired import read_pair
from mprnet.data.pairs import Pair
from mprnet.data.png import write_png
from mprnet.errors import UserError
from mprnet.files import write_whole

NOISY_BLOCKS, TARGET_BLOCKS = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"
_MANIFEST = "patches.json"


@dataclass(frozen=True)
class Cutting:
    """How photographs are cut: ``count`` patches of ``size`` x ``size`` each, at places drawn from ``seed``."""

    size: int
    count: int
    seed: int


def find_photographs(source: Path) -> tuple[list[Pair], list[str]]:
    """The pairs SCENE/*NOISY*.PNG and SCENE/*GT*.PNG below ``source``, and sentences about what has no partner.

    A pair goes by its folder's name, which tells the scene, and its number: 0001_001_S6_00100_00060_3200_L_010.

    Raises:
        UserError: no such folder, no pair in it, or two pairs of one name.
    """
    if not source.is_dir():
        raise UserError(f"there is no folder {source}: SIDD's photographs are expected as {source}/SCENE/*NOISY*.PNG.")
    found = [p for p in sorted(source.rglob("*")) if p.suffix.lower() == ".png" and not p.name.startswith(".")]
    noisy = {p: p.with_name(p.name.replace("NOISY", "GT")) for p in found if "NOISY" in p.name}
    targets = {p for p in found if "GT" in p.name}
    pairs: dict[str, Pair] = {}
    for path, target in noisy.items():
        if target not in targets:
            continue
        numbers = re.findall(r"\d+", path.stem)
        name = "_".join([path.parent.name, *numbers[-1:]])
        if name in pairs:
            raise UserError(f"{pairs[name].input} and {path} would both be called {name}: rename one of them.")
        pairs[name] = Pair(name, path, target)
    if not pairs:
        raise UserError(f"{source} holds no pair SCENE/*NOISY*.PNG and SCENE/*GT*.PNG.")
    lonely = [p for p, target in noisy.items() if target not in targets]
    lonely += sorted(targets - set(noisy.values()))
    return list(pairs.values()), [f"{path}: has no partner." for path in lonely]


def begin_folder(folder: Path, cutting: Cutting) -> None:
    """Make ``folder`` ready for patches, new or half done; nothing in it is ever removed.

    Raises:
        UserError: it holds something else, patches cut otherwise among it, or cannot be written.
    """
    manifest = folder / _MANIFEST
    described = json.dumps(vars(cutting)).encode()
    if manifest.exists():
        if manifest.read_bytes() != described:
            raise UserError(
                f"{folder} holds patches that were cut otherwise ({manifest.read_text()}): choose another --tar_dir, "
                "or remove it yourself."
            )
    elif any((folder / side).is_dir() and any((folder / side).iterdir()) for side in ("input", "target")):
        raise UserError(f"{folder} holds pictures already: choose another --tar_dir, or remove them yourself.")
    else:
        write_whole(manifest, described)


def cut_photographs(pairs: list[Pair], folder: Path, cutting: Cutting, workers: int) -> list[str]:
    """Write the patches of all pairs into ``folder``/input and /target; those that are there already are left alone.

    Returns:
        A sentence for each pair that was left out.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        cuts = pool.map(partial(_cut_or_say, folder=folder, cutting=cutting), pairs)
        return [s for s in tqdm(cuts, "photographs", total=len(pairs), unit="pair", leave=False) if s]


def read_blocks(path: Path, key: str) -> np.ndarray:
    """The blocks of a MATLAB file: (40, 32, 256, 256, 3) uint8 for SIDD's.

    Raises:
        UserError: no such file, not MATLAB's, or it holds no blocks of RGB under ``key``.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    try:
        content = scipy.io.loadmat(path, variable_names=[key])
    except Exception as error:  # what a damaged file raises knows no bounds
        raise UserError(f"{path} is no whole MATLAB file; download it again.") from error
    blocks = content.get(key)
    if blocks is None:
        raise UserError(f"{path} does not hold {key}.")
    if blocks.ndim != 5 or blocks.shape[-1] != 3 or blocks.dtype != np.uint8:
        raise UserError(f"{path} holds {key} of shape {blocks.shape}, {blocks.dtype}, not (N, M, H, W, 3), uint8.")
    return blocks


def write_validation(source: Path, folder: Path) -> int:
    """Write the validation blocks in ``source``'s two files as ``folder``/input and /target; the number of pairs.

    What is there already is left alone.

    Raises:
        UserError: as ``read_blocks``, or the files differ in shape, or it cannot be written.
    """
    noisy = read_blocks(source / f"{NOISY_BLOCKS}.mat", NOISY_BLOCKS)
    target = read_blocks(source / f"{TARGET_BLOCKS}.mat", TARGET_BLOCKS)
    if noisy.shape != target.shape:
        raise UserError(f"{source} holds {noisy.shape} noisy blocks and {target.shape} targets.")
    images, blocks = noisy.shape[:2]
    for number in tqdm(range(images * blocks), "validation", unit="block", leave=False):
        image, block = divmod(number, blocks)
        for side, stack in (("input", noisy), ("target", target)):
            _write_once(folder / side / f"{image:02d}_{block:02d}.png", stack[image, block])
    return images * blocks


def _cut_or_say(pair: Pair, folder: Path, cutting: Cutting) -> str:
    try:
        _cut(pair, folder, cutting)
    except UserError as error:
        return str(error)
    return ""


def _cut(pair: Pair, folder: Path, cutting: Cutting) -> None:
    sides = [folder / "input", folder / "target"]
    digits = len(str(cutting.count - 1))
    names = [f"{pair.name}_{k:0{digits}d}.png" for k in range(cutting.count)]
    if all((side / name).exists() for side in sides for name in names):
        return
    images = read_pair(pair)
    height, width = images[0].shape[:2]
    if min(height, width) < cutting.size:
        raise UserError(f"{pair.input} is {width}x{height}, smaller than the patches.")
    rng = np.random.default_rng([cutting.seed, zlib.crc32(pair.name.encode())])
    places = rng.integers(0, [height - cutting.size + 1, width - cutting.size + 1], (cutting.count, 2))
    for name, (top, left) in zip(names, places.tolist(), strict=True):
        for side, image in zip(sides, images, strict=True):
            _write_once(side / name, image[top : top + cutting.size, left : left + cutting.size])


def _write_once(path: Path, image: np.ndarray) -> None:
    if not path.exists():
        write_png(path, image)
