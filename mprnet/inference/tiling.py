"""Overlapping tiles of large images: where they lie, and how their results are blended.

MPRNet's first stages split the image at its midlines into halves and quarters, which do not see each other. A tile must
be computed as its pixels are in the whole image. So a tile either has the image's midline in its own middle and is
split there, or it is not split.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mprnet.data.tensors import to_device
from mprnet.inference.memory import trim
from mprnet.model.bands import memory_format
from mprnet.model.network import SIZE_MULTIPLE
from mprnet.model.padding import round_up
from mprnet.model.patches import PatchGrid

# Neighbours overlap by at least three margins. The outer margin of each tile is dropped, because those pixels miss
# their surroundings. Across the middle margin, one result fades into the other.
_MARGIN = 32
SMALLEST = 64  # pixels of the side of a tile


def min_overlap(size: int) -> int:
    """Return by how many pixels neighbouring tiles of this size overlap at least; a multiple of 4."""
    return 12 * (min(_MARGIN, size // 6) // 4)


def valid_size(size: int) -> int:
    """Return the largest size that a tile can have and that is not above ``size``; at least ``SMALLEST``."""
    return max(SMALLEST, size // SIZE_MULTIPLE * SIZE_MULTIPLE)


@dataclass(frozen=True)
class Span:
    """A tile along one dimension.

    Attributes:
        start, stop: its pixels.
        split: True if the network splits it in the middle.
        weight: (stop - start,) in [0, 1], the weight of its result at each pixel.
    """

    start: int
    stop: int
    split: bool
    weight: Tensor


def make_spans(length: int, size: int, least: int = SMALLEST) -> list[Span]:
    """Return the tiles along a dimension of ``length`` pixels.

    Args:
        size: of a tile at most.
        least: of a tile at least, if ``length`` allows it.

    Returns:
        One tile around the middle, others evenly before and after it. All start at multiples of 4, so that every pixel
        keeps its place in the pyramids. At every pixel the weights add up to 1.
    """
    padded = round_up(length, SIZE_MULTIPLE)
    if padded <= size:
        return [Span(0, length, True, torch.ones(length))]
    first, last = (padded - size) // 2, (padded + size) // 2
    before = [(start, min(stop, padded)) for start, stop in _even_spans(first + min_overlap(size), size, least)]
    after = [(padded - stop, padded - start) for start, stop in reversed(before)]
    places = [*before, (first, last), *after]
    weights = [torch.zeros(length, dtype=torch.float64) for _ in places]
    margin = min_overlap(size) // 3
    pixel = torch.arange(length, dtype=torch.float64) + 0.5
    weights[0] += 1
    for number in range(1, len(places)):
        # ``least`` can make neighbours overlap by more. The tile around the middle then keeps as much as it can.
        start = places[number][0] if number <= len(before) else places[number - 1][1] - min_overlap(size)
        rise = ((pixel - start - margin) / margin).clamp(0, 1)
        weights[number] += rise
        weights[number - 1] -= rise
    return [
        Span(start, min(stop, length), number == len(before), weight[start:stop].float())
        for number, ((start, stop), weight) in enumerate(zip(places, weights, strict=True))
    ]


def _even_spans(length: int, size: int, least: int) -> list[tuple[int, int]]:
    """Overlapping tiles of one size, from 0 to at least ``length``: (start, stop) of each."""
    count = -(-(length - min_overlap(size)) // (size - min_overlap(size)))
    step = round_up(-(-(length - min_overlap(size)) // count), 4)
    side = round_up(min(size, max(least, step + min_overlap(size))), SIZE_MULTIPLE)
    return [(number * step, number * step + side) for number in range(count)]


@dataclass(frozen=True)
class Tile:
    """A part of an image."""

    rows: Span
    columns: Span

    @property
    def grid(self) -> PatchGrid:
        """How the network splits this tile."""
        return PatchGrid(self.rows.split, self.columns.split)

    def crop(self, images: Tensor) -> Tensor:
        """Return the tile's pixels of (N, C, H, W); a view."""
        return images[:, :, self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]

    def blend(self, restored: Tensor, result: Tensor) -> None:
        """Add the restored tile, (N, C, rows, columns), to the result, (N, C, H, W), with the tile's weights.

        Both are on the same device.
        """
        # Copies of so few numbers do not wait for the work of a GPU.
        rows, columns = (to_device(span.weight, result.device) for span in (self.rows, self.columns))
        self.crop(result).add_(restored * (rows[:, None] * columns))


def make_tiles(height: int, width: int, size: int, least: int = SMALLEST) -> list[Tile]:
    """Return tiles that cover an image; arguments as for ``make_spans``."""
    columns = make_spans(width, size, least)
    return [Tile(row, column) for row in make_spans(height, size, least) for column in columns]


def restore_tiles(
    restore: Callable[[Tensor, PatchGrid], list[Tensor]],
    batch: Tensor,
    tiles: Sequence[Tile],
    report: Callable[[int, int], None] | None,
) -> list[Tensor]:
    """Return the images that ``restore`` makes of a batch (N, C, H, W), tile by tile.

    Args:
        restore: from a tile and its grid to images of its size.
        report: called with (tiles done, tiles in all), at first with 0.
    """
    report = report or (lambda done, total: None)
    results: list[Tensor] = []
    report(0, len(tiles))
    for number, tile in enumerate(tiles, start=1):
        parts = restore(tile.crop(batch), tile.grid)
        if batch.device.type == "cpu":
            trim()  # else the C library keeps what one tile has left, and the next, of another shape, takes more
        if not results:
            results = [torch.zeros_like(batch, memory_format=memory_format(batch.device)) for _ in parts]
        for part, result in zip(parts, results, strict=True):
            tile.blend(part, result)
        report(number, len(tiles))
    return results
