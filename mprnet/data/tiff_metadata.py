"""Metadata in the first directory of a TIFF file."""

import contextlib
import io

import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from mprnet.data import icc
from mprnet.data.exif import DESCRIPTIVE_TIFF_TAGS
from mprnet.data.metadata import Metadata

_PHOTOMETRIC_RGB = 2
_XMP, _IPTC, _ICC = 700, 33723, 34675
_TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES = 301, 318, 319
_MAX_BYTES = 2**26  # of one tag


def read_metadata(data: bytes) -> tuple[Image.Exif, bytes | None, Metadata]:
    """Return EXIF tags, the colour profile (or one with the colours that other tags state), and other metadata."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        exif = _read_exif(page, data)
        metadata = Metadata(xmp=_read_bytes(page, _XMP, data), iptc=_read_bytes(page, _IPTC, data))
        profile: bytes | None = _read_bytes(page, _ICC, data)
        if not profile:
            with contextlib.suppress(Exception):  # the tags may hold anything
                profile = _make_profile(page)
    return exif, profile or None, metadata


def _read_bytes(page: tifffile.TiffPage, code: int, data: bytes) -> bytes:
    tag = page.tags.get(code)
    if tag is None or tag.valuebytecount > _MAX_BYTES:
        return b""
    return data[tag.valueoffset : tag.valueoffset + tag.valuebytecount].rstrip(b"\0" if code == _XMP else b"")


def _read_exif(page: tifffile.TiffPage, data: bytes) -> Image.Exif:
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # broken tags
        exif.load_from_fp(io.BytesIO(data))
    if not len(exif):  # Pillow reads no tags of a BigTIFF
        for code in DESCRIPTIVE_TIFF_TAGS:
            value = page.tags.valueof(code)
            if value is not None:
                exif[code] = IFDRational(*value) if isinstance(value, tuple) and len(value) == 2 else value
    return exif


def _make_profile(page: tifffile.TiffPage) -> bytes | None:
    """Return a profile from white point, primaries and transfer function; None if there are none."""
    tags = {code: page.tags.valueof(code) for code in (_WHITE_POINT, _PRIMARIES, _TRANSFER_FUNCTION)}
    if all(value is None for value in tags.values()):
        return None
    white, primaries = (np.array(tags[code] or ()).reshape(-1, 2) for code in (_WHITE_POINT, _PRIMARIES))
    chromaticities = list(icc.SRGB_CHROMATICITIES)
    if len(white) == 1 and len(primaries) == 3:
        chromaticities = [float(a / b) for a, b in (*white, *primaries)]
    curves = [icc.curve_tag(icc.SRGB_CURVE)]
    if tags[_TRANSFER_FUNCTION] is not None:
        tables = np.array(tags[_TRANSFER_FUNCTION]).reshape(-1, 2 ** int(page.bitspersample))
        # A profile's table has at most 4096 values here; 65536 would be as much as a small picture.
        tables = tables[:, np.linspace(0, tables.shape[1] - 1, min(4096, tables.shape[1])).round().astype(int)]
        curves = [icc.table_tag(table) for table in tables]
    if page.photometric == _PHOTOMETRIC_RGB:
        return icc.rgb_profile(tuple(chromaticities), curves)  # type: ignore[arg-type]
    return icc.grey_profile(curves[0])
