"""Restoring batches in the memory that there is."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from mprnet.inference.out_of_memory import is_out_of_memory
from mprnet.inference.tile_size import TileSizeChooser

# From a batch (N, 3, H, W) and the size of tiles to the images of one or all stages, each of the batch's shape.
Restore = Callable[[Tensor, int], list[Tensor]]


class Fitting:
    """Restores batches in parts that fit in memory: fewer images at a time, or tiles.

    Args:
        sizes: chooses the size of tiles.
        make_room: frees memory that the process can do without. It returns True if this was so much that the same size
            may fit now.

    Attributes:
        batch_pixels: how many pixels a batch of small images should have; fewer after memory has run out.
    """

    def __init__(self, sizes: TileSizeChooser, make_room: Callable[[], bool]) -> None:
        self.batch_pixels = 2**20
        self._sizes = sizes
        self._make_room = make_room

    def restore(self, restore: Restore, batch: Tensor, copies: int) -> list[Tensor]:
        """Restore as many images at a time as fit in memory; if not even one does, in the largest tiles that fit.

        Args:
            restore: raises an error for which ``is_out_of_memory`` is True if memory runs out.
            copies: as for ``TileSizeChooser.choose``.

        Raises:
            UserError: even one image in the smallest tiles does not fit.
        """
        height, width = batch.shape[2:]
        if len(batch) > 1 and not self._sizes.fits(len(batch), height, width, copies):
            return self._restore_halves(restore, batch, copies)
        size = self._sizes.choose(len(batch), height, width, copies)
        may_repeat = True  # once: graphs that are recorded again could fill the memory again
        while True:
            try:
                return restore(batch, size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Not inside the handler: the exception keeps the tensors of the failed run alive.
            if self._make_room() and may_repeat:
                may_repeat = False
                continue
            if len(batch) > 1:
                return self._restore_halves(restore, batch, copies)
            size = self._sizes.shrink(size, height, width)
            tqdm.write(f"out of memory; continuing in tiles of {size} pixels", file=sys.stderr)

    def _restore_halves(self, restore: Restore, batch: Tensor, copies: int) -> list[Tensor]:
        """Restore half of the images of a batch at a time. Later batches are smaller."""
        halves = batch.tensor_split(2)
        self.batch_pixels = min(self.batch_pixels, halves[0][:, 0].numel())
        results = [self.restore(restore, half, copies) for half in halves]
        return [torch.cat(stage) for stage in zip(*results, strict=True)]
