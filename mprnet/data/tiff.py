"""The TIFF format: which of a file's directories is the picture, and its samples of 8 or 16 bits."""

import io
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from mprnet.data.limits import check_size
from mprnet.errors import UserError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Errors are raised; its warnings about odd files would only disturb.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
_MOST_DIRECTORIES = 1000
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _MASK, _SENSOR, _LINEAR_RAW = 0, 1, 2, 4, 32803, 34892
_REDUCED, _MASK_BIT = 1, 4  # bits of the tag NewSubfileType
_PREMULTIPLIED, _ALPHA = 1, 2  # kinds of extra samples; others, such as saved selections, are no transparency
_MOST_SAMPLES = 16
_OLD_JPEG, _JPEG = 6, 7
_OLD_SUBFILE_TYPE, _ORIENTATION, _DNG_VERSION = 255, 274, 50706


@dataclass(frozen=True)
class Directory:
    """The directory of a TIFF file that describes its picture.

    Attributes:
        data: the file, with this directory as the first.
        is_raw: True if the file holds the raw values of a camera's sensor. Then ``data`` is the file as it is.
        orientation: 1 to 8, as in EXIF; 0 if it is not stated.
        size: width and height.
        others: what else is in the file and will not be in the result, for people: ``a mask``.
    """

    data: bytes
    is_raw: bool
    orientation: int = 0
    size: tuple[int, int] = (0, 0)
    others: tuple[str, ...] = ()


def find_picture(data: bytes, path: Path) -> Directory:
    """Return the directory of the picture: not a thumbnail, a mask, or a smaller copy.

    Raises:
        UserError: the file holds several pictures.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        top = [page for page, _ in zip(file.pages, range(_MOST_DIRECTORIES), strict=False)]
        nested = [sub for page in top for sub in (page.pages or ())]
        every = [page for page in (*top, *nested) if isinstance(page, tifffile.TiffPage)]
        if any(_DNG_VERSION in page.tags or page.photometric in (_SENSOR, _LINEAR_RAW) for page in every):
            return Directory(data, is_raw=True)
        pictures = _without_smaller_copies(_pictures(top))
        if len(pictures) > 1:
            count = len(pictures)
            raise UserError(f"{path}: holds {count} pages or frames; save the one to restore as a picture of its own.")
        # Some cameras and programs put a preview first, and the picture into a directory below it.
        picture = max([*pictures, *_pictures(nested)], key=_area, default=every[0])
        others = ("a mask",) if any(page.photometric == _MASK for page in every) else ()
        orientation = int(picture.tags.valueof(_ORIENTATION, 0))
        return Directory(
            _with_first_directory(data, picture.offset, file.is_bigtiff, file.byteorder),
            is_raw=False,
            orientation=orientation if orientation in range(1, 9) else 0,
            size=(int(picture.imagewidth), int(picture.imagelength)),
            others=others,
        )


def read_samples(data: bytes, path: Path) -> np.ndarray | None:
    """Return the picture in the first directory, if it is grey or RGB of 8 or 16 bits.

    Returns:
        (H, W, 1 to 4) uint8 or uint16: grey, grey and alpha, RGB, or RGBA. Alpha is not premultiplied. Extra samples
        that are not alpha are left out. None: a picture of another kind.

    Raises:
        UserError: samples that are not unsigned integers, or far too many pixels.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        if page.sampleformat not in (None, 1, 4):  # 4: not stated
            raise UserError(f"{path}: its samples are not unsigned integers; save it as RGB of 8 or 16 bit.")
        colours = {_MIN_IS_WHITE: 1, _MIN_IS_BLACK: 1, _RGB: 3}.get(int(page.photometric or 0), 0)
        is_jpeg = page.compression in (_OLD_JPEG, _JPEG)
        is_known = page.bitspersample in (8, 16) and colours <= page.samplesperpixel <= _MOST_SAMPLES
        if not colours or is_jpeg or not is_known:
            return None
        check_size(page.imagewidth, page.imagelength, path)
        samples = page.asarray(maxworkers=1)
        height, width, count = page.imagelength, page.imagewidth, page.samplesperpixel
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and count > 1:
            samples = np.moveaxis(samples.reshape(count, height, width), 0, 2)
        samples = samples.reshape(height, width, count)
        extra = [int(kind) for kind in page.extrasamples][: count - colours]
    colour = samples[:, :, :colours]
    if page.photometric == _MIN_IS_WHITE:
        colour = np.iinfo(samples.dtype).max - colour
    kind = next((kind for kind in extra if kind in (_PREMULTIPLIED, _ALPHA)), None)
    if kind is None:
        return np.ascontiguousarray(colour)
    alpha = samples[:, :, colours + extra.index(kind)][:, :, None]
    if kind == _PREMULTIPLIED:
        colour = _divide(colour, alpha)
    return np.concatenate([colour, alpha], axis=2)


def _divide(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return colours that were multiplied by ``alpha`` as they were before; black where alpha is 0."""
    peak = np.iinfo(colour.dtype).max
    result = np.zeros_like(colour)
    for row in range(len(colour)):  # a copy of the whole picture in float64 may not fit in memory
        product, share = colour[row].astype(np.float64) * peak, np.maximum(alpha[row], 1)
        result[row] = np.where(alpha[row] > 0, np.minimum(np.rint(product / share), peak), 0)
    return result


def _pictures(pages: Sequence[tifffile.TiffPage | tifffile.TiffFrame]) -> list[tifffile.TiffPage]:
    """Return the pages that are neither thumbnails nor masks."""
    return [page for page in pages if isinstance(page, tifffile.TiffPage) and _is_picture(page)]


def _is_picture(page: tifffile.TiffPage) -> bool:
    is_reduced = int(page.subfiletype) & _REDUCED or page.tags.valueof(_OLD_SUBFILE_TYPE, 1) == 2
    return not is_reduced and not int(page.subfiletype) & _MASK_BIT and page.photometric != _MASK


def _without_smaller_copies(pages: list[tifffile.TiffPage]) -> list[tifffile.TiffPage]:
    """Leave out pages each of which has half the size of the page before: not every program marks a pyramid."""

    def is_half(page: tifffile.TiffPage, before: tifffile.TiffPage) -> bool:
        sizes = ((page.imagewidth, before.imagewidth), (page.imagelength, before.imagelength))
        return all(size in (full // 2, (full + 1) // 2, 1) and size < full for size, full in sizes)

    is_pyramid = len(pages) > 1 and all(is_half(*pair) for pair in zip(pages[1:], pages, strict=False))
    return pages[:1] if is_pyramid else pages


def _area(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth * page.imagelength)


def _with_first_directory(data: bytes, offset: int, is_big: bool, byte_order: str) -> bytes:
    """Return the TIFF file with the directory at ``offset`` as its first."""
    place, code = (8, "Q") if is_big else (4, "I")
    start = struct.pack(f"{byte_order}{code}", offset)
    return data if data[place : place + len(start)] == start else data[:place] + start + data[place + len(start) :]
