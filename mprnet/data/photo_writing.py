"""Writing pictures with the depth, alpha, EXIF data and colour profile that they were read with."""

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from mprnet.data.photos import Photo, to_8_bit
from mprnet.data.png import encode_16_bit
from mprnet.errors import UserError
from mprnet.files import write_atomically

# The name of each format, and the suffix of its files.
FORMATS = {"png": ".png", "jpg": ".jpg", "tiff": ".tif", "webp": ".webp"}
_OTHER_SUFFIXES = {".jpeg": ".jpg", ".tiff": ".tif"}
_JPEG_QUALITY = 95


def format_suffix(path: Path) -> str:
    """Return the suffix, one of ``FORMATS``, of the format that ``path`` names: a.JPEG is written as .jpg is.

    Raises:
        UserError: another suffix.
    """
    suffix = _OTHER_SUFFIXES.get(path.suffix.lower(), path.suffix.lower())
    if suffix not in FORMATS.values():
        raise UserError(f"{path}: pictures are written as {', '.join(FORMATS.values())}.")
    return suffix


def write_photo(path: Path, photo: Photo) -> None:
    """Write ``photo`` to ``path``, atomically, in the format of its suffix (``format_suffix``).

    - PNG keeps everything.
    - TIFF keeps everything, with two exceptions: a 16-bit TIFF has no EXIF data, and 16-bit grey with alpha becomes
      RGBA.
    - JPEG and WebP have 8 bits, and WebP has no grey.

    Grey that becomes RGB loses its colour profile.

    Raises:
        UserError: another suffix, the format cannot hold the picture (alpha in a JPEG, too many pixels), or the file
            cannot be written (no space, no permission).
    """
    suffix = format_suffix(path)
    if suffix == ".jpg" and photo.alpha is not None:
        raise UserError(f"{path}: a JPEG holds no transparency, which this picture has; choose another --format.")
    try:
        data = _encode(suffix, photo)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        raise UserError(f"{path}: cannot be written in this format ({error}).") from error
    write_atomically(path, data)


def _encode(suffix: str, photo: Photo) -> bytes:
    # Few programs read a TIFF with 16 bits of grey and alpha.
    as_colour = suffix == ".tif" and photo.alpha is not None and photo.pixels.dtype == np.uint16
    if photo.grey and (as_colour or suffix == ".webp"):
        photo = replace(photo, grey=False, icc=None)  # a profile for grey does not fit RGB
    array = photo.channels()
    if array.dtype == np.uint16 and suffix == ".png":
        return encode_16_bit(array, photo.exif, photo.icc)
    file = io.BytesIO()
    if array.dtype == np.uint16 and suffix == ".tif":
        tifffile.imwrite(
            file,
            array[:, :, 0] if array.shape[2] == 1 else array,
            photometric="minisblack" if array.shape[2] == 1 else "rgb",
            planarconfig="contig" if array.shape[2] > 1 else None,
            extrasamples=["unassalpha"] if photo.alpha is not None else None,
            compression="zlib",
            predictor=True,
            iccprofile=photo.icc,
            metadata=None,
            software=False,
        )
        return file.getvalue()
    if array.dtype == np.uint16:
        array = to_8_bit(array)
    options = dict(_FORMAT_OPTIONS[suffix])
    if photo.exif:
        options["exif"] = photo.exif
        options.pop("compression", None)  # Pillow's compressed TIFFs cannot hold EXIF directories
    if photo.icc:
        options["icc_profile"] = photo.icc
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    image.save(file, **options)  # type: ignore[arg-type]
    return file.getvalue()


_FORMAT_OPTIONS: dict[str, dict[str, object]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": _JPEG_QUALITY, "subsampling": 0},
    ".tif": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    ".webp": {"format": "WEBP", "lossless": True, "exact": True},
}
