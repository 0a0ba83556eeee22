"""Pictures as cameras and browsers write them, read so that what goes out again can be what came in."""

import io
import re
import stat
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mprnet.data.exif import read_exif, upright
from mprnet.data.pil_modes import to_plain_mode
from mprnet.errors import UserError

# Of any file that is read; the limit in pixels is Pillow's.
_LARGEST_FILE = 2 * 2**30
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".avif"})


# How many rows are converted at a time: large pictures leave no room for several copies in floats.
_ROWS = 256


@dataclass(frozen=True)
class Photo:
    """A picture the right way up.

    Attributes:
        pixels: (H, W, 3) uint8 or uint16, RGB in the picture's own colour space; grey ones have three equal channels.
        alpha: (H, W) of the same type, or None.
        grey: whether the file held grey values.
        exif: EXIF data as Pillow's ``Exif.tobytes`` gives it (no orientation in it), or empty.
        icc: colour profile of ``pixels``, or None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    exif: bytes = b""
    icc: bytes | None = None

    @property
    def peak(self) -> int:
        """The largest value: 255 or 65535."""
        return int(np.iinfo(self.pixels.dtype).max)

    def as_float(self) -> np.ndarray:
        """Pixels as (H, W, 3) float32 in [0, 1]."""
        return np.divide(self.pixels, self.peak, dtype=np.float32)

    def channels(self) -> np.ndarray:
        """Return (H, W, 1 to 4): grey, grey and alpha, RGB, or RGBA."""
        colour = self.pixels[:, :, :1] if self.grey else self.pixels
        return colour if self.alpha is None else np.concatenate([colour, self.alpha[:, :, None]], axis=2)

    def with_image(self, image: np.ndarray) -> "Photo":
        """This picture with other pixels, (H, W, 3) float in [0, 1]: rounded to its depth, grey if it is grey."""
        pixels = np.empty(image.shape, self.pixels.dtype)
        for rows in (slice(top, top + _ROWS) for top in range(0, len(image), _ROWS)):
            part = image[rows].mean(axis=2, keepdims=True) if self.grey else image[rows]
            pixels[rows] = np.rint(np.clip(part, 0, 1) * np.float32(self.peak))
        return replace(self, pixels=pixels)


def photo_from_channels(array: np.ndarray, exif: bytes = b"", icc: bytes | None = None) -> Photo:
    """Return the photo with these channels: grey (H, W) or (H, W, 1), grey and alpha, RGB, or RGBA."""
    channels = array[:, :, None] if array.ndim == 2 else array
    grey = channels.shape[2] <= 2
    pixels = np.repeat(channels[:, :, :1], 3, axis=2) if grey else np.ascontiguousarray(channels[:, :, :3])
    alpha = np.ascontiguousarray(channels[:, :, -1]) if channels.shape[2] in (2, 4) else None
    return Photo(pixels, alpha, grey, exif, icc)


def read_photo(path: Path) -> Photo:
    """Read JPEG, PNG, TIFF, WebP, BMP and what else Pillow knows; 8 or 16 bit, grey or colour, with or without alpha.

    Palette pictures come as the colours they show, 1-bit ones as grey, CMYK as sRGB. EXIF orientation is applied.

    Raises:
        UserError: not a picture, cut short, of several pages or frames, absurdly large, or of a kind not known here.
    """
    data = _read_file(path)
    with warnings.catch_warnings():
        # Of large pictures (the limit is Pillow's error, at twice its warning) and of odd metadata.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.format == "PNG":
                    # Compares checksums, which decoding does not, and leaves the image unusable.
                    Image.open(io.BytesIO(data)).verify()
                return _decode(image, data, path)
        except UnidentifiedImageError as error:
            if data[:4] in _TIFF_BEGINNINGS:
                raise UserError(
                    f"{path}: a TIFF of a kind that cannot be read; save it as RGB of 8 or 16 bit."
                ) from error
            raise UserError(f"{path}: not a picture, or of a kind that cannot be read.") from error
        except Image.DecompressionBombError as error:
            millions = _first_number(error) // 10**6
            raise UserError(f"{path}: absurdly large ({millions} million pixels); cut it up first.") from error
        except UserError:
            raise
        except MemoryError as error:
            raise UserError(f"{path}: there is not enough memory to read it.") from error
        except Exception as error:  # decoders of broken files raise whatever they trip over
            raise UserError(f"{path}: broken or cut short ({_one_line(error)}).") from error


def _read_file(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: not a file.")
        if status.st_size > _LARGEST_FILE:
            raise UserError(f"{path}: absurdly large ({status.st_size / 2**30:.0f} GiB); cut it up first.")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    if not data:
        raise UserError(f"{path}: the file is empty.")
    return data


def _decode(image: Image.Image, data: bytes, path: Path) -> Photo:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # an MPO is a JPEG with previews behind it
        raise UserError(f"{path}: holds {frames} pages or frames; save the one to restore as a picture of its own.")
    _check_samples(image, path)
    _scale_transparency(image)
    is_16_bit = _is_16_bit(image)  # before EXIF is looked for, which may load the pixels and forget how they are stored
    if image.format == "PNG":
        image.load()  # looking for EXIF does it too, and would pass over damage
    orientation, exif = read_exif(image)
    icc = image.info.get("icc_profile")
    if is_16_bit:
        image.load()  # finds broken files, which OpenCV passes over in silence
        array = _decode_16_bit(image, data, path)
    else:
        image, icc = to_plain_mode(image, icc, path)
        array = np.asarray(image)
    if image.format != "TIFF":  # there, reading has applied it
        array = upright(array, orientation)
    return photo_from_channels(array, exif, icc)


def _check_samples(image: Image.Image, path: Path) -> None:
    if image.format == "TIFF" and set(image.tag_v2.get(339, (1,))) != {1}:  # type: ignore[attr-defined]  # SampleFormat
        raise UserError(f"{path}: its samples are no unsigned integers; save it as RGB of 8 or 16 bit.")


def _scale_transparency(image: Image.Image) -> None:
    """A PNG of 2 or 4 bits names its transparent grey in these, and Pillow shows 8."""
    mode = str(image.tile[0][3]) if image.tile else ""  # type: ignore[attr-defined]
    factor = {"L;2": 85, "L;4": 17}.get(mode)
    if factor and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= factor


def _is_16_bit(image: Image.Image) -> bool:
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,))) == 16  # type: ignore[attr-defined]  # BitsPerSample
    return image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]


def _decode_16_bit(image: Image.Image, data: bytes, path: Path) -> np.ndarray:
    """(H, W) or (H, W, 2 to 4) uint16: Pillow would give 8 bits of the colour ones."""
    known = True
    if image.format == "TIFF":
        # PhotometricInterpretation grey or RGB, PlanarConfiguration interleaved, ExtraSamples not premultiplied: OpenCV
        # misreads the others.
        tags = image.tag_v2  # type: ignore[attr-defined]
        known = tags.get(262) in (1, 2) and tags.get(284, 1) == 1 and 1 not in tags.get(338, ())
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if not known or array is None or array.dtype != np.uint16:
        raise UserError(f"{path}: a picture of 16 bits of a kind that cannot be read; save it as a 16-bit PNG.")
    if array.ndim == 2:
        key = image.info.get("transparency")
        return array if key is None else np.dstack([array, np.where(array == key, 0, 65535).astype(np.uint16)])
    if array.shape[2] == 4:
        array = cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA)
        is_grey = data[:8] == b"\x89PNG\r\n\x1a\n" and data[25] == 4  # IHDR's colour type: grey with alpha
        return array[:, :, 2:] if is_grey else array
    return cv2.cvtColor(array, cv2.COLOR_BGR2RGB)


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]


def _first_number(error: Exception) -> int:
    digits = re.search(r"\d+", str(error))
    return int(digits.group()) if digits else 0
