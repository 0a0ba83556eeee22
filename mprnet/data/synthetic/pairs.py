"""Training pairs of generated pictures: a degraded crop and its clean original."""

import contextlib
import io
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from mprnet.data.augment import random_crop, symmetry
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.degradations import Degradation
from mprnet.data.tensors import to_tensor
from mprnet.errors import UserError
from mprnet.files import make_folder, write_atomically

# Goes into the file names of banks: raise it when dead_leaves comes to draw other pictures.
GENERATOR_VERSION = 2


def picture_bank(folder: Path, seed: int, count: int, size: int, workers: int) -> np.ndarray:
    """Pictures 0 to ``count`` - 1 of ``seed``'s series, kept in ``folder`` so that they are drawn once.

    Args:
        workers: processes that draw; 0: this waits until another process has drawn them.

    Returns:
        (count, size, size, 3) uint8, a read-only view of the file: pages are loaded as they are touched.

    Raises:
        UserError: they cannot be kept.
    """
    path = folder / f"dead_leaves_v{GENERATOR_VERSION}_seed{seed}_{count}x{size}.npy"
    shape = (count, size, size, 3)
    while (bank := _kept(path, shape)) is None:
        if workers:
            make_folder(folder)
            _draw(path, partial(dead_leaves, seed, size=size), shape, workers)
            return np.load(path, mmap_mode="r")
        time.sleep(0.2)
    return bank


def _kept(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    # A damaged bank counts for none, and is drawn again.
    with contextlib.suppress(FileNotFoundError, ValueError, EOFError):
        bank = np.load(path, mmap_mode="r")
        if bank.shape == shape:
            return bank
    return None


def _draw(path: Path, draw: Callable[[int], np.ndarray], shape: tuple[int, ...], workers: int) -> None:
    bank = np.empty(shape, np.uint8)
    # Windows waits for 61 processes at most.
    with ProcessPoolExecutor(min(61, workers), initializer=_leave_interrupts_to_the_parent) as pool:
        pictures = pool.map(draw, range(len(bank)), chunksize=4)
        for index, picture in enumerate(tqdm(pictures, "drawing pictures", len(bank), unit="picture")):
            bank[index] = picture
    file = io.BytesIO()
    np.save(file, bank)
    write_atomically(path, file.getvalue())


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class SyntheticPairs(Dataset[tuple[Tensor, Tensor]]):
    """Crops of generated pictures and what a degradation makes of them; of several, each sample draws one.

    An item is addressed by (epoch, index): which picture, crop, symmetry and degradation it shows is a function of
    (seed, epoch, index) alone, whichever process computes it, so that any run can be repeated and gone on with.

    Args:
        pictures: (count, size, size, 3) uint8, as ``picture_bank`` gives them.
        length: items per epoch.
        patch: height and width of the crops, at most the pictures'.
    """

    addressed_by_epoch = True

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
        """What goes to processes that are started anew: of a bank its file, not a copy."""
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

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Degraded crop and target, each (3, patch, patch) float32 in [0, 1]."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        picture = self.pictures[rng.integers(len(self.pictures))]
        degradation = self.degradations[int(rng.integers(len(self.degradations)))]
        # With as much of the surroundings as the picture has.
        side = min(self.patch + 2 * degradation.margin, picture.shape[0])
        rows, columns = random_crop(rng, picture.shape[0], picture.shape[1], side)
        clean = symmetry(picture[rows, columns], int(rng.integers(8)))
        first = (side - self.patch) // 2
        middle = slice(first, first + self.patch)
        degraded, target = degradation.apply(rng, np.ascontiguousarray(clean))
        return to_tensor(degraded[middle, middle]), to_tensor(target[middle, middle])
