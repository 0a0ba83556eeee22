"""A training data set of generated pictures, which are drawn once and kept in a file."""

import contextlib
import io
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from mprnet.data.augment import random_crop, symmetry
from mprnet.data.crops import Crops
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.degradations import Degradation
from mprnet.data.tensors import to_planes
from mprnet.errors import UserError
from mprnet.files import make_folder, write_atomically

# Part of the file names of picture banks. Increase it when dead_leaves changes and draws different pictures.
GENERATOR_VERSION = 3


def load_picture_bank(folder: Path, seed: int, count: int, size: int, workers: int) -> np.ndarray:
    """Return pictures 0 to ``count`` - 1 of the series ``seed`` from a file in ``folder``; draw them if it is missing.

    Args:
        size: height and width of the pictures.
        workers: how many processes draw. 0: wait until another process has drawn the pictures.

    Returns:
        (count, size, size, 3) uint8, a read-only memory map of the file.

    Raises:
        UserError: the file cannot be written.
    """
    path = folder / f"dead_leaves_v{GENERATOR_VERSION}_seed{seed}_{count}x{size}.npy"
    shape = (count, size, size, 3)
    while (bank := _open_bank(path, shape)) is None:
        if workers:
            make_folder(folder)
            _draw_bank(path, partial(dead_leaves, seed, size=size), shape, workers)
            return np.load(path, mmap_mode="r")
        time.sleep(0.2)
    return bank


def _open_bank(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the pictures in the file; None if it does not exist or is damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError, EOFError):
        bank = np.load(path, mmap_mode="r")
        if bank.shape == shape:
            return bank
    return None


def _draw_bank(path: Path, draw: Callable[[int], np.ndarray], shape: tuple[int, ...], workers: int) -> None:
    # A log file gets no progress bar, and this takes minutes.
    print(f"drawing {shape[0]:,} pictures, once, into {path}", file=sys.stderr, flush=True)
    bank = np.empty(shape, np.uint8)
    # Windows can wait for at most 61 processes.
    with ProcessPoolExecutor(min(61, workers), initializer=_ignore_interrupts) as pool:
        pictures = pool.map(draw, range(len(bank)), chunksize=4)
        for index, picture in enumerate(tqdm(pictures, "drawing pictures", len(bank), unit="picture", disable=None)):
            bank[index] = picture
    file = io.BytesIO()
    np.save(file, bank)
    write_atomically(path, file.getvalue())


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes: the parent process handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class SyntheticPairs(Crops):
    """Random crops of generated pictures with a random degradation, for training.

    The key of an item is (epoch, index). Its picture, crop, symmetry and degradation depend only on seed, epoch and
    index. So every process computes the same item, and a run can be repeated or resumed.

    Args:
        pictures: (count, size, size, 3) uint8, as ``load_picture_bank`` returns them.
        degradations: each item draws one of them.
        length: items per epoch.
        patch: height and width of the crops, at most ``size``.
    """

    def __init__(
        self, pictures: np.ndarray, degradations: Sequence[Degradation], length: int, patch: int, seed: int
    ) -> None:
        if patch > pictures.shape[1]:
            raise UserError(f"a patch of {patch} does not fit into pictures of {pictures.shape[1]} pixels.")
        self.pictures = pictures
        self.degradations = degradations
        self.length = length
        self.patch = patch
        self.seed = seed

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled for another process: for a memory-mapped bank, its file name instead of its pixels."""
        if isinstance(self.pictures.base, mmap):
            return {**self.__dict__, "pictures": self.pictures.filename}
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        pictures = state["pictures"]
        if not isinstance(pictures, np.ndarray):
            pictures = np.load(pictures, mmap_mode="r")
        self.__dict__.update(state, pictures=pictures)

    def __len__(self) -> int:
        return self.length

    @property
    def is_uint8(self) -> bool:
        """True if all samples are uint8."""
        return True

    def read_sample(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the degraded crop and its target, each (3, patch, patch) uint8."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        picture = self.pictures[rng.integers(len(self.pictures))]
        degradation = self.degradations[int(rng.integers(len(self.degradations)))]
        # The crop with the margin that the degradation needs, as far as the picture has it.
        side = min(self.patch + 2 * degradation.margin, picture.shape[0])
        rows, columns = random_crop(rng, picture.shape[0], picture.shape[1], side)
        clean = symmetry(picture[rows, columns], int(rng.integers(8)))
        start = (side - self.patch) // 2
        middle = slice(start, start + self.patch)
        degraded, target = degradation.apply(rng, np.ascontiguousarray(clean))
        return to_planes(degraded[middle, middle]), to_planes(target[middle, middle])
