"""Writing pictures with the depth, alpha, colours and metadata that they were read with."""

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from mprnet.data.exif import without_largest_tag
from mprnet.data.icc import grey_to_rgb, is_grey_profile
from mprnet.data.metadata import Metadata, pack_iptc
from mprnet.data.photos import Photo, to_8_bit
from mprnet.data.png import encode_png
from mprnet.data.png_metadata import write_metadata
from mprnet.data.tiff_writing import encode_tiff
from mprnet.errors import UserError
from mprnet.files import write_atomically

# The name of each format, and the suffix of its files.
FORMATS = {"png": ".png", "jpg": ".jpg", "tiff": ".tif", "webp": ".webp"}
_OTHER_SUFFIXES = {".jpeg": ".jpg", ".tiff": ".tif"}
# The largest height and width, in pixels, of formats that have a limit.
_MOST_PIXELS = {".png": 1_000_000, ".jpg": 65535, ".webp": 16383}
_JPEG_QUALITY = 95
# Bytes of EXIF, XMP and IPTC data that one segment of a JPEG can hold.
_MOST_EXIF, _MOST_XMP, _MOST_IPTC = 65533, 65502, 65500
_INCH = 2  # a value of the tag ResolutionUnit


def format_suffix(path: Path) -> str:
    """Return the suffix, one of ``FORMATS``, of the format that ``path`` names: a.JPEG is written as .jpg is.

    Raises:
        UserError: another suffix.
    """
    suffix = _OTHER_SUFFIXES.get(path.suffix.lower(), path.suffix.lower())
    if suffix not in FORMATS.values():
        raise UserError(f"{path}: pictures are written as {', '.join(FORMATS.values())}.")
    return suffix


def check_format(path: Path, height: int, width: int, has_alpha: bool = False) -> None:
    """Check that the format of ``path`` can hold a picture of this size: to be called before the work.

    Raises:
        UserError: another suffix, alpha in a JPEG, or too many pixels.
    """
    suffix = format_suffix(path)
    if suffix == ".jpg" and has_alpha:
        raise UserError(f"{path}: a JPEG holds no transparency, which this picture has; choose another --format.")
    most = _MOST_PIXELS.get(suffix)
    if most is not None and max(height, width) > most:
        raise UserError(
            f"{path}: {width}x{height} pixels are too many for this format, which holds {most}x{most}; "
            "choose another --format."
        )


def write_photo(path: Path, photo: Photo, png_level: int | None = None) -> list[str]:
    """Write ``photo`` to ``path``, atomically, in the format of its suffix (``format_suffix``).

    - PNG and TIFF keep everything, but grey of 16 bits with alpha becomes RGBA in a TIFF.
    - JPEG and WebP have 8 bits. WebP has no grey and no IPTC data. A JPEG holds 64 KiB of EXIF data.

    Args:
        png_level: the level of compression of PNGs, as for ``encode_png``.

    Returns:
        What the format cannot hold of the metadata, for people. It is left out.

    Raises:
        UserError: as ``check_format``, or the file cannot be written (no space, no permission).
    """
    check_format(path, photo.height, photo.width, photo.alpha is not None)
    try:
        data, left_out = _encode(format_suffix(path), photo, png_level)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        raise UserError(f"{path}: cannot be written in this format ({error}).") from error
    write_atomically(path, data)
    return left_out


def describe_left_out(left_out: Sequence[str]) -> str:
    """Return a sentence for what is not in the result: ``Photo.notes``, and what ``write_photo`` returns."""
    return f"the result is without {' and '.join(left_out)}."


def _encode(suffix: str, photo: Photo, png_level: int | None) -> tuple[bytes, list[str]]:
    # Few programs read a TIFF with 16 bits of grey and alpha.
    as_colour = suffix == ".tif" and photo.alpha is not None and photo.pixels.dtype == np.uint16
    if photo.grey and (as_colour or suffix == ".webp"):
        profile = grey_to_rgb(photo.icc) if photo.icc and is_grey_profile(photo.icc) else photo.icc
        photo = replace(photo, grey=False, icc=profile)
    array, metadata = photo.channels(), photo.metadata
    if suffix == ".png":
        return encode_png(array, write_metadata(metadata, photo.icc), png_level), []
    left_out = ["its HDR colours (cICP)"] if metadata.png_colours and not photo.icc else []
    if suffix == ".tif":
        return encode_tiff(array, photo.alpha is not None, photo.icc, metadata), left_out
    if array.dtype == np.uint16:
        array = to_8_bit(array)
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    options, missing = _jpeg_options(metadata) if suffix == ".jpg" else _webp_options(metadata)
    if photo.icc:
        options["icc_profile"] = photo.icc
    file = io.BytesIO()
    image.save(file, **options)  # type: ignore[arg-type]
    return file.getvalue(), left_out + missing


def _jpeg_options(metadata: Metadata) -> tuple[dict[str, object], list[str]]:
    options: dict[str, object] = {"format": "JPEG", "quality": _JPEG_QUALITY, "subsampling": 0}
    exif, left_out = metadata.exif, []
    while len(exif) > _MOST_EXIF:
        exif, name = without_largest_tag(exif)
        left_out.append(f"its EXIF data {name}")
    if exif:
        options["exif"] = exif
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    if len(metadata.xmp) > _MOST_XMP:
        left_out.append("its XMP data")
    elif metadata.xmp:
        options["xmp"] = metadata.xmp
    if len(metadata.iptc) > _MOST_IPTC:
        left_out.append("its IPTC data")
    elif metadata.iptc:
        blocks = pack_iptc(metadata.iptc)
        options["extra"] = b"\xff\xed" + struct.pack(">H", len(blocks) + 2) + blocks
    return options, left_out


def _webp_options(metadata: Metadata) -> tuple[dict[str, object], list[str]]:
    options: dict[str, object] = {"format": "WEBP", "lossless": True, "exact": True}
    exif = Image.Exif()
    exif.load(metadata.exif)
    if metadata.dpi:  # a WebP has no other place for it
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = metadata.dpi
        exif[ExifTags.Base.ResolutionUnit] = _INCH
    if len(exif):
        options["exif"] = exif.tobytes()
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    return options, ["its IPTC data"] if metadata.iptc else []
