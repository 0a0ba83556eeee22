"""The PNG format: its constants, 8-bit images without metadata, and 16-bit images with it.

photo_writing.py writes pictures with all their metadata.
"""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from mprnet.files import write_atomically

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # colour types


def colour_type(data: bytes) -> int:
    """Return the colour type of a PNG file from its header (IHDR)."""
    return data[25]


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image, (H, W, 3) uint8, RGB, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    write_atomically(path, cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def encode_16_bit(array: np.ndarray, exif: bytes = b"", icc: bytes | None = None) -> bytes:
    """Return the bytes of a PNG file of (H, W, 1 to 4) uint16.

    Pillow does not write 16 bits of colour, and OpenCV's imencodeWithMetadata (4.12) does not write grey with alpha.
    """
    height, width, channels = array.shape
    rows = np.ascontiguousarray(array.astype(">u2")).view(np.uint8).reshape(height, -1)
    # Filter 2, "up": each row minus the row above, modulo 256. The byte before each row is the filter's number.
    filtered = np.full((height, rows.shape[1] + 1), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    kind = {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGBA}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
