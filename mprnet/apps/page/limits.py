"""What one picture of a visitor may take: pixels and time."""

import time
import warnings
from pathlib import Path

from PIL import Image

from mprnet.data.photo_reading import read_photo
from mprnet.data.photos import Photo
from mprnet.errors import UserError

# Formats whose head Pillow reads. Some of its other decoders start programs.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF")


def read_limited(path: Path, megapixels: float) -> Photo:
    """Read a picture of at most so many megapixels. The pixels of larger ones are not decoded.

    Raises:
        UserError: it is larger, or it cannot be read.
    """
    _check_size(path, _read_size(path), megapixels)
    photo = read_photo(path)
    height, width = photo.pixels.shape[:2]
    _check_size(path, (width, height), megapixels)
    return photo


class TimeLimit:
    """The time for one picture, which begins now.

    Args:
        path: the picture.
        minutes: how long it may take.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self._path = path
        self._minutes = minutes
        self._end = time.monotonic() + 60 * minutes

    def check(self) -> None:
        """Raise UserError if the time is over."""
        if time.monotonic() > self._end:
            raise UserError(
                f"{self._path}: takes longer than {self._minutes:g} minutes, the limit of this page; choose an earlier "
                f"stage or smaller weights, or make the picture smaller."
            )


def _check_size(path: Path, size: tuple[int, int], limit: float) -> None:
    megapixels = size[0] * size[1] / 1e6
    if megapixels > limit:
        raise UserError(
            f"{path}: has {megapixels:.3g} megapixels, and this page takes at most {limit:g}; make the picture "
            f"smaller, or cut it up."
        )


def _read_size(path: Path) -> tuple[int, int]:
    """Return the width and height that the head of a file states, without decoding its pixels.

    If Pillow cannot tell, as for HEIC and raw files, (0, 0): then ``read_photo`` says why, or the size is known
    afterwards.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures, and of odd metadata
        try:
            with Image.open(path, formats=_FORMATS) as image:
                return image.size
        except Exception:  # with a broken file, a decoder can raise any exception
            return 0, 0
