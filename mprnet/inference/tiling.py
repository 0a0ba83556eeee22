"""Large images in overlapping tiles: where they lie, and how their results become one.

MPRNet's first stages cut the image at its midlines into quarters and halves that do not see one another. So that pixels
are computed as they are in the whole image, a tile either has the image's midline in its own middle, and is cut there,
or is not cut at all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mprnet.model.network import SIZE_MULTIPLE

# Neighbours overlap by at least three times this: what lies so close to a tile's edge misses its surroundings and is
# dropped on both sides, and over as many pixels between, one result fades into the other.
_MARGIN = 32
SMALLEST = 64


def overlap(size: int) -> int:
    """By how many pixels neighbouring tiles of this size overlap at least; a multiple of 4."""
    return 12 * (min(_MARGIN, size // 6) // 4)


def allowed(size: int) -> int:
    """The nearest size at or below that a tile can have."""
    return max(SMALLEST, size // SIZE_MULTIPLE * SIZE_MULTIPLE)


@dataclass(frozen=True)
class Span:
    """A tile along one axis: pixels ``begin`` to ``end``, whether they are cut in the middle, and their share in the
    result, (end - begin,) in [0, 1]."""

    begin: int
    end: int
    cut: bool
    share: Tensor


def spans(length: int, size: int, least: int = SMALLEST) -> list[Span]:
    """The tiles along a side of ``length`` pixels: of at most ``size``, and at least ``least`` if there is as much.

    One lies around the middle, others evenly before and after it. All begin at multiples of 4, so that every pixel
    keeps its place in the pyramids. At every pixel, the shares add up to 1.
    """
    padded = -(-length // SIZE_MULTIPLE) * SIZE_MULTIPLE
    if padded <= size:
        return [Span(0, length, True, torch.ones(length))]
    first, last = (padded - size) // 2, (padded + size) // 2
    before = [(begin, min(end, padded)) for begin, end in _even(first + overlap(size), size, least)]
    after = [(padded - end, padded - begin) for begin, end in reversed(before)]
    places = [*before, (first, last), *after]
    shares = [torch.zeros(length, dtype=torch.float64) for _ in places]
    margin = overlap(size) // 3
    place = torch.arange(length, dtype=torch.float64) + 0.5
    shares[0] += 1
    for number in range(1, len(places)):
        # Of neighbours that overlap by more, as ``least`` makes them, the one around the middle keeps all it can.
        begin = places[number][0] if number <= len(before) else places[number - 1][1] - overlap(size)
        rise = ((place - begin - margin) / margin).clamp(0, 1)
        shares[number] += rise
        shares[number - 1] -= rise
    return [
        Span(begin, min(end, length), number == len(before), share[begin:end].float())
        for number, ((begin, end), share) in enumerate(zip(places, shares, strict=True))
    ]


def _even(length: int, size: int, least: int) -> list[tuple[int, int]]:
    """Tiles from 0 to at least ``length``, overlapping, of equal sizes: (begin, end) each."""
    count = -(-(length - overlap(size)) // (size - overlap(size)))
    step = -(-(length - overlap(size)) // count // 4) * 4
    side = min(size, max(least, step + overlap(size)))
    side = -(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE
    return [(number * step, number * step + side) for number in range(count)]


@dataclass(frozen=True)
class Tile:
    """A part of an image."""

    rows: Span
    columns: Span

    def of(self, image: Tensor) -> Tensor:
        """These pixels of (N, C, H, W)."""
        return image[:, :, self.rows.begin : self.rows.end, self.columns.begin : self.columns.end]

    def add(self, restored: Tensor, result: Tensor) -> None:
        """Add what this tile became, (N, C, rows, columns), to the whole, (N, C, H, W), by its share."""
        share = self.rows.share[:, None] * self.columns.share
        self.of(result).add_((restored * share.to(restored.device)).to(result.device))


def tiles(height: int, width: int, size: int, least: int = SMALLEST) -> list[Tile]:
    """Tiles that cover an image; see ``spans``."""
    columns = spans(width, size, least)
    return [Tile(row, column) for row in spans(height, size, least) for column in columns]
