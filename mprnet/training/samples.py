"""Data sets as the training loop needs them: any data set of (degraded, target) items will do."""

import contextlib
import hashlib
import random
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mprnet.errors import UserError
from mprnet.model.network import SIZE_MULTIPLE

# Values above this are grey levels from 0 to 255, not in [0, 1] with some noise.
_LARGEST_VALUE = 10.0
_HEAD = 2**12  # bytes of a file that tell it from others of its size


class TrainingSamples(Dataset[tuple[Tensor, Tensor]]):
    """Items of a data set, addressed by (epoch, index): degraded and target, (3, H, W) float32.

    A data set whose attribute ``addressed_by_epoch`` is true is asked for (epoch, index). Any other is asked for the
    index, with the random generators of Python, NumPy and PyTorch seeded from (seed, epoch, index). So what an item
    looks like does not depend on which process makes it, nor on whether the run was resumed.

    Args:
        data: with ``__len__`` and ``__getitem__``. Items are tuples that begin with degraded and target.

    Attributes:
        names: one for each item, from the data set's ``pairs`` if it has them.

    Raises:
        UserError: ``data`` is no such data set, or empty.
    """

    def __init__(self, data: Any, seed: int) -> None:
        self.data = checked_data_set(data, "get_training_data")
        self.seed = seed
        pairs = getattr(data, "pairs", None)
        self.names = [f"sample {i}" for i in range(len(data))] if pairs is None else [pair.name for pair in pairs]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Degraded and target of (epoch, index).

        Raises:
            UserError: the item is not what can be trained on.
        """
        epoch, index = key
        if getattr(self.data, "addressed_by_epoch", False):
            item = self.data[epoch, index]
        else:
            with _seeded([self.seed, epoch, index]):
                item = self.data[index]
        degraded, target = checked_item(item, f"item {index} of the training data")[:2]
        if any(side % SIZE_MULTIPLE for side in target.shape[1:]):
            height, width = target.shape[1:]
            raise UserError(
                f"item {index} of the training data is {width}x{height}: crop it to multiples of {SIZE_MULTIPLE}."
            )
        return degraded, target


class ValidationPairs(Sequence[tuple[Tensor, Tensor, str]]):
    """Items of a data set, in order: degraded and target, (3, H, W) float32, and a name.

    Args:
        data: as for ``TrainingSamples``. An item's third element is its name, if it is text.

    Raises:
        UserError: ``data`` is no such data set, or empty.
    """

    def __init__(self, data: Any) -> None:
        self.data = checked_data_set(data, "get_validation_data")

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # Sequence's slices are not needed
        """Degraded, target and name.

        Raises:
            UserError: the item cannot be read, or is not what can be validated on.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        with _seeded([0, 0, index]):  # a data set that draws at random shows the same pictures in every validation
            item = self.data[index]
        degraded, target, *rest = checked_item(item, f"item {index} of the validation data")
        if not (torch.isfinite(degraded).all() and torch.isfinite(target).all()):
            raise UserError(f"item {index} of the validation data holds values that are no numbers.")
        return degraded, target, rest[0] if rest and isinstance(rest[0], str) else str(index)

    def fingerprint(self) -> str:
        """Return a text that is another one for other pictures, wherever they are stored.

        Of pairs of files: their names, sizes and first bytes. Of other data: the number of items and the first one.
        """
        digest = hashlib.blake2b(str(len(self)).encode(), digest_size=16)
        pairs = getattr(self.data, "pairs", None)
        if pairs is None:
            degraded, target, name = self[0]
            for part in (name.encode(), degraded.numpy().tobytes(), target.numpy().tobytes()):
                digest.update(part)
        else:
            for pair in pairs:
                for part in (pair.name.encode(errors="surrogateescape"), _head(pair.input), _head(pair.target)):
                    digest.update(part)
        return digest.hexdigest()


def checked_data_set(data: Any, source: str) -> Any:
    """Return ``data`` if it has a length and items.

    Args:
        source: the function of data_RGB.py that made it.

    Raises:
        UserError: it has not, or no items.
    """
    if not isinstance(data, Sized) or not hasattr(data, "__getitem__"):
        raise UserError(
            f"{source} of data_RGB.py returns a {type(data).__name__}: it has to return a torch.utils.data.Dataset "
            "with __len__ and __getitem__."
        )
    if not len(data):
        raise UserError(f"{source} of data_RGB.py returns a data set without items.")
    return data


def checked_item(item: Any, what: str) -> tuple[Any, ...]:
    """Return ``item`` as a tuple if it begins with two images of one size, (3, H, W) floats in [0, 1].

    Raises:
        UserError: it does not; the sentence begins with ``what``.
    """
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise UserError(f"{what} is a {type(item).__name__}: it has to be a tuple (degraded, target).")
    for side, image in zip(("degraded", "target"), item, strict=False):
        if not isinstance(image, Tensor):
            raise UserError(f"{what}: {side} is a {type(image).__name__}, but a tensor (3, H, W) is needed.")
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise UserError(f"{what}: {side} has the shape {tuple(image.shape)}, but (3, H, W) is needed.")
        if not image.is_floating_point() or image.max() > _LARGEST_VALUE:
            found = f"{image.dtype} up to {image.max():g}"
            raise UserError(f"{what}: {side} holds {found}, but floats in [0, 1] are needed.")
    degraded, target = item[:2]
    if degraded.shape != target.shape:
        sizes = " and ".join(f"{image.shape[2]}x{image.shape[1]}" for image in (degraded, target))
        raise UserError(f"{what}: degraded and target are of different sizes, {sizes}.")
    return (degraded.float(), target.float(), *item[2:])


@contextlib.contextmanager
def _seeded(seed: Sequence[int]) -> Iterator[None]:
    """Seed the global random generators in here; they go on afterwards as if nothing had been drawn."""
    state, legacy = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(seed).generate_state(3)
    with torch.random.fork_rng(devices=[]):
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.manual_seed(int(words[2]))
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(legacy)


def _head(path: Path) -> bytes:
    """The file's size and first bytes, or nothing if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return str(path.stat().st_size).encode() + file.read(_HEAD)
    except OSError:
        return b""
