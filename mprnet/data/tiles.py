"""Pictures as losslessly compressed tiles, of which a crop decodes only those that it touches.

Why this layout (``benchmarks/loading.py`` and docs/speed.md have figures):

- Tiles do not overlap. A crop of 256 pixels touches 2.25 tiles of 512 pixels on average. If each crop should lie in one
  tile, tiles would have to overlap by 255 pixels, and take four times the space, but tiles are there to save space.
- A tile holds differences to the left and upper neighbours, of green, red minus green and blue minus green, compressed
  by zstd. Of the codecs that were compared, only WebP, JPEG-LS and JPEG XL are smaller, by up to a quarter, and they
  take two to four times as long to decode. PNG takes twice as long, and is larger for photographs. QOI and LZ4 make
  noisy pictures no smaller.
- Differences are undone only above and left of a crop, which most codecs cannot do.
"""

from collections.abc import Iterator
from mmap import mmap

import imagecodecs
import numpy as np

from mprnet.errors import NotPreparedError

_SIDE = 512
_LEVEL = 1  # of zstd. Higher levels make differences of noisy pixels no smaller.
_OFFSET = np.dtype("<u8")
_CHECKSUM_BYTES = 4


def encode_tiles(pixels: np.ndarray) -> bytes:
    """Return the content of a file of tiles, for ``TiledPicture``.

    It begins with the offsets of all tiles, row by row, and the length of the file, as 64-bit integers. A tile is the
    CRC-32 of its data, and its data.

    Args:
        pixels: (H, W, 3) uint8.
    """
    height, width = pixels.shape[:2]
    tiles = [
        _encode(pixels[top : top + _SIDE, left : left + _SIDE])
        for top in range(0, height, _SIDE)
        for left in range(0, width, _SIDE)
    ]
    lengths = [_OFFSET.itemsize * (len(tiles) + 1), *map(len, tiles)]
    return np.cumsum(lengths, dtype=_OFFSET).tobytes() + b"".join(tiles)


class TiledPicture:
    """A picture whose crops, ``picture[rows, columns]``, are decoded from tiles. ``np.asarray`` decodes all of it.

    Args:
        data: as ``encode_tiles`` returns it, or a memory map of it.
        height, width: of the picture in pixels.
        name: of the file, for messages.

    Attributes:
        shape: (H, W, 3).
    """

    def __init__(self, data: bytes | mmap, height: int, width: int, name: str) -> None:
        self.shape = (height, width, 3)
        self._data = data
        self._name = name

    def __getitem__(self, area: tuple[slice, slice]) -> np.ndarray:
        """Return a crop, (h, w, 3) uint8.

        Args:
            area: rows and columns, as slices without steps.

        Raises:
            NotPreparedError: a tile is damaged.
        """
        (top, bottom, _), (left, right, _) = (part.indices(size) for part, size in zip(area, self.shape, strict=False))
        crop = np.empty((max(0, bottom - top), max(0, right - left), 3), np.uint8)
        for row, rows, y in _split(top, bottom):
            for column, columns, x in _split(left, right):
                target = crop[y : y + rows.stop - rows.start, x : x + columns.stop - columns.start]
                try:
                    self._decode(row, column, rows, columns, target)
                except (ValueError, IndexError, RuntimeError) as error:
                    raise NotPreparedError(f"{self._name}: damaged: remove it and run train.py --prepare again.") from (
                        error
                    )
        return crop

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        pixels = self[:, :]
        return pixels if dtype is None else pixels.astype(dtype)

    def _decode(self, row: int, column: int, rows: slice, columns: slice, target: np.ndarray) -> None:
        """Decode some rows and columns of a tile into ``target``."""
        height, width = self.shape[0] - row * _SIDE, self.shape[1] - column * _SIDE
        number = row * -(-self.shape[1] // _SIDE) + column
        start, end = (int(offset) for offset in np.frombuffer(self._data, _OFFSET, 2, number * _OFFSET.itemsize))
        data = self._data[start + _CHECKSUM_BYTES : end]
        # Without it, most damage would give other pixels and no error.
        if imagecodecs.deflate_crc32(data) != int.from_bytes(self._data[start : start + _CHECKSUM_BYTES], "little"):
            raise ValueError("wrong checksum")
        planes = np.frombuffer(imagecodecs.zstd_decode(data), np.uint8).reshape(
            3, min(height, _SIDE), min(width, _SIDE)
        )
        lines = planes[:, : rows.stop, : columns.stop].transpose(1, 0, 2).copy()
        above = lines[0]
        for line in lines[1:]:  # several times as fast as NumPy's sums along this axis
            np.add(above, line, out=line)
            above = line
        sums = imagecodecs.delta_decode(lines[rows.start :], axis=2)[:, :, columns]
        target[:, :, 1] = sums[:, 1]
        np.add(sums[:, 0], sums[:, 1], out=target[:, :, 0])
        np.add(sums[:, 2], sums[:, 1], out=target[:, :, 2])


Picture = np.ndarray | TiledPicture


def _encode(tile: np.ndarray) -> bytes:
    planes = tile.transpose(2, 0, 1).copy()
    planes[0] -= planes[1]
    planes[2] -= planes[1]
    planes[:, 1:] -= planes[:, :-1]
    planes[:, :, 1:] -= planes[:, :, :-1]
    data = bytes(imagecodecs.zstd_encode(planes.tobytes(), level=_LEVEL))
    return int(imagecodecs.deflate_crc32(data)).to_bytes(_CHECKSUM_BYTES, "little") + data


def _split(start: int, stop: int) -> Iterator[tuple[int, slice, int]]:
    """Yield the tiles that an interval touches along an axis: number, pixels in it, and where they are in the crop."""
    for number in range(start // _SIDE, -(-stop // _SIDE)):
        first = number * _SIDE
        inside = slice(max(start - first, 0), min(stop - first, _SIDE))
        yield number, inside, first + inside.start - start
