"""The patches that the first two stages see: quarters and halves of the image (paper, Figure 2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS, _COLUMNS = 2, 3  # dimensions of (N, C, H, W)


@dataclass(frozen=True)
class PatchGrid:
    """Splits images into halves and quarters and joins them again.

    Patches travel through the network as one batch: the first half of the batch holds the upper (or left) patches.

    Attributes:
        rows: split into top and bottom halves. False if the image is a tile that lies on one side of the horizontal
            midline of a larger image: the network would not split it there.
        columns: split into left and right halves. False as for ``rows``, with the vertical midline.
    """

    rows: bool = True
    columns: bool = True

    def split_rows(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (2N, C, H / 2, W): the top halves, then the bottom halves."""
        return _split(x, _ROWS) if self.rows else x

    def join_rows(self, x: Tensor) -> Tensor:
        """Undo ``split_rows``."""
        return _join(x, _ROWS) if self.rows else x

    def split_columns(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (2N, C, H, W / 2): the left halves, then the right halves."""
        return _split(x, _COLUMNS) if self.columns else x

    def join_columns(self, x: Tensor) -> Tensor:
        """Undo ``split_columns``."""
        return _join(x, _COLUMNS) if self.columns else x


# The grid of a whole image.
FULL_GRID = PatchGrid()


def _split(x: Tensor, dim: int) -> Tensor:
    half = x.shape[dim] // 2
    return torch.cat([x.narrow(dim, 0, half), x.narrow(dim, half, half)], dim=0)


def _join(x: Tensor, dim: int) -> Tensor:
    batch = x.shape[0] // 2
    return torch.cat([x.narrow(0, 0, batch), x.narrow(0, batch, batch)], dim=dim)
