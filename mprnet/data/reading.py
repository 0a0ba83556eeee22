"""Pictures of data sets: the same as read_photo gives, the fast way where that is certain."""

import io
import stat
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mprnet.data.exif import read_orientation, upright
from mprnet.data.photos import Photo, read_photo
from mprnet.errors import UserError

# Larger files and pictures are left to read_photo, which has its limits.
_MOST_BYTES, _MOST_PIXELS = 2**28, 2**26
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _GREY_ALPHA, _RGBA = 0, 2, 4, 6  # IHDR's colour types
# Chunks that change neither pixels nor orientation, with their lengths.
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7}
# Texts, which may hold EXIF or XMP: these keywords' do not.
_KEYWORDS = {b"Title", b"Author", b"Description", b"Copyright", b"Creation Time", b"Software", b"Source", b"Comment"}
_KEYWORDS |= {b"date:create", b"date:modify", b"date:timestamp"}


def read_rgb(path: Path) -> np.ndarray:
    """A picture as training sees it: (H, W, 3) uint8, the right way up, without alpha; 16 bits are rounded to 8.

    Raises:
        UserError: as ``read_photo``.
    """
    pixels = read_picture(path).pixels
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


def read_picture(path: Path) -> Photo:
    """What ``read_photo`` gives, without EXIF data and colour profile; most PNGs and JPEGs are read faster.

    Raises:
        UserError: as ``read_photo``.
    """
    data = _read_file(path)
    photo = None
    if data.startswith(_PNG):
        photo = _fast_png(data)
    elif data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9"):
        photo = _fast_jpeg(data)
    return photo or read_photo(path)


def size_problem(first: Path, second: Path, images: tuple[np.ndarray, np.ndarray]) -> str:
    """That two pictures, (H, W, 3), differ in size: one sentence; empty if they do not."""
    if images[0].shape == images[1].shape:
        return ""
    sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in images)
    return f"{first} and {second} are of different sizes, {sizes}."


def check_sizes(first: Path, second: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    """Refuse two pictures, (H, W, 3), that differ in size.

    Raises:
        UserError: they do.
    """
    if problem := size_problem(first, second, images):
        raise UserError(problem)


def _read_file(path: Path) -> bytes:
    """The file's bytes; none if read_photo has to say what is wrong with it."""
    try:
        status = path.stat()
        return path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_BYTES else b""
    except OSError:
        return b""


def _fast_png(data: bytes) -> Photo | None:
    """None: not certain to be what read_photo gives."""
    if not _has_plain_header(data) or not _is_plain(data):
        return None
    colour = data[25]
    has_alpha = colour in (_GREY_ALPHA, _RGBA)
    image = _decode(data, cv2.IMREAD_UNCHANGED if has_alpha else cv2.IMREAD_COLOR)
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != (4 if has_alpha else 3):
        return None
    alpha = np.ascontiguousarray(image[:, :, 3]) if has_alpha else None
    pixels = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if has_alpha else cv2.COLOR_BGR2RGB)
    return Photo(pixels, alpha, grey=colour in (_GREY, _GREY_ALPHA))


def _has_plain_header(data: bytes) -> bool:
    """Whether a PNG is of 8 bits, grey or RGB, with or without alpha, and not very large."""
    if len(data) < 33 or data[8:16] != b"\0\0\0\x0dIHDR":
        return False
    width, height, depth, colour, compression, filtering = struct.unpack_from(">IIBBBB", data, 16)
    is_known = depth == 8 and colour in (_GREY, _RGB, _GREY_ALPHA, _RGBA) and compression == filtering == 0
    return is_known and 0 < width * height <= _MOST_PIXELS


def _is_plain(data: bytes) -> bool:
    """Whether a PNG is sound, and nothing is in it but header, pixels and metadata that change nothing."""
    chunks = _sound_chunks(data)
    kinds = [kind for kind, _, _ in chunks]
    if b"IDAT" not in kinds:
        return False
    first, count = kinds.index(b"IDAT"), kinds.count(b"IDAT")
    rest = chunks[1:first] + chunks[first + count : -1]  # if there is an IDAT among these: it is not harmless
    return all(_is_harmless(kind, data[start:end]) for kind, start, end in rest)


def _sound_chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """A PNG's chunks up to IEND: the kind of each, where it starts and ends; none if one is cut short or damaged."""
    view = memoryview(data)
    found: list[tuple[bytes, int, int]] = []
    place = len(_PNG)
    while not found or found[-1][0] != b"IEND":
        if place + 12 > len(data):
            return []
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data) or zlib.crc32(view[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return []
        found.append((kind, place, end))
        place = end
    return found


def _is_harmless(kind: bytes, chunk: bytes) -> bool:
    if kind == b"tEXt":
        return chunk[8:].split(b"\0")[0] in _KEYWORDS
    return len(chunk) - 12 == _LENGTHS.get(kind)


def _fast_jpeg(data: bytes) -> Photo | None:
    """None: not certain to be what read_photo gives."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            with Image.open(io.BytesIO(data)) as header:  # the pixels are not decoded
                orientation = read_orientation(header)
    except Exception:  # whatever it is: read_photo meets it again
        return None
    if header.format != "JPEG" or header.mode not in ("L", "RGB") or header.width * header.height > _MOST_PIXELS:
        return None
    image = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape != (header.height, header.width, 3):
        return None
    pixels = upright(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), orientation)
    return Photo(np.ascontiguousarray(pixels), grey=header.mode == "L")


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
