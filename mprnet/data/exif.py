"""EXIF data: the orientation of a picture, and the other tags in a form that can be written again."""

import contextlib
from collections.abc import MutableMapping

import numpy as np
from PIL import ExifTags, Image

_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Tags in a TIFF's first directory that describe the picture. The others describe how the file stores it.
# Description, camera, program, date, artist, computer and copyright; and the resolution.
TEXT_TAGS = frozenset({270, 271, 272, 305, 306, 315, 316, 33432})
DESCRIPTIVE_TIFF_TAGS = TEXT_TAGS | {282, 283, 296}
_ADOBE_RGB = 2  # of ColorSpace


def read_orientation(image: Image.Image) -> int:
    """Return the orientation in EXIF or XMP data, 1 to 8; 1 if there is none, or if the data are broken."""
    try:
        return _orientation(image.getexif())
    except Exception:
        return 1


def _orientation(exif: Image.Exif) -> int:
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def read_exif(exif: Image.Exif, is_tiff: bool = False) -> bytes:
    """Return EXIF data without orientation. What is broken in them is left out.

    Args:
        is_tiff: ``exif`` is a TIFF's directory, most of whose tags describe how the file stores the picture.
    """
    is_turned = _orientation(exif) >= 5
    result = Image.Exif()
    for tag, value in exif.items():
        is_selected = tag in DESCRIPTIVE_TIFF_TAGS if is_tiff else tag != ExifTags.Base.Orientation
        if is_selected and tag not in _DIRECTORIES and _can_be_written({tag: value}):
            result[tag] = value
    if is_turned:
        _swap(result, ExifTags.Base.XResolution, ExifTags.Base.YResolution)
    for directory in _DIRECTORIES:
        with contextlib.suppress(Exception):
            content = {tag: value for tag, value in exif.get_ifd(directory).items() if _can_be_written({tag: value})}
            # Where a directory inside this one lies is different in the result.
            if content.pop(ExifTags.IFD.Interop, None) and exif.get_ifd(ExifTags.IFD.Interop):
                content[ExifTags.IFD.Interop] = dict(exif.get_ifd(ExifTags.IFD.Interop))
            if is_turned:
                _swap(content, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
            if content:
                result.get_ifd(directory).update(content)
                result[directory] = result.get_ifd(directory)
    with contextlib.suppress(Exception):
        return result.tobytes() if len(result) else b""
    return b""


def read_resolution(exif: Image.Exif) -> tuple[float, float] | None:
    """Return the horizontal and vertical resolution in pixels per inch, or None."""
    try:
        inch = {2: 1.0, 3: 2.54}[exif.get(ExifTags.Base.ResolutionUnit, 2)]  # in one unit of resolution
        x, y = (float(exif[tag]) * inch for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution))
    except Exception:  # not there, or broken
        return None
    return x, y


def names_adobe_rgb(exif: Image.Exif) -> bool:
    """True if EXIF data say that the pixels are in Adobe RGB, as cameras do instead of adding a profile."""
    with contextlib.suppress(Exception):
        tags = exif.get_ifd(ExifTags.IFD.Exif)
        if tags.get(ExifTags.Base.ColorSpace) == _ADOBE_RGB:
            return True
        interoperability = exif.get_ifd(ExifTags.IFD.Interop)
        return str(interoperability.get(ExifTags.Interop.InteropIndex, "")).startswith("R03")
    return False


def without_largest_tag(exif: bytes) -> tuple[bytes, str]:
    """Return EXIF data without their largest tag, and its name; empty data if none can be left out."""
    source = Image.Exif()
    source.load(exif)
    main = 0  # the directory that holds the others
    sizes = {(main, tag): _size(value) for tag, value in source.items() if tag not in _DIRECTORIES}
    for directory in _DIRECTORIES:
        sizes |= {(int(directory), tag): _size(value) for tag, value in source.get_ifd(directory).items()}
    if len(sizes) <= 1:
        return b"", "as a whole"
    largest = max(sizes, key=lambda place: sizes[place])
    result = Image.Exif()
    for other, value in source.items():
        if other not in _DIRECTORIES and (main, other) != largest:
            result[other] = value
    for other in _DIRECTORIES:
        content = {t: v for t, v in source.get_ifd(other).items() if (other, t) != largest}
        if content:
            result.get_ifd(other).update(content)
            result[other] = result.get_ifd(other)
    return result.tobytes(), ExifTags.TAGS.get(largest[1], f"tag {largest[1]}")


def _size(value: object) -> int:
    return len(value) if isinstance(value, (bytes, str, tuple)) else 1


def _can_be_written(tags: dict[int, object]) -> bool:
    exif = Image.Exif()
    exif.update(tags)
    try:
        exif.tobytes()
    except Exception:  # a value that does not fit its type can raise any exception
        return False
    return True


def _swap(tags: MutableMapping[int, object], first: int, second: int) -> None:
    if first in tags and second in tags:
        tags[first], tags[second] = tags[second], tags[first]


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return the stored image ``array``, (H, W, ...), turned and flipped as its EXIF orientation says; a view."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array
