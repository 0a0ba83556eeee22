"""The PNG format: its chunks, and writing images of 8 or 16 bits."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import imagecodecs
import numpy as np

from mprnet.files import write_atomically

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # colour types
_HEADER_END = len(SIGNATURE) + 25
# A chunk's kind and content.
Chunk = tuple[bytes, bytes]
# zlib's levels of compression.
LEVELS = range(1, 10)
# Paeth's filter leaves small differences, which repeat by chance only. So without a level zlib looks for runs of one
# byte and for nothing else: photographs are about as large as at level 6, in a third to an eighth of the time
# (docs/speed.md).
_FAST: dict[str, int] = dict(level=1, strategy=imagecodecs.PNG.STRATEGY.RLE, filter=imagecodecs.PNG.FILTER.PAETH)


def bit_depth(data: bytes) -> int:
    """Return the bits per sample of a PNG file from its header (IHDR)."""
    return data[24]


def colour_type(data: bytes) -> int:
    """Return the colour type of a PNG file from its header (IHDR)."""
    return data[25]


def find_chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return (kind, start, end) of a PNG's chunks up to IEND; an empty list if one is cut short or damaged."""
    view = memoryview(data)
    chunks: list[tuple[bytes, int, int]] = []
    start = len(SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        if start + 12 > len(data):
            return []
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data) or zlib.crc32(view[start + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return []
        chunks.append((kind, start, end))
        start = end
    return chunks


def write_png(path: Path, image: np.ndarray, level: int | None = None) -> None:
    """Write an image, (H, W, 3) uint8, RGB, atomically.

    Args:
        level: as for ``encode_png``.

    Raises:
        UserError: the file cannot be written.
    """
    write_atomically(path, encode_png(image, level=level))


def encode_png(array: np.ndarray, chunks: Iterable[Chunk] = (), level: int | None = None) -> bytes:
    """Return the bytes of a PNG file.

    Args:
        array: (H, W, 1 to 4) uint8 or uint16: grey, grey and alpha, RGB, or RGBA.
        chunks: metadata, inserted after the header.
        level: zlib's level of compression, one of ``LEVELS``: files get smaller, and take longer. None: fast.
    """
    image = np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array)
    options = _FAST if level is None else dict(level=level, strategy=imagecodecs.PNG.STRATEGY.FILTERED)
    data = bytes(imagecodecs.png_encode(image, **options))
    extra = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return data[:_HEADER_END] + extra + data[_HEADER_END:]
