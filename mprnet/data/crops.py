"""The base of data sets that crop pictures."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mprnet.data.tensors import as_float


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of crops for training: items are floats, and samples are what they are made of, mostly uint8.

    The key of both is (epoch, index). The key of an item may also be an index alone, which PyTorch's ConcatDataset and
    others pass. The epoch is then drawn from PyTorch's random generator.
    """

    addressed_by_epoch = True

    @property
    def is_uint8(self) -> bool:
        """True if all samples are uint8."""
        return False

    def __getitem__(self, key: tuple[int, int] | int) -> tuple[Tensor, Tensor]:
        """Return the degraded and the target crop, each (3, patch, patch) float32 in [0, 1]."""
        degraded, target = self.read_sample(key if isinstance(key, tuple) else (int(torch.randint(2**31, ())), key))
        return as_float(degraded), as_float(target)

    def read_sample(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the same crops, uint8 or float32. ``as_float`` converts them to the item."""
        raise NotImplementedError
