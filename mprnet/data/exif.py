"""EXIF data: the orientation of a picture, and the other tags in a form that can be written again."""

import contextlib

import numpy as np
from PIL import ExifTags, Image

_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Tags in a TIFF's first directory that describe the picture. The others describe how the file stores it.
_DESCRIPTIVE_TIFF_TAGS = frozenset({270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432})


def read_orientation(image: Image.Image) -> int:
    """Return the orientation in EXIF or XMP data, 1 to 8; 1 if there is none, or if the data are broken."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def read_exif(image: Image.Image) -> tuple[int, bytes]:
    """Return the orientation (1 to 8), and the EXIF data without it. Broken EXIF data are left out."""
    try:
        exif = image.getexif()
    except Exception:
        return 1, b""
    orientation = read_orientation(image)
    result = Image.Exif()
    for tag, value in exif.items():
        is_selected = tag in _DESCRIPTIVE_TIFF_TAGS if image.format == "TIFF" else tag != ExifTags.Base.Orientation
        if is_selected and tag not in _DIRECTORIES and _can_be_written({tag: value}):
            result[tag] = value
    for directory in _DIRECTORIES:
        with contextlib.suppress(Exception):
            content = {tag: value for tag, value in exif.get_ifd(directory).items() if _can_be_written({tag: value})}
            if orientation >= 5:
                _swap(content, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
            if content:
                result.get_ifd(directory).update(content)
                result[directory] = result.get_ifd(directory)
    with contextlib.suppress(Exception):
        return orientation, result.tobytes() if len(result) else b""
    return orientation, b""


def _can_be_written(tags: dict[int, object]) -> bool:
    exif = Image.Exif()
    exif.update(tags)
    try:
        exif.tobytes()
    except Exception:  # a value that does not fit its type can raise any exception
        return False
    return True


def _swap(tags: dict[int, object], first: int, second: int) -> None:
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
