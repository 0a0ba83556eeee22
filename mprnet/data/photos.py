"""Reading the pictures that cameras and programs write, with everything that is needed to write them again."""

import io
import re
import stat
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mprnet.data import png
from mprnet.data.exif import read_exif, upright
from mprnet.data.pil_modes import to_plain_mode
from mprnet.errors import UserError, one_line

# In bytes. Pillow has a limit in pixels.
_MAX_BYTES = 2 * 2**30
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# How many rows are converted at a time: with a large picture, memory is too small for several copies in floats.
_ROWS = 256
# Numbers of TIFF tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION, _PLANAR_CONFIGURATION = 258, 262, 284
_EXTRA_SAMPLES, _SAMPLE_FORMAT = 338, 339


@dataclass(frozen=True)
class Photo:
    """A picture in memory, upright.

    Attributes:
        pixels: (H, W, 3) uint8 or uint16, RGB in the picture's own colour space. A grey picture has three equal
            channels.
        alpha: (H, W) of the same type, or None.
        grey: True if the file holds grey values.
        exif: EXIF data without orientation, as Pillow's ``Exif.tobytes`` returns it; empty if there is none.
        icc: the colour profile of ``pixels``, or None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    exif: bytes = b""
    icc: bytes | None = None

    @property
    def peak(self) -> int:
        """The largest possible value: 255 or 65535."""
        return int(np.iinfo(self.pixels.dtype).max)

    def as_float(self) -> np.ndarray:
        """Return the pixels as (H, W, 3) float32 in [0, 1]."""
        return np.divide(self.pixels, self.peak, dtype=np.float32)

    def channels(self) -> np.ndarray:
        """Return the pixels as (H, W, 1 to 4): grey, grey and alpha, RGB, or RGBA."""
        colour = self.pixels[:, :, :1] if self.grey else self.pixels
        return colour if self.alpha is None else np.concatenate([colour, self.alpha[:, :, None]], axis=2)

    def with_image(self, image: np.ndarray) -> "Photo":
        """Return this picture with other pixels, in the same depth, and grey if this picture is grey.

        Args:
            image: (H, W, 3) float; values are clipped to [0, 1] and rounded.
        """
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
    """Read a picture of 8 or 16 bits, grey or RGB, with or without alpha.

    JPEG, PNG, TIFF, WebP, BMP and the other formats that Pillow knows can be read. A palette is replaced by its
    colours. 1-bit pictures become grey, CMYK becomes sRGB. The EXIF orientation is applied.

    Raises:
        UserError: the file is not a picture, is cut short, has several pages or frames, is far too large, or is of an
            unknown kind.
    """
    return decode_photo(read_file(path), path)


def decode_photo(data: bytes, path: Path) -> Photo:
    """Return the picture in ``data``, the content of the file ``path``; as ``read_photo``."""
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, and of large pictures. From twice that size on, it raises an error instead.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.format == "PNG":
                    # This compares checksums, which decoding does not. The image cannot be used afterwards.
                    Image.open(io.BytesIO(data)).verify()
                return _decode(image, data, path)
        except UnidentifiedImageError as error:
            if data[:4] in _TIFF_SIGNATURES:
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
        except Exception as error:  # with a broken file, a decoder can raise any exception
            raise UserError(f"{path}: broken or cut short ({_describe_error(error)}).") from error


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


def _decode(image: Image.Image, data: bytes, path: Path) -> Photo:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # an MPO is a JPEG that is followed by previews
        raise UserError(f"{path}: holds {frames} pages or frames; save the one to restore as a picture of its own.")
    _check_samples(image, path)
    _scale_transparency(image)
    is_16_bit = _is_16_bit(image)  # first: reading EXIF data may load the pixels, and how they are stored is lost then
    if image.format == "PNG":
        image.load()  # reading EXIF data would load the pixels too, but ignore damage
    orientation, exif = read_exif(image)
    icc = image.info.get("icc_profile")
    if is_16_bit:
        image.load()  # raises an error for broken files; OpenCV ignores the damage
        array = _decode_16_bit(image, data, path)
    else:
        image, icc = to_plain_mode(image, icc, path)
        array = np.asarray(image)
    if image.format != "TIFF":  # with a TIFF, reading has applied it already
        array = upright(array, orientation)
    return photo_from_channels(array, exif, icc)


def _check_samples(image: Image.Image, path: Path) -> None:
    if image.format == "TIFF" and set(image.tag_v2.get(_SAMPLE_FORMAT, (1,))) != {1}:  # type: ignore[attr-defined]
        raise UserError(f"{path}: its samples are not unsigned integers; save it as RGB of 8 or 16 bit.")


def _scale_transparency(image: Image.Image) -> None:
    """Scale the transparent grey of a PNG of 2 or 4 bits to 8 bits, as Pillow scales the pixels."""
    mode = str(image.tile[0][3]) if image.tile else ""  # type: ignore[attr-defined]
    factor = {"L;2": 85, "L;4": 17}.get(mode)
    if factor and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= factor


def _is_16_bit(image: Image.Image) -> bool:
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) == 16  # type: ignore[attr-defined]
    return image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]


def _decode_16_bit(image: Image.Image, data: bytes, path: Path) -> np.ndarray:
    """Return (H, W) or (H, W, 2 to 4) uint16. OpenCV decodes them: Pillow would reduce colours to 8 bits."""
    is_known = True
    if image.format == "TIFF":
        # Grey or RGB, interleaved, alpha not premultiplied. OpenCV reads other TIFFs wrongly.
        tags = image.tag_v2  # type: ignore[attr-defined]
        is_known = tags.get(_PHOTOMETRIC_INTERPRETATION) in (1, 2) and tags.get(_PLANAR_CONFIGURATION, 1) == 1
        is_known = is_known and 1 not in tags.get(_EXTRA_SAMPLES, ())
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if not is_known or array is None or array.dtype != np.uint16:
        raise UserError(f"{path}: a picture of 16 bits of a kind that cannot be read; save it as a 16-bit PNG.")
    if array.ndim == 2:
        key = image.info.get("transparency")
        return array if key is None else np.dstack([array, np.where(array == key, 0, 65535).astype(np.uint16)])
    if array.shape[2] == 4:
        array = cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA)
        is_grey = data.startswith(png.SIGNATURE) and png.colour_type(data) == png.GREY_ALPHA
        return array[:, :, 2:] if is_grey else array
    return cv2.cvtColor(array, cv2.COLOR_BGR2RGB)


def to_8_bit(pixels: np.ndarray) -> np.ndarray:
    """Round uint16 values, 0 to 65535, to uint8, 0 to 255."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _describe_error(error: Exception) -> str:
    return (one_line(error) or type(error).__name__)[:120]


def _first_number(error: Exception) -> int:
    digits = re.search(r"\d+", str(error))
    return int(digits.group()) if digits else 0
