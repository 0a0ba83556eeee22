"""Large images in overlapping tiles: where they lie, and how their results become one."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mprnet.model.network import SIZE_MULTIPLE

# Neighbours overlap by up to three times this: what lies so close to a tile's edge misses its surroundings and is
# dropped on both sides, and over as many pixels between, one result fades into the other.
_MARGIN = 32
SMALLEST = 64


def overlap(size: int) -> int:
    """By how many pixels neighbouring tiles of this size overlap."""
    return 3 * min(_MARGIN, size // 6)


def starts(length: int, size: int) -> list[int]:
    """Where tiles begin along a side of ``length`` pixels: evenly spread, at multiples of 4, so that every pixel keeps
    its place in the pyramids. The last tile may be up to 3 pixels shorter."""
    if length <= size:
        return [0]
    count = -(-(length - overlap(size)) // (size - overlap(size)))
    return [-(-((length - size) * i // (count - 1)) // 4) * 4 for i in range(count)]


def shares(length: int, size: int) -> list[Tensor]:
    """How much each tile has in the result along one side, pixel by pixel, in [0, 1]; they add up to 1."""
    begins = starts(length, size)
    margin = overlap(size) // 3
    total = torch.zeros(length, dtype=torch.float64)
    parts = []
    for begin in begins:
        place = torch.arange(min(size, length - begin), dtype=torch.float64) + 0.5
        part = torch.ones_like(place)
        if begin > 0:
            part *= ((place - margin) / margin).clamp(0, 1)
        if begin + len(place) < length:
            part *= ((size - place - margin) / margin).clamp(0, 1)
        total[begin : begin + len(place)] += part
        parts.append(part)
    return [(part / total[begin : begin + len(part)]).float() for begin, part in zip(begins, parts, strict=True)]


@dataclass(frozen=True)
class Tile:
    """A part of an image, and its share in the result."""

    rows: slice
    columns: slice
    share: Tensor  # (rows, columns)

    def add(self, restored: Tensor, result: Tensor) -> None:
        """Add what this tile became, (N, C, rows, columns), to the whole, (N, C, H, W)."""
        result[:, :, self.rows, self.columns] += (restored * self.share.to(restored.device)).to(result.device)


def tiles(height: int, width: int, size: int) -> Iterator[Tile]:
    """Tiles of at most ``size`` times ``size`` pixels that cover an image; their shares add up to 1 everywhere."""
    for top, vertical in zip(starts(height, size), shares(height, size), strict=True):
        for left, horizontal in zip(starts(width, size), shares(width, size), strict=True):
            rows, columns = slice(top, top + len(vertical)), slice(left, left + len(horizontal))
            yield Tile(rows, columns, vertical[:, None] * horizontal)


def count(height: int, width: int, size: int) -> int:
    """How many tiles there are."""
    return len(starts(height, size)) * len(starts(width, size))


def allowed(size: int) -> int:
    """The nearest size at or below that a tile can have."""
    return max(SMALLEST, size // SIZE_MULTIPLE * SIZE_MULTIPLE)
