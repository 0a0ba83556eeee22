"""Adapters from any data set with (degraded, target) items to what the training loop needs."""

import contextlib
import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mprnet.data.crops import Crops
from mprnet.data.paired import WholePairs
from mprnet.data.pairs import Pair
from mprnet.data.tensors import as_float
from mprnet.errors import UserError
from mprnet.model.network import SIZE_MULTIPLE
from mprnet.training.items import check_data_set, check_item, format_size, read_item

_EXCERPT_BYTES = 2**12  # how much ``fingerprint`` reads at three places of a file


class TrainingSamples(Dataset[tuple[Tensor, Tensor]]):
    """Items of a data set: degraded and target, (3, H, W), float32 or uint8. The key of an item is (epoch, index).

    uint8 means 0 to 255, as ``as_float`` converts it. Items travel between processes as they are here, and become
    floats on the device.

    If the data set's attribute ``addressed_by_epoch`` is true, it gets the key (epoch, index). Any other data set gets
    the index only, and the random generators of Python, NumPy and PyTorch are seeded with (seed, epoch, index) first.
    So an item is the same in every process, and in a resumed run.

    Args:
        data: has ``__len__`` and ``__getitem__``. Items are tuples that begin with degraded and target.

    Attributes:
        names: a name for each item, from the data set's ``pairs`` if it has them.

    Raises:
        UserError: ``data`` is not such a data set, or it is empty.
    """

    def __init__(self, data: Any, seed: int) -> None:
        self.data = check_data_set(data, "get_training_data")
        self.seed = seed
        pairs = find_pairs(data) or ()
        # A data set may make several items of one pair. Then the pairs' names are not the items' names.
        has_pair_names = len(pairs) == len(data)
        self.names = [pair.name for pair in pairs] if has_pair_names else [f"sample {i}" for i in range(len(data))]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return degraded and target of (epoch, index).

        Raises:
            UserError: the item cannot be read, or cannot be trained on.
        """
        epoch, index = key
        label = f"item {index} of the training data"
        if getattr(self.data, "addressed_by_epoch", False):
            item = self.data.read_sample(key) if self._has_samples else self.data[key]
        else:
            with _seed_generators([self.seed, epoch, index]):
                item = read_item(self.data.__getitem__, index, label)
        degraded, target = check_item(item, label)[:2]
        if any(side % SIZE_MULTIPLE for side in target.shape[1:]):
            raise UserError(f"{label} is {format_size(target)}: crop it to multiples of {SIZE_MULTIPLE}.")
        return (degraded, target) if self._has_samples else _copy(degraded, target)

    @property
    def _has_samples(self) -> bool:
        """True if the data set's items are made of its samples. A subclass of Crops may make other items."""
        return type(self.data).__getitem__ is Crops.__getitem__

    def count_bytes(self, patch: int) -> int:
        """Return the size of a sample in bytes, if its crops are (3, patch, patch)."""
        return 2 * 3 * patch**2 * (1 if self._has_samples and self.data.is_uint8 else 4)


class ValidationPairs(Sequence[tuple[Tensor, Tensor, str]]):
    """Items of a data set, in order: degraded and target, (3, H, W), both float32 or both uint8, and a name.

    Args:
        data: as for ``TrainingSamples``. If an item's third element is a string, it is the item's name.

    Raises:
        UserError: ``data`` is not such a data set, or it is empty.
    """

    def __init__(self, data: Any) -> None:
        self.data = check_data_set(data, "get_validation_data")

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # Sequence's slices are not needed
        """Return degraded, target and name.

        Raises:
            UserError: the item cannot be read, or cannot be validated on.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        label = f"item {index} of the validation data"
        # A subclass with a __getitem__ of its own makes other items.
        has_bytes = type(self.data).__getitem__ is WholePairs.__getitem__
        read = self.data.read_sample if has_bytes else self.data.__getitem__
        # A data set with random crops must return the same crops in every validation.
        with _seed_generators([0, 0, index]):
            item = read_item(read, index, label)
        degraded, target, *others = check_item(item, label)
        if not (torch.isfinite(degraded).all() and torch.isfinite(target).all()):
            raise UserError(f"{label} holds values that are not finite.")
        name = others[0] if others and isinstance(others[0], str) else str(index)
        if not has_bytes:
            degraded, target = _copy(degraded, target)
        return degraded, target, re.sub(r"[/\\:]", "_", name)  # the name becomes a file name

    def count_bytes(self) -> int:
        """Return the size of the first pair in bytes, as workers send it; 0 if it cannot be read."""
        with contextlib.suppress(UserError):
            degraded, target, _ = self[0]
            return degraded.nbytes + target.nbytes
        return 0

    def fingerprint(self) -> str:
        """Return a digest that differs for different pictures. It does not depend on where the pictures are stored.

        For pairs of files, it is made from their names, sizes, and first, middle and last bytes. For other data, it is
        made from the number of items, and the first, middle and last item.
        """
        digest = hashlib.blake2b(str(len(self)).encode(), digest_size=16)
        parts: list[bytes] = []
        for pair in find_pairs(self.data) or ():
            parts += [
                pair.name.encode(errors="surrogateescape"),
                _read_excerpts(pair.input),
                _read_excerpts(pair.target),
            ]
        for index in () if parts else sorted({0, len(self) // 2, len(self) - 1}):
            with contextlib.suppress(UserError):  # the validation may skip items that cannot be read
                degraded, target, name = self[index]
                parts += [name.encode(), *(as_float(image).numpy().tobytes() for image in (degraded, target))]
        for part in parts:
            digest.update(part)
        return digest.hexdigest()


def _copy(degraded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return copies. A data set may return the same tensors again and again, with other values each time."""
    return degraded.clone(), target.clone()


def find_pairs(data: Any) -> Sequence[Pair] | None:
    """Return the pairs of files that a data set reads (its attribute ``pairs``); None if it does not have them."""
    pairs = getattr(data, "pairs", None)
    is_valid = isinstance(pairs, Sequence) and all(isinstance(pair, Pair) for pair in pairs)
    return pairs if is_valid else None


@contextlib.contextmanager
def _seed_generators(seed: Sequence[int]) -> Iterator[None]:
    """Seed the global random generators for this context's body. Afterwards, restore their states."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(seed).generate_state(3)
    with torch.random.fork_rng(devices=[]):
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.manual_seed(int(words[2]))
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _read_excerpts(path: Path) -> bytes:
    """Return the file's size and its first, middle and last bytes; nothing if it cannot be read."""
    try:
        size = path.stat().st_size
        excerpts = [str(size).encode()]
        with open(path, "rb") as file:
            for position in (0, size // 2, max(0, size - _EXCERPT_BYTES)):
                file.seek(position)
                excerpts.append(file.read(_EXCERPT_BYTES))
        return b"".join(excerpts)
    except OSError:
        return b""
