"""EXIF data: which way up a picture is, and the rest of it in a form that can be written again."""

import contextlib

import numpy as np
from PIL import ExifTags, Image

_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Tags of a TIFF's first directory that describe the picture rather than how this very file stores it.
_DESCRIPTIVE_TIFF_TAGS = frozenset({270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432})


def read_orientation(image: Image.Image) -> int:
    """Which way up the picture is, 1 to 8, by EXIF or XMP; 1 where these are broken."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def read_exif(image: Image.Image) -> tuple[int, bytes]:
    """Orientation (1 to 8) and the EXIF data without it; a picture with broken EXIF data is still a picture."""
    try:
        exif = image.getexif()
    except Exception:
        return 1, b""
    orientation = read_orientation(image)
    kept = Image.Exif()
    for tag, value in exif.items():
        wanted = tag in _DESCRIPTIVE_TIFF_TAGS if image.format == "TIFF" else tag != ExifTags.Base.Orientation
        if wanted and tag not in _DIRECTORIES and _can_be_written({tag: value}):
            kept[tag] = value
    for directory in _DIRECTORIES:
        with contextlib.suppress(Exception):
            content = {tag: value for tag, value in exif.get_ifd(directory).items() if _can_be_written({tag: value})}
            if orientation >= 5:
                _swap(content, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
            if content:
                kept.get_ifd(directory).update(content)
                kept[directory] = kept.get_ifd(directory)
    with contextlib.suppress(Exception):
        return orientation, kept.tobytes() if len(kept) else b""
    return orientation, b""


def _can_be_written(tags: dict[int, object]) -> bool:
    exif = Image.Exif()
    exif.update(tags)
    try:
        exif.tobytes()
    except Exception:  # values that do not fit their type raise whatever they trip over
        return False
    return True


def _swap(tags: dict[int, object], first: int, second: int) -> None:
    if first in tags and second in tags:
        tags[first], tags[second] = tags[second], tags[first]


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array
