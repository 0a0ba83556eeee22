"""Fast reading of the pictures of data sets, with the same result as ``read_photo``."""

import struct
from pathlib import Path

import cv2
import numpy as np

from mprnet.data import png, png_metadata
from mprnet.data.limits import read_file
from mprnet.data.pairs import Pair
from mprnet.data.photo_reading import decode_photo
from mprnet.data.photos import Photo, to_8_bit
from mprnet.data.tiles import Picture
from mprnet.errors import UserError

# Larger files and pictures are decoded as in read_photo, which has its own limits.
_MAX_BYTES, _MAX_PIXELS = 2**28, 2**26


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return the degraded image and the target, both (H, W, 3) uint8, as ``read_rgb`` returns them.

    Raises:
        UserError: one of them cannot be read, or their sizes differ.
    """
    degraded, target = read_rgb(pair.input), read_rgb(pair.target)
    check_sizes(pair, degraded, target)
    return degraded, target


def check_sizes(pair: Pair, degraded: Picture, target: Picture) -> None:
    """Check that the two images of a pair, (H, W, 3), have the same size.

    Raises:
        UserError: the sizes differ.
    """
    if degraded.shape != target.shape:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (degraded, target))
        raise UserError(f"{pair.input} and {pair.target} are of different sizes, {sizes}.")


def read_rgb(path: Path) -> np.ndarray:
    """Return a picture as (H, W, 3) uint8 RGB, upright, without alpha. 16 bits are rounded to 8.

    Raises:
        UserError: as ``read_photo``.
    """
    return decode_rgb(read_file(path), path)


def decode_rgb(data: bytes, path: Path) -> np.ndarray:
    """Return the picture in ``data``, the content of the file ``path``; as ``read_rgb``."""
    pixels = _decode_picture(data, path).pixels
    return to_8_bit(pixels) if pixels.dtype == np.uint16 else pixels


def read_picture(path: Path) -> Photo:
    """Return the same as ``read_photo``, without EXIF data and colour profile. Most PNGs are read faster.

    Raises:
        UserError: as ``read_photo``.
    """
    return _decode_picture(read_file(path), path)


def _decode_picture(data: bytes, path: Path) -> Photo:
    photo = _decode_plain_png(data) if data.startswith(png.SIGNATURE) and len(data) <= _MAX_BYTES else None
    return photo or decode_photo(data, path)


def _decode_plain_png(data: bytes) -> Photo | None:
    """Return the picture; None if it is not certain that ``read_photo`` returns the same."""
    chunks = png.find_chunks(data)
    if not chunks or not _has_plain_header(data):
        return None
    data, others = png_metadata.split_metadata(data, chunks)
    if len(chunks) - len(others) != sum(kind in (b"IHDR", b"IDAT", b"IEND") for kind, _, _ in chunks):
        return None
    metadata = png_metadata.read_metadata(others)
    if metadata.exif or metadata.xmp:  # there may be an orientation
        return None
    colour = png.colour_type(data)
    has_alpha = colour in (png.GREY_ALPHA, png.RGBA)
    image = _decode(data, cv2.IMREAD_UNCHANGED if has_alpha else cv2.IMREAD_COLOR)
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != (4 if has_alpha else 3):
        return None
    alpha = np.ascontiguousarray(image[:, :, 3]) if has_alpha else None
    pixels = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if has_alpha else cv2.COLOR_BGR2RGB)
    return Photo(pixels, alpha, grey=colour in (png.GREY, png.GREY_ALPHA))


def _has_plain_header(data: bytes) -> bool:
    """True if a PNG has 8 bits, is grey or RGB, with or without alpha, and is not very large."""
    if len(data) < 33 or data[8:16] != b"\0\0\0\x0dIHDR":
        return False
    width, height, depth, colour, compression, filtering = struct.unpack_from(">IIBBBB", data, 16)
    is_known = depth == 8 and colour in (png.GREY, png.RGB, png.GREY_ALPHA, png.RGBA) and compression == filtering == 0
    return is_known and 0 < width * height <= _MAX_PIXELS


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    """Decode with OpenCV; None if it fails."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
