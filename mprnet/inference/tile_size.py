"""Choosing the size of tiles, so that they fit in memory."""

import math
import operator
from collections.abc import Callable

import torch

from mprnet.errors import UserError
from mprnet.inference import memory, tiling
from mprnet.model.network import MPRNet

# The network gets this part of the free memory: other programs need some, too.
_SHARE = 0.85
# On the CPU, so many bytes more are left for reading and writing files.
_FILES = 2**27
# After memory has run out, tiles stay smaller for so many images. Then a larger size is tried again, because another
# program may have had the memory. After each attempt that fails, it is tried half as often.
_PATIENCE = 8


class TileSizeChooser:
    """Chooses the size of tiles, image by image.

    Args:
        model: as it will run.
        stages: how many stages run. None: all.
        device: where.
        tile: ``auto``, ``none`` or a size.
        least: tiles are not smaller than this.
        limit: how many bytes the process may use. None: all memory that is free.
        make_room: frees what the process can do without.
    """

    def __init__(
        self,
        model: MPRNet,
        stages: int | None,
        device: torch.device,
        tile: int | str,
        least: int,
        limit: int | None,
        make_room: Callable[[], object] = memory.trim,
    ) -> None:
        self.estimate = memory.MemoryEstimate(model, stages, device)
        self.device = device
        self.tile = tile if isinstance(tile, str) else max(tile, least)
        self.least = least
        self.limit = limit
        self._make_room = make_room
        self._most: int | None = None  # set after memory has run out
        self._fitted = 0  # how many images in a row were no larger than this
        self._patience = _PATIENCE
        self._is_attempt = False  # True if this image is the first with a larger size
        self._chosen: dict[tuple[int, int, int], int] = {}  # by (count, height, width)

    def choose(self, count: int, height: int, width: int, copies: int) -> int:
        """Return the size of tiles for ``count`` images of this height and width.

        Args:
            copies: how many times ``count`` images are in memory beside the network: results and others.

        Returns:
            At least the longer side of the images if they need no tiles.

        Raises:
            UserError: even the smallest tiles do not fit.
        """
        if not isinstance(self.tile, str):
            size = self.tile
        else:
            size = max(height, width) if self.tile == "none" else self._largest_fitting(count, height, width, copies)
        self._is_attempt = False
        if self._most is not None and size > self._most:
            self._is_attempt = self._fitted == self._patience
            if self._is_attempt:
                self._most, self._fitted = 2 * self._most, 0
            self._fitted += 1
            size = min(size, self._most)
        return size

    def fits(self, count: int, height: int, width: int, copies: int) -> bool:
        """Return True if ``count`` images of this height and width need no tiles, or if tiles are not chosen here.

        Args:
            copies: as for ``choose``.
        """
        if self.tile != "auto":
            return True
        peak = self.estimate.peak(count, height, width)
        if peak <= self._usable(count, height, width, copies):
            return True
        self._make_room()
        return peak <= self._usable(count, height, width, copies)

    def shrink(self, size: int, height: int, width: int) -> int:
        """Return a smaller size, after memory has run out with tiles of ``size``. Later images start with it.

        Raises:
            UserError: there is no smaller size.
        """
        size = min(size, max(height, width))
        smaller = max(self.least, tiling.valid_size(size // 2))
        if self.tile == "none" or smaller >= size:
            raise UserError(
                f"there is not enough memory on {self.device} for {width}x{height} pixels"
                + (" without tiles." if self.tile == "none" else f" in tiles of {size}.")
            )
        if self._is_attempt:
            self._patience *= 2
        self._most, self._fitted, self._is_attempt = smaller, 0, False
        return smaller

    def _largest_fitting(self, count: int, height: int, width: int, copies: int) -> int:
        if self.fits(count, height, width, copies):
            return max(height, width)
        usable = int(self._usable(count, height, width, copies))
        size = tiling.valid_size(int((max(0, usable) / self.estimate.peak(count, 1000, 1000)) ** 0.5 * 1000))
        smallest = self.estimate.peak(count, min(self.least, height), min(self.least, width))
        if usable < smallest:
            missing = _amount((smallest - usable) / _SHARE)
            free = max(0, memory.free_memory(self.device, self.limit) or 0)
            allowed = f" of the {_amount(self.limit)} allowed" if self.limit else ""
            raise UserError(
                f"{_amount(free)} are free on {self.device}{allowed}, and {width}x{height} pixels need {missing} more, "
                f"even in tiles of {self.least}."
            )
        # Images of one size get tiles of one size, although the free memory varies a little.
        chosen = self._chosen.get((count, height, width), 0)
        if not size <= chosen <= 1.1 * size:
            self._chosen[count, height, width] = chosen = max(size, self.least)
        return chosen

    def _usable(self, count: int, height: int, width: int, copies: int) -> float:
        """Return how many bytes a run of the network may take; infinity if the free memory is not known."""
        images = copies * count * 3 * 4 * height * width + (_FILES if self.device.type == "cpu" else 0)
        free = memory.free_memory(self.device, self.limit)
        return math.inf if free is None else _SHARE * free - images


def _amount(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def check_tile(tile: int | str) -> int | str:
    """Return ``tile``; a size is rounded to one that tiles can have.

    Raises:
        UserError: it is not ``auto``, ``none`` or a size.
    """
    if isinstance(tile, str) and tile in ("auto", "none"):
        return tile
    size = operator.index(tile) if hasattr(tile, "__index__") else 0
    if size < tiling.SMALLEST:
        raise UserError(f"a tile is auto, none or at least {tiling.SMALLEST} pixels, not {tile}.")
    return tiling.valid_size(size)
