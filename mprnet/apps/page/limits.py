"""What one picture of a visitor may take: pixels and time."""

import time
from pathlib import Path

from mprnet.data.photo_reading import read_photo, read_size
from mprnet.data.photos import Photo
from mprnet.errors import UserError


def read_limited(path: Path, megapixels: float) -> Photo:
    """Read a picture of at most so many megapixels. The pixels of larger ones are not decoded.

    Raises:
        UserError: it is larger, or it cannot be read.
    """
    _check_size(path, read_size(path) or (0, 0), megapixels)  # if it is not known now, it is known after decoding
    photo = read_photo(path)
    _check_size(path, (photo.width, photo.height), megapixels)
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
