"""Which tiles fit into the memory there is."""

import operator

import torch

from mprnet.errors import UserError
from mprnet.inference import memory, tiling
from mprnet.model.network import MPRNet

# Of what is free, a pass is given so much: other programs live too.
_SHARE = 0.85
# And beside it, on the CPU, files are read and written, for which decoders and encoders take their own.
_FILES = 2**27
# What the C library, CUDA, its libraries, and Metal say.
_NO_MEMORY = (
    "not enough memory",
    "out of memory",
    "can't allocate memory",
    "STATUS_ALLOC_FAILED",
    "Invalid buffer size",
)


class Budget:
    """Chooses the side of tiles, image by image.

    Args:
        model: as it will run.
        stages: how many stages are run. None: all.
        device: where.
        tile: ``auto``, ``none`` or a side.
        smallest: no tile is smaller.
        limit: bytes that the process may take in all. None: what is free.
    """

    def __init__(
        self,
        model: MPRNet,
        stages: int | None,
        device: torch.device,
        tile: int | str,
        smallest: int,
        limit: int | None,
    ) -> None:
        self.need = memory.Need(model, stages, device)
        self.device = device
        self.tile = tile if isinstance(tile, str) else max(tile, smallest)
        self.smallest = smallest
        self.limit = limit
        self._most: int | None = None  # after memory has run out
        self._chosen: dict[tuple[int, int, int], int] = {}  # for images of (count, height, width)

    def side(self, count: int, height: int, width: int, copies: int) -> int:
        """Of the tiles for so many images of this size; for no tiles, as much as their longer side at least.

        Args:
            copies: how many images of this size are held beside a pass, results and others.

        Raises:
            UserError: even the smallest do not fit.
        """
        if not isinstance(self.tile, str):
            size = self.tile
        else:
            size = max(height, width) if self.tile == "none" else self._fitting(count, height, width, copies)
        return min(size, self._most or size)

    def halve(self, size: int, height: int, width: int) -> int:
        """What to go on with after memory has run out in tiles of ``size``; later images begin with it too.

        Raises:
            UserError: there is nothing smaller.
        """
        smaller = tiling.allowed(min(size, max(height, width)) // 2)
        if self.tile == "none" or smaller < self.smallest or smaller == size:
            raise UserError(
                f"there is not enough memory on {self.device} for {width}x{height} pixels"
                + (" without tiles." if self.tile == "none" else f" in tiles of {size}.")
            )
        self._most = smaller
        return smaller

    def _fitting(self, count: int, height: int, width: int, copies: int) -> int:
        """What fits into the memory there is."""
        images = _FILES + copies * count * 3 * 4 * height * width if self.device.type == "cpu" else 0
        free = memory.available(self.device, self.limit)
        if free is None or self.need.bytes(count, height, width) <= _SHARE * free - images:
            return max(height, width)
        memory.trim()
        free = memory.available(self.device, self.limit) or 0
        usable = int(_SHARE * free) - images
        if self.need.bytes(count, height, width) <= usable:
            return max(height, width)
        side = tiling.allowed(int((max(0, usable) / self.need.bytes(count, 1000, 1000)) ** 0.5 * 1000))
        least = self.need.bytes(count, min(self.smallest, height), min(self.smallest, width))
        if usable < least:
            short = _amount((least - usable) / _SHARE)
            allowed = f" of the {_amount(self.limit)} allowed" if self.limit else ""
            raise UserError(
                f"{_amount(free)} are free on {self.device}{allowed}, and {width}x{height} pixels need {short} more, "
                f"even in tiles of {self.smallest}."
            )
        # Images of one size get tiles of one size, though the free memory is never quite the same.
        chosen = self._chosen.get((count, height, width), 0)
        if not side <= chosen <= 1.1 * side:
            self._chosen[count, height, width] = chosen = max(side, self.smallest)
        return chosen


def _amount(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def checked_tile(tile: int | str) -> int | str:
    """``tile``, a side rounded to what tiles can have.

    Raises:
        UserError: it is neither ``auto``, ``none`` nor a side.
    """
    if isinstance(tile, str) and tile in ("auto", "none"):
        return tile
    size = operator.index(tile) if hasattr(tile, "__index__") else 0
    if size < tiling.SMALLEST:
        raise UserError(f"a tile is auto, none or at least {tiling.SMALLEST} pixels, not {tile}.")
    return tiling.allowed(size)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's or the system's memory is what ``error`` is about."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in _NO_MEMORY)
