"""Writing pictures: whole or not at all, with the depth, alpha, EXIF and colour profile they came with."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from mprnet.data.photos import Photo
from mprnet.errors import UserError
from mprnet.files import write_whole

# Suffix of the files by the name of the format.
FORMATS = {"png": ".png", "jpg": ".jpg", "tiff": ".tif", "webp": ".webp"}
_JPEG_QUALITY = 95


def write_photo(path: Path, photo: Photo) -> None:
    """Write ``photo`` in the format that the suffix of ``path`` names, one of ``FORMATS``.

    PNG keeps everything, and so does TIFF, with two exceptions: a 16-bit TIFF has no EXIF, and 16 bits of grey with
    alpha become RGBA in it. JPEG and WebP hold 8 bits, and WebP has no grey. Grey that becomes colour loses its
    profile.

    Raises:
        UserError: the format cannot hold the picture (alpha in a JPEG, too many pixels), or the file cannot be
            written (no space, no permission).
    """
    if path.suffix == ".jpg" and photo.alpha is not None:
        raise UserError(f"{path}: a JPEG holds no transparency, which this picture has; choose another --format.")
    try:
        data = _encode(path.suffix, photo)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        raise UserError(f"{path}: cannot be written in this format ({error}).") from error
    write_whole(path, data)


def _encode(suffix: str, photo: Photo) -> bytes:
    # Few programs read a TIFF with 16 bits of grey and alpha.
    as_colour = suffix == ".tif" and photo.alpha is not None and photo.pixels.dtype == np.uint16
    if photo.grey and (as_colour or suffix == ".webp"):
        photo = replace(photo, grey=False, icc=None)  # a profile for grey does not fit colours
    array = photo.channels()
    if array.dtype == np.uint16 and suffix == ".png":
        return _encode_png_16_bit(array, photo.exif, photo.icc)
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
        array = np.rint(array / 257).astype(np.uint8)
    options = dict(_FORMAT_OPTIONS[suffix])
    if photo.exif:
        options["exif"] = photo.exif
        options.pop("compression", None)  # Pillow's compressed TIFFs cannot hold EXIF's directories
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


def _encode_png_16_bit(array: np.ndarray, exif: bytes = b"", icc: bytes | None = None) -> bytes:
    """A PNG of (H, W, 1 to 4) uint16.

    Pillow does not write 16 bits of colour, and OpenCV's imencodeWithMetadata (4.12) does not write grey with alpha.
    """
    height, width, channels = array.shape
    rows = np.ascontiguousarray(array.astype(">u2")).view(np.uint8).reshape(height, -1)
    # Filter 2, "up": each row minus the one above, modulo 256; a byte before each row says so.
    filtered = np.full((height, rows.shape[1] + 1), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
