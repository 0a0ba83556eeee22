"""What a picture file holds beside its pixels, and is written again: EXIF, XMP, IPTC, resolution and colours."""

import re
import struct
from dataclasses import dataclass

from mprnet.data.icc import SRGB_CHROMATICITIES, Chromaticities, curve_tag, grey_profile, rgb_profile
from mprnet.data.png import Chunk

# The chromaticities and the curve of Adobe RGB (1998), which cameras name in EXIF data instead of adding a profile.
_ADOBE_RGB: Chromaticities = (*SRGB_CHROMATICITIES[:4], 0.21, 0.71, 0.15, 0.06)
_ADOBE_RGB_GAMMA = 563 / 256
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>)\s*)(\d)(?!\d)")
# Statements about a second image with the brightness for HDR displays, which is not in the result.
_GAIN_MAP = re.compile(
    rb"""\shdrgm:\w+\s*=\s*("[^"]*"|'[^']*')|<hdrgm:(\w+)[^>]*>.*?</hdrgm:\2>"""
    rb"""|<(Gain)?Container:Directory>.*?</(Gain)?Container:Directory>""",
    re.DOTALL,
)
_GAIN_MAP_SIGNS = (b"hdrgm:Version", b"HDRGainMap", b"hdrgainmap")
GAIN_MAP_NOTE = "its gain map for HDR displays"
_PHOTOSHOP = b"Photoshop 3.0\0"
IPTC_RESOURCE = 0x0404


@dataclass(frozen=True)
class Metadata:
    """Metadata of a picture, beside its colour profile.

    Attributes:
        exif: EXIF data without orientation, as Pillow's ``Exif.tobytes`` returns it; empty if there is none.
        xmp: an XMP packet (XML), or empty.
        iptc: IPTC data (IIM), or empty.
        dpi: horizontal and vertical resolution in pixels per inch, or None.
        png_colours: PNG chunks that state the same colours as the profile.
        png_texts: text chunks of a PNG.
    """

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    dpi: tuple[float, float] | None = None
    png_colours: tuple[Chunk, ...] = ()
    png_texts: tuple[Chunk, ...] = ()


def clean_xmp(xmp: object) -> bytes:
    """Return an XMP packet for an upright picture without a gain map."""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, (bytes, bytearray)):
        return b""
    cleaned = _XMP_ORIENTATION.sub(rb"\g<1>1", bytes(xmp).rstrip(b"\0"))
    return _GAIN_MAP.sub(b"", cleaned) if has_gain_map(cleaned) else cleaned


def xmp_orientation(xmp: bytes) -> int:
    """Return the orientation that an XMP packet states, 1 to 8; 1 if it states none."""
    found = _XMP_ORIENTATION.search(xmp)
    orientation = int(found[2]) if found else 1
    return orientation if orientation in range(1, 9) else 1


def has_gain_map(data: bytes) -> bool:
    """True if a file, or its XMP packet, speaks of a gain map for HDR displays."""
    return any(sign in data for sign in _GAIN_MAP_SIGNS)


def check_dpi(dpi: object) -> tuple[float, float] | None:
    """Return a resolution as two numbers that every format can hold; None if it is none."""
    try:
        x, y = (float(value) for value in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if 1 < x < 2**15 and 1 < y < 2**15 else None


def adobe_rgb_profile(grey: bool) -> bytes | None:
    """Return a profile of the colour space Adobe RGB (1998), for grey pictures or for colours."""
    curve = curve_tag((_ADOBE_RGB_GAMMA,))
    return grey_profile(curve) if grey else rgb_profile(_ADOBE_RGB, [curve])


def pack_iptc(iptc: bytes) -> bytes:
    """Return IPTC data as an image resource block of Photoshop, in which JPEGs and PNGs hold it."""
    block = b"8BIM" + struct.pack(">HHI", IPTC_RESOURCE, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    return _PHOTOSHOP + block


def unpack_iptc(blocks: bytes) -> bytes:
    """Return the IPTC data of Photoshop's image resource blocks, or data without blocks as it is."""
    data = blocks.removeprefix(_PHOTOSHOP)
    if not data.startswith(b"8BIM"):
        return data if data.startswith(b"\x1c") else b""
    while data.startswith(b"8BIM") and len(data) >= 12:
        name = data[6] + 1 + (data[6] + 1) % 2
        (kind,) = struct.unpack_from(">H", data, 4)
        content = data[6 + name :]
        if len(content) < 4:
            return b""
        (length,) = struct.unpack_from(">I", content)
        if kind == IPTC_RESOURCE:
            return content[4 : 4 + length]
        data = content[4 + length + length % 2 :]
    return b""
