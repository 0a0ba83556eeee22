"""Data sets as the training loop needs them: any data set of (degraded, target) items will do."""

import contextlib
import hashlib
import random
import re
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mprnet.data.pairs import Pair
from mprnet.errors import UserError
from mprnet.model.network import SIZE_MULTIPLE

# How far outside of [0, 1] degraded images and targets may lie.
_NOISE, _ROUNDING = 9.0, 0.01
_EXCERPT = 2**12  # bytes of a file that tell it from others of its size


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
        pairs = file_pairs(data) or ()
        are_items = len(pairs) == len(data)  # and not, say, pictures that several items are cut from
        self.names = [pair.name for pair in pairs] if are_items else [f"sample {i}" for i in range(len(data))]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Degraded and target of (epoch, index).

        Raises:
            UserError: the item is not what can be trained on.
        """
        epoch, index = key
        what = f"item {index} of the training data"
        if getattr(self.data, "addressed_by_epoch", False):
            item = self.data[epoch, index]
        else:
            with _seeded([self.seed, epoch, index]):
                item = read_item(self.data, index, what)
        degraded, target = checked_item(item, what)[:2]
        if any(side % SIZE_MULTIPLE for side in target.shape[1:]):
            height, width = target.shape[1:]
            raise UserError(f"{what} is {width}x{height}: crop it to multiples of {SIZE_MULTIPLE}.")
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
        what = f"item {index} of the validation data"
        with _seeded([0, 0, index]):  # a data set that draws at random shows the same pictures in every validation
            item = read_item(self.data, index, what)
        degraded, target, *rest = checked_item(item, what)
        if not (torch.isfinite(degraded).all() and torch.isfinite(target).all()):
            raise UserError(f"{what} holds values that are no numbers.")
        name = rest[0] if rest and isinstance(rest[0], str) else str(index)
        return degraded, target, re.sub(r"[/\\:]", "_", name)  # results are saved under it

    def fingerprint(self) -> str:
        """Return a text that is another one for other pictures, wherever they are stored.

        Of pairs of files: their names, sizes, first, middle and last bytes. Of other data: the number of items and the
        first, middle and last one.
        """
        digest = hashlib.blake2b(str(len(self)).encode(), digest_size=16)
        parts: list[bytes] = []
        for pair in file_pairs(self.data) or ():
            parts += [pair.name.encode(errors="surrogateescape"), _excerpts(pair.input), _excerpts(pair.target)]
        for index in () if parts else sorted({0, len(self) // 2, len(self) - 1}):
            with contextlib.suppress(UserError):  # one that cannot be read may be left out of the validation, too
                degraded, target, name = self[index]
                parts += [name.encode(), degraded.numpy().tobytes(), target.numpy().tobytes()]
        for part in parts:
            digest.update(part)
        return digest.hexdigest()


def checked_data_set(data: Any, source: str) -> Any:
    """Return ``data`` if it has a length and items.

    Args:
        source: the function of data_RGB.py that made it.

    Raises:
        UserError: it has not, or no items.
    """
    is_indexed = hasattr(data, "__getitem__") and type(data).__getitem__ is not Dataset.__getitem__
    if not isinstance(data, Sized) or not is_indexed:
        raise UserError(
            f"{source} of data_RGB.py returns an object of type {type(data).__name__}: it has to return a "
            "torch.utils.data.Dataset with __len__ and __getitem__."
        )
    if not len(data):
        raise UserError(f"{source} of data_RGB.py returns a data set without items.")
    return data


def file_pairs(data: Any) -> Sequence[Pair] | None:
    """Return the pairs of files that a data set reads; None if it does not say, by an attribute ``pairs``."""
    pairs = getattr(data, "pairs", None)
    is_known = isinstance(pairs, Sequence) and all(isinstance(pair, Pair) for pair in pairs)
    return pairs if is_known else None


def read_item(data: Any, index: int, what: str) -> Any:
    """Return ``data[index]``.

    Raises:
        UserError: it cannot be read; the sentence begins with ``what``.
    """
    try:
        return data[index]
    except (OSError, StopIteration) as error:  # the loader would take a StopIteration for the end of the data
        said = " ".join(str(error).split())
        raise UserError(f"{what} cannot be read ({type(error).__name__}{': ' if said else ''}{said}).") from error


def checked_item(item: Any, what: str) -> tuple[Any, ...]:
    """Return ``item`` as a tuple if it begins with two images of one size, (3, H, W) floats in [0, 1].

    Raises:
        UserError: it does not; the sentence begins with ``what``.
    """
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise UserError(f"{what} is of type {type(item).__name__}: it has to be a tuple (degraded, target).")
    for side, image in zip(("degraded", "target"), item, strict=False):
        if not isinstance(image, Tensor):
            raise UserError(f"{what}: {side} is of type {type(image).__name__}, but a tensor (3, H, W) is needed.")
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise UserError(f"{what}: {side} has the shape {tuple(image.shape)}, but (3, H, W) is needed.")
        low, high = image.aminmax()
        # Degraded images may lie outside by their noise; targets are pictures. Comparisons with NaN are false.
        slack = _NOISE if side == "degraded" else _ROUNDING
        if not image.is_floating_point() or low < -slack or high > 1 + slack:
            found = f"{image.dtype} from {low:g} to {high:g}"
            raise UserError(f"{what}: {side} holds {found}, but floats in [0, 1] are needed.")
    degraded, target = item[:2]
    if degraded.shape != target.shape:
        sizes = " and ".join(f"{image.shape[2]}x{image.shape[1]}" for image in (degraded, target))
        raise UserError(f"{what}: degraded and target are of different sizes, {sizes}.")
    return (degraded.detach().float(), target.detach().float(), *item[2:])


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


def _excerpts(path: Path) -> bytes:
    """The file's size, first, middle and last bytes, or nothing if it cannot be read."""
    try:
        size = path.stat().st_size
        found = [str(size).encode()]
        with open(path, "rb") as file:
            for place in (0, size // 2, max(0, size - _EXCERPT)):
                file.seek(place)
                found.append(file.read(_EXCERPT))
        return b"".join(found)
    except OSError:
        return b""
