"""Metadata in PNG chunks (PNG, third edition)."""

import struct
import zlib
from collections.abc import Sequence

from mprnet.data import icc
from mprnet.data.cicp import cicp_profile
from mprnet.data.limits import decompress_metadata
from mprnet.data.metadata import Metadata, check_dpi, pack_iptc, unpack_iptc
from mprnet.data.png import GREY, GREY_ALPHA, Chunk, colour_type

# Of 1 / gamma, times 100000; others make no sense.
_GAMMAS = range(10_000, 1_000_001)
_METRE = 1 / 0.0254  # in inches
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW_PROFILE = b"Raw profile type "  # what ImageMagick calls EXIF, IPTC and other data in text chunks
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Chunks that decoding needs. The others may be larger than decoders allow, and are read here.
_DECODED = (b"tRNS", b"acTL", b"fcTL", b"fdAT")


def split_metadata(data: bytes, chunks: Sequence[tuple[bytes, int, int]]) -> tuple[bytes, list[Chunk]]:
    """Return a PNG file with only what decoding needs, and the other chunks.

    Args:
        chunks: all chunks, as ``find_chunks`` returns them.
    """
    others = [(kind, start, end) for kind, start, end in chunks if kind[0] & 32 and kind not in _DECODED]
    if not others:
        return data, []
    parts, position = [], 0
    for _, start, end in others:
        parts.append(data[position:start])
        position = end
    parts.append(data[position:])
    return b"".join(parts), [(kind, data[start + 8 : end - 4]) for kind, start, end in others]


def read_metadata(chunks: Sequence[Chunk]) -> Metadata:
    """Return the metadata of a PNG; EXIF and XMP as stored, with their orientation."""
    content = dict(reversed(chunks))  # the first of each kind
    exif, xmp, iptc = content.get(b"eXIf", b""), b"", b""
    texts = []
    for chunk in chunks:
        keyword, text = _read_text(chunk)
        if keyword == _XMP_KEYWORD:
            xmp = xmp or text
        elif keyword.startswith(_RAW_PROFILE):
            kind, profile = keyword.removeprefix(_RAW_PROFILE), _read_raw_profile(text)
            if kind in (b"exif", b"APP1") and not exif:
                exif = profile if kind == b"exif" or profile.startswith(b"Exif") else b""
            iptc = iptc or (unpack_iptc(profile) if kind == b"iptc" else b"")
            xmp = xmp or (profile if kind == b"xmp" else b"")
        elif chunk[0] in _TEXTS:
            texts.append(chunk)
    colours = [(kind, content[kind]) for kind in _colour_kinds(content)]
    return Metadata(exif, xmp, iptc, _read_dpi(content.get(b"pHYs", b"")), tuple(colours), tuple(texts))


def read_profile(data: bytes, chunks: Sequence[Chunk]) -> bytes | None:
    """Return the colour profile of a PNG, or one with the colours that its chunks state; None if it states none.

    Args:
        data: the file.
        chunks: all chunks beside pixels.
    """
    content = dict(reversed(chunks))
    kinds = _colour_kinds(content)
    is_grey = colour_type(data) in (GREY, GREY_ALPHA)
    if b"iCCP" in kinds:
        return decompress_metadata(content[b"iCCP"].partition(b"\0")[2][1:]) or None
    if b"cICP" in kinds:
        primaries, transfer, matrix, is_full = content[b"cICP"]
        return cicp_profile(primaries, transfer, is_grey) if matrix == 0 and is_full == 1 else None
    chromaticities, curve = icc.SRGB_CHROMATICITIES, icc.SRGB_CURVE
    if b"cHRM" in kinds:
        x = struct.unpack(">8I", content[b"cHRM"])
        chromaticities = tuple(value / 1e5 for value in x)
    if b"gAMA" in kinds:
        (gamma,) = struct.unpack(">I", content[b"gAMA"])
        curve = (1e5 / gamma,)
    if not kinds:
        return None
    tag = icc.curve_tag(curve)
    return icc.grey_profile(tag) if is_grey else icc.rgb_profile(chromaticities, [tag])


def write_metadata(metadata: Metadata, profile: bytes | None) -> list[Chunk]:
    """Return the chunks that hold metadata and colours. Colours that came from a PNG are stated as they were."""
    chunks = list(metadata.png_colours)
    if not chunks and profile:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    if metadata.dpi:
        x, y = (round(value * _METRE) for value in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    if metadata.iptc:
        blocks = pack_iptc(metadata.iptc)
        text = f"\niptc\n{len(blocks):8}\n{blocks.hex()}\n".encode()
        chunks.append((b"zTXt", _RAW_PROFILE + b"iptc\0\0" + zlib.compress(text)))
    return [*chunks, *metadata.png_texts]


def _colour_kinds(content: dict[bytes, bytes]) -> list[bytes]:
    """Return the kinds of chunks that state the colours, by their order of precedence."""
    if len(content.get(b"cICP", b"")) == 4:
        return [kind for kind in (b"cICP", b"mDCV", b"cLLI") if kind in content]
    if b"iCCP" in content:
        return [b"iCCP"]
    if len(content.get(b"sRGB", b"")) == 1:
        return [b"sRGB"]
    kinds = [b"cHRM"] if len(content.get(b"cHRM", b"")) == 32 else []
    (gamma,) = struct.unpack(">I", content.get(b"gAMA", b"").rjust(4, b"\0")[:4])
    return [*kinds, b"gAMA"] if gamma in _GAMMAS else kinds


def _read_text(chunk: Chunk) -> tuple[bytes, bytes]:
    """Return keyword and text of a text chunk; nothing for other chunks. Only what is read here is decompressed."""
    kind, content = chunk
    keyword, _, text = content.partition(b"\0")
    if kind not in _TEXTS or not (keyword == _XMP_KEYWORD or keyword.startswith(_RAW_PROFILE)):
        return b"", b""
    if kind == b"zTXt":
        text = decompress_metadata(text[1:])
    elif kind == b"iTXt":
        is_compressed, text = text[:1] == b"\1", text[2:].partition(b"\0")[2].partition(b"\0")[2]
        text = decompress_metadata(text) if is_compressed else text
    return keyword, text


def _read_raw_profile(text: bytes) -> bytes:
    """Return the data of a raw profile: its name and length, and hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split()[2:]))
    except ValueError:
        return b""


def _read_dpi(content: bytes) -> tuple[float, float] | None:
    if len(content) != 9 or content[8] != 1:
        return None
    x, y = struct.unpack(">II", content[:8])
    return check_dpi((x / _METRE, y / _METRE))
