"""Reading files with limits: a file must not make the program take all memory."""

import stat
import zlib
from pathlib import Path

from PIL import Image

from mprnet.errors import UserError

_MAX_BYTES = 2 * 2**30
# As Pillow's, at which it raises an error.
_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**26)
# Of one piece of metadata, when it is decompressed.
_MAX_METADATA = 2**25


def read_file(path: Path) -> bytes:
    """Return the content of a picture file.

    Raises:
        UserError: not a file, empty, far too large, or it cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: not a file.")
        if status.st_size > _MAX_BYTES:
            raise UserError(f"{path}: absurdly large ({status.st_size / 2**30:.0f} GiB); cut it up first.")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    if not data:
        raise UserError(f"{path}: the file is empty.")
    return data


def check_size(width: int, height: int, path: Path) -> None:
    """Check that a picture has pixels, and not far too many.

    Raises:
        UserError: it has not.
    """
    if width <= 0 or height <= 0:
        raise UserError(f"{path}: broken: it says that it has {width}x{height} pixels.")
    if width * height > _MAX_PIXELS:
        raise UserError(f"{path}: absurdly large ({width * height // 10**6} million pixels); cut it up first.")


def decompress_metadata(data: bytes) -> bytes:
    """Decompress a zlib stream. Return nothing if it is broken or far too large."""
    decompressor = zlib.decompressobj()
    try:
        result = decompressor.decompress(data, _MAX_METADATA)
    except zlib.error:
        return b""
    return result if decompressor.eof else b""
