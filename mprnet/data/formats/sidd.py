"""The files of SIDD (Abdelhamed et al., CVPR 2018): photographs for training, and MATLAB files of validation blocks."""

import json
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import scipy  # it imports scipy.io on first use: that takes 0.3 s
from tqdm import tqdm

from mprnet.data.pairs import Pair
from mprnet.data.png import write_png
from mprnet.data.reading import read_pair
from mprnet.errors import UserError
from mprnet.files import write_atomically

NOISY_BLOCKS, TARGET_BLOCKS = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"
_MANIFEST = "patches.json"


@dataclass(frozen=True)
class Cutting:
    """How photographs are cut into patches.

    Attributes:
        size: height and width of the patches in pixels.
        count: patches per photograph.
        seed: of the random positions.
    """

    size: int
    count: int
    seed: int


def find_photographs(source: Path) -> tuple[list[Pair], list[str]]:
    """Return the pairs SCENE/*NOISY*.PNG and SCENE/*GT*.PNG in ``source``, and a sentence for each other file.

    The name of a pair is the name of its folder (the scene) and its number: 0001_001_S6_00100_00060_3200_L_010.

    Raises:
        UserError: the folder does not exist or holds no pair, or two pairs have the same name.
    """
    if not source.is_dir():
        raise UserError(f"there is no folder {source}: SIDD's photographs are expected as {source}/SCENE/*NOISY*.PNG.")
    paths = [p for p in sorted(source.rglob("*")) if p.suffix.lower() == ".png" and not p.name.startswith(".")]
    noisy = {p: p.with_name(p.name.replace("NOISY", "GT")) for p in paths if "NOISY" in p.name}
    targets = {p for p in paths if "GT" in p.name}
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
    orphans = [p for p, target in noisy.items() if target not in targets]
    orphans += sorted(targets - set(noisy.values()))
    return list(pairs.values()), [f"{path}: has no partner." for path in orphans]


def begin_folder(folder: Path, cutting: Cutting) -> None:
    """Prepare ``folder`` for patches, or to continue. Nothing in it is removed.

    The file patches.json in the folder says how its patches are cut.

    Raises:
        UserError: the folder holds other pictures, or patches of another ``cutting``, or it cannot be written.
    """
    manifest = folder / _MANIFEST
    content = json.dumps(vars(cutting)).encode()
    if manifest.exists():
        if manifest.read_bytes() != content:
            raise UserError(
                f"{folder} holds patches that were cut otherwise ({manifest.read_text()}): choose another --tar_dir, "
                "or remove it yourself."
            )
    elif any((folder / side).is_dir() and any((folder / side).iterdir()) for side in ("input", "target")):
        raise UserError(f"{folder} holds pictures already: choose another --tar_dir, or remove them yourself.")
    else:
        write_atomically(manifest, content)


def cut_photographs(pairs: list[Pair], folder: Path, cutting: Cutting, workers: int) -> list[str]:
    """Write the patches of all pairs to ``folder``/input and ``folder``/target. Existing files are not written again.

    Args:
        workers: how many threads read and write.

    Returns:
        A sentence for each pair that was left out: why.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        problems = pool.map(partial(_try_to_cut, folder=folder, cutting=cutting), pairs)
        return [p for p in tqdm(problems, "photographs", total=len(pairs), unit="pair", leave=False) if p]


def read_blocks(path: Path, key: str) -> np.ndarray:
    """Return the blocks in a MATLAB file, (N, M, H, W, 3) uint8; SIDD's are (40, 32, 256, 256, 3).

    Args:
        key: the name of the array in the file.

    Raises:
        UserError: the file does not exist, is not a MATLAB file, or does not hold such an array.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    try:
        content = scipy.io.loadmat(path, variable_names=[key])
    except Exception as error:  # with a damaged file, SciPy can raise any exception
        raise UserError(f"{path} is not a complete MATLAB file; download it again.") from error
    blocks = content.get(key)
    if blocks is None:
        raise UserError(f"{path} does not hold {key}.")
    if blocks.ndim != 5 or blocks.shape[-1] != 3 or blocks.dtype != np.uint8:
        raise UserError(f"{path} holds {key} of shape {blocks.shape}, {blocks.dtype}, not (N, M, H, W, 3), uint8.")
    return blocks


def validation_files(folder: Path) -> list[Path]:
    """Return the paths of the two files of validation blocks in ``folder``: noisy, target."""
    return [folder / f"{key}.mat" for key in (NOISY_BLOCKS, TARGET_BLOCKS)]


def read_validation(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the noisy blocks and the target blocks in ``folder``, of one shape, see ``read_blocks``.

    Raises:
        UserError: as ``read_blocks``, or their shapes differ.
    """
    noisy, target = (read_blocks(path, path.stem) for path in validation_files(folder))
    if noisy.shape != target.shape:
        raise UserError(f"{folder} holds noisy blocks {noisy.shape} and target blocks {target.shape}.")
    return noisy, target


def block_names(images: int, blocks: int) -> list[str]:
    """Return the names of the blocks: number of the image, number of the block."""
    return [f"{image:02d}_{block:02d}" for image in range(images) for block in range(blocks)]


def write_validation(source: Path, folder: Path) -> int:
    """Write the validation blocks in ``source`` as pictures to ``folder``/input and ``folder``/target.

    Existing files are not written again.

    Returns:
        The number of pairs.

    Raises:
        UserError: as ``read_validation``, or a file cannot be written.
    """
    noisy, target = read_validation(source)
    images, blocks = noisy.shape[:2]
    names = block_names(images, blocks)
    for number, name in enumerate(tqdm(names, "validation", unit="block", leave=False)):
        for side, stack in (("input", noisy), ("target", target)):
            _write_if_missing(folder / side / f"{name}.png", stack[divmod(number, blocks)])
    return len(names)


def _try_to_cut(pair: Pair, folder: Path, cutting: Cutting) -> str:
    try:
        _cut(pair, folder, cutting)
    except UserError as error:
        return str(error)
    return ""


def _cut(pair: Pair, folder: Path, cutting: Cutting) -> None:
    """Write the patches of one pair.

    Raises:
        UserError: the pair cannot be read, is smaller than a patch, or a file cannot be written.
    """
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
    corners = rng.integers(0, [height - cutting.size + 1, width - cutting.size + 1], (cutting.count, 2))
    for name, (top, left) in zip(names, corners.tolist(), strict=True):
        for side, image in zip(sides, images, strict=True):
            _write_if_missing(side / name, image[top : top + cutting.size, left : left + cutting.size])


def _write_if_missing(path: Path, image: np.ndarray) -> None:
    if not path.exists():
        write_png(path, image)
