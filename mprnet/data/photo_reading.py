"""Reading the pictures that cameras and programs write, with everything that is needed to write them again."""

import contextlib
import io
import re
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mprnet.data import png, png_metadata, tiff, tiff_metadata
from mprnet.data.camera_files import camera_file_size, decode_heif, decode_raw, is_heif
from mprnet.data.exif import names_adobe_rgb, read_exif, read_orientation, read_resolution, upright
from mprnet.data.kinds import RAW
from mprnet.data.limits import read_file
from mprnet.data.metadata import (
    GAIN_MAP_NOTE,
    IPTC_RESOURCE,
    Metadata,
    adobe_rgb_profile,
    check_dpi,
    clean_xmp,
    has_gain_map,
    xmp_orientation,
)
from mprnet.data.photos import Photo, photo_from_channels
from mprnet.data.pil_modes import to_plain_mode
from mprnet.errors import UserError, one_line

# Pillow opens no others: some of its decoders start programs. PNG and TIFF are opened below.
_FORMATS = ("JPEG", "WEBP", "BMP", "GIF", "AVIF")
_JPEG_START = b"\xff\xd8\xff"


def read_photo(path: Path) -> Photo:
    """Read a picture of 8 or 16 bits, grey or RGB, with or without alpha.

    JPEG, PNG, TIFF, WebP, BMP, GIF and AVIF can be read, HEIC, HEIF and raw files of cameras with optional packages. A
    palette is replaced by its colours. 1-bit pictures become grey, CMYK becomes sRGB. The EXIF orientation is applied.

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
            return _decode(data, path)
        except UnidentifiedImageError as error:
            if data[:4] in tiff.SIGNATURES:
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


def _decode(data: bytes, path: Path) -> Photo:
    if data.startswith(png.SIGNATURE):
        return _decode_png(data, path)
    if path.suffix.lower() in RAW and not data.startswith(_JPEG_START):
        return _decode_raw(data, path)
    if data[:4] in tiff.SIGNATURES:
        return _decode_tiff(data, path)
    return _decode_heif(data, path) if is_heif(data) else _decode_other(data, path)


def _decode_other(data: bytes, path: Path) -> Photo:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _check_frames(image, path)
        orientation, exif = read_orientation(image), _get_exif(image)
        plain, icc = to_plain_mode(image, image.info.get("icc_profile"), path)
        photo = photo_from_channels(upright(np.asarray(plain), orientation), icc)
        if icc is None and image.mode != "CMYK" and names_adobe_rgb(exif):
            photo = replace(photo, icc=adobe_rgb_profile(photo.grey))
        resources = image.info.get("photoshop")
        iptc = resources.get(IPTC_RESOURCE, b"") if isinstance(resources, dict) else b""
        metadata = Metadata(xmp=image.info.get("xmp") or b"", iptc=iptc, dpi=_read_dpi(image))
    return _finish(photo, metadata, exif, orientation, _gain_map_notes(data))


def _read_dpi(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution that a file states outside of EXIF. For a JPEG that states none, Pillow says 72."""
    is_stated = image.format not in ("JPEG", "MPO") or image.info.get("jfif_unit")
    return check_dpi(image.info.get("dpi")) if is_stated else None


def _decode_png(data: bytes, path: Path) -> Photo:
    chunks = png.find_chunks(data)
    if not chunks:
        raise ValueError("a checksum is wrong, or the end is missing")
    data, others = png_metadata.split_metadata(data, chunks)
    metadata, icc = png_metadata.read_metadata(others), png_metadata.read_profile(data, others)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        _check_frames(image, path)
        _scale_transparency(image)
        image.load()  # raises an error for broken files; OpenCV ignores the damage
        image.info |= {"exif": metadata.exif, "xmp": metadata.xmp}
        orientation, exif = read_orientation(image), _get_exif(image)
        if png.bit_depth(data) == 16:
            array = _decode_16_bit_png(image, data)
        else:
            plain, icc = to_plain_mode(image, icc, path)
            array = np.asarray(plain)
    return _finish(photo_from_channels(upright(array, orientation), icc), metadata, exif, orientation)


def _decode_tiff(data: bytes, path: Path) -> Photo:
    directory = tiff.find_picture(data, path)
    if directory.is_raw:
        return _decode_raw(data, path)
    exif, icc, metadata = tiff_metadata.read_metadata(directory.data)
    samples = tiff.read_samples(directory.data, path)
    orientation = directory.orientation or xmp_orientation(metadata.xmp)
    if samples is None:
        with Image.open(io.BytesIO(directory.data), formats=("TIFF",)) as image:
            image.load()  # applies the orientation, too
            plain, icc = to_plain_mode(image, icc, path)
            photo = photo_from_channels(np.asarray(plain), icc)
    else:
        photo = photo_from_channels(upright(samples, orientation), icc)
    return _finish(photo, metadata, exif, orientation, directory.others, is_tiff=True)


def _decode_heif(data: bytes, path: Path) -> Photo:
    photo = decode_heif(data, path)
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # broken EXIF data are left out
        exif.load(photo.metadata.exif)
    # libheif has turned the picture. The orientation in EXIF data has no meaning.
    exif.pop(ExifTags.Base.Orientation, None)
    return _finish(photo, photo.metadata, exif, 1, _gain_map_notes(data))


def _decode_raw(data: bytes, path: Path) -> Photo:
    photo = decode_raw(data, path)
    exif = tiff_metadata.read_metadata(data)[0] if data[:4] in tiff.SIGNATURES else Image.Exif()
    return replace(photo, metadata=Metadata(exif=read_exif(exif, is_tiff=True)))


def _finish(
    photo: Photo,
    metadata: Metadata,
    exif: Image.Exif,
    orientation: int,
    notes: tuple[str, ...] = (),
    is_tiff: bool = False,
) -> Photo:
    """Return the upright ``photo`` with metadata that are right for it."""
    dpi = metadata.dpi or check_dpi(read_resolution(exif))
    if dpi is not None and orientation >= 5:
        dpi = dpi[::-1]
    metadata = replace(metadata, exif=read_exif(exif, is_tiff), xmp=clean_xmp(metadata.xmp), dpi=dpi)
    return replace(photo, metadata=metadata, notes=notes)


def _get_exif(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # broken EXIF data are left out
        return Image.Exif()


def _gain_map_notes(data: bytes) -> tuple[str, ...]:
    return (GAIN_MAP_NOTE,) if has_gain_map(data) else ()


def _check_frames(image: Image.Image, path: Path) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # an MPO is a JPEG that is followed by previews
        raise UserError(f"{path}: holds {frames} pages or frames; save the one to restore as a picture of its own.")


def _scale_transparency(image: Image.Image) -> None:
    """Scale the transparent grey of a PNG of 2 or 4 bits to 8 bits, as Pillow scales the pixels."""
    mode = str(image.tile[0][3]) if image.tile else ""  # type: ignore[attr-defined]
    factor = {"L;2": 85, "L;4": 17}.get(mode)
    if factor and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= factor


def _decode_16_bit_png(image: Image.Image, data: bytes) -> np.ndarray:
    """Return (H, W) or (H, W, 2 to 4) uint16. OpenCV decodes them: Pillow would reduce colours to 8 bits."""
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ValueError("its pixels cannot be decoded")
    if array.ndim == 2:
        key = image.info.get("transparency")
        return array if key is None else np.dstack([array, np.where(array == key, 0, 65535).astype(np.uint16)])
    if array.shape[2] == 4:
        array = cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA)
        return array[:, :, 2:] if png.colour_type(data) == png.GREY_ALPHA else array
    return cv2.cvtColor(array, cv2.COLOR_BGR2RGB)


def _describe_error(error: Exception) -> str:
    return (one_line(error) or type(error).__name__)[:120]


def _first_number(error: Exception) -> int:
    digits = re.search(r"\d+", str(error))
    return int(digits.group()) if digits else 0


def read_size(path: Path) -> tuple[int, int] | None:
    """Return width and height that a picture's file states, without decoding pixels; None if they cannot be read.

    The sides may be swapped: the orientation is not applied.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = read_file(path)
            if path.suffix.lower() in RAW or is_heif(data):
                return camera_file_size(data)
            if data[:4] in tiff.SIGNATURES:
                directory = tiff.find_picture(data, path)
                return camera_file_size(data) if directory.is_raw else directory.size
            with Image.open(io.BytesIO(data), formats=("PNG", *_FORMATS)) as image:
                return image.size
        except Exception:  # with a broken file, a decoder can raise any exception
            return None
