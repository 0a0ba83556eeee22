"""Photographs of phones (HEIC, HEIF) and raw files of cameras, read with optional packages."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from mprnet.data import icc
from mprnet.data.cicp import cicp_profile
from mprnet.data.kinds import install_hint, is_installed
from mprnet.data.limits import check_size
from mprnet.data.metadata import Metadata
from mprnet.data.photos import Photo, photo_from_channels
from mprnet.errors import UserError

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MODES = ("L", "LA", "RGB", "RGBA", "L;16", "LA;16", "I;16", "I;16L", "RGB;16", "RGBA;16")


def is_heif(data: bytes) -> bool:
    """True if ``data`` starts as a HEIF file does whose pictures are not in AVIF."""
    length = int.from_bytes(data[:4], "big")
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and b"avif" not in data[8 : min(length, 256)]


def decode_heif(data: bytes, path: Path) -> Photo:
    """Return the main picture of a HEIF file, upright; pictures of more than 8 bits as uint16; EXIF data as stored.

    Raises:
        UserError: pillow-heif is not installed, or the picture is far too large or of an unknown kind.
    """
    if not is_installed("heif"):
        raise UserError(f"{path}: pictures in HEIC and HEIF need pillow-heif: {install_hint('heif')}.")
    import pillow_heif

    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    image = file[file.primary_index]
    check_size(image.size[0], image.size[1], path)
    if image.mode not in _MODES:
        raise UserError(f"{path}: its pixels are of the kind {image.mode}, which is not known here; save it as RGB.")
    array = np.asarray(image)
    if array.dtype == np.uint16:
        depth = image.info["bit_depth"]  # 10 or 12, in the upper bits
        array = np.rint((array >> (16 - depth)) * np.float32(65535 / (2**depth - 1))).astype(np.uint16)
    profile = image.info.get("icc_profile") or _nclx_profile(image.info.get("nclx_profile"))
    photo = photo_from_channels(array, profile)
    metadata = Metadata(exif=image.info.get("exif") or b"", xmp=image.info.get("xmp") or b"")
    return replace(photo, metadata=metadata)


def _nclx_profile(colours: dict[str, int] | None) -> bytes | None:
    """Return a profile of the colours that a HEIF file states in numbers; None for those of sRGB."""
    if not colours:
        return None
    codes = int(colours["color_primaries"]), int(colours["transfer_characteristics"])
    return None if codes == (1, 13) else cicp_profile(*codes)


def camera_file_size(data: bytes) -> tuple[int, int]:
    """Return width and height of the picture in a HEIF or raw file. Its package must be installed."""
    if is_heif(data):
        import pillow_heif

        file = pillow_heif.open_heif(io.BytesIO(data))
        width, height = file[file.primary_index].size
        return width, height
    import rawpy

    with rawpy.imread(io.BytesIO(data)) as raw:
        return raw.sizes.width, raw.sizes.height


def decode_raw(data: bytes, path: Path) -> Photo:
    """Return the photograph in a camera's raw file, developed by LibRaw: (H, W, 3) uint16 in sRGB, upright.

    White balance is the camera's. EXIF data are left to the caller.

    Raises:
        UserError: rawpy is not installed, or LibRaw cannot read the file.
    """
    if not is_installed("raw"):
        raise UserError(f"{path}: raw files of cameras need rawpy: {install_hint('raw')}.")
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            check_size(raw.sizes.raw_width, raw.sizes.raw_height, path)
            pixels = raw.postprocess(
                use_camera_wb=True, output_bps=16, output_color=rawpy.ColorSpace.sRGB, gamma=(2.4, 12.92)
            )
    except rawpy.LibRawFileUnsupportedError as error:
        raise UserError(f"{path}: a raw file of a kind that cannot be read; save it as a 16-bit TIFF.") from error
    photo = photo_from_channels(pixels)  # of a sensor without colours, grey
    curve = icc.curve_tag(icc.SRGB_CURVE)
    profile = icc.grey_profile(curve) if photo.grey else icc.rgb_profile(icc.SRGB_CHROMATICITIES, [curve])
    return replace(photo, icc=profile)
