"""Writing TIFF files of 8 or 16 bits, with all metadata."""

import io
import struct
from typing import Any

import numpy as np
import tifffile
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from mprnet.data.exif import TEXT_TAGS
from mprnet.data.metadata import Metadata

_XMP, _IPTC = 700, 33723
_BYTE, _ASCII, _LONG, _UNDEFINED = 1, 2, 4, 7  # types of tags
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Where a file holds the offset of its first directory.
_FIRST = 4
_HEADER = b"II*\0\x08\0\0\0"


def encode_tiff(array: np.ndarray, has_alpha: bool, icc: bytes | None, metadata: Metadata) -> bytes:
    """Return the bytes of a TIFF file, compressed without loss.

    Args:
        array: (H, W, 1 to 4) uint8 or uint16: grey, grey and alpha, RGB, or RGBA.
        has_alpha: True if the last channel is alpha.
        icc: the colour profile, or None.
    """
    exif = Image.Exif()
    exif.load(metadata.exif)
    grey = array.shape[2] <= 2
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        array[:, :, 0] if array.shape[2] == 1 else array,
        byteorder="<",
        photometric="minisblack" if grey else "rgb",
        planarconfig="contig" if array.shape[2] > 1 else None,
        extrasamples=["unassalpha"] if has_alpha else None,
        compression="zlib",
        predictor=True,
        iccprofile=icc,
        metadata=None,
        software=False,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        extratags=[*_make_text_tags(exif), *_make_binary_tags(metadata)],
    )
    return _append_directories(file.getvalue(), {code: exif.get_ifd(code) for code in _DIRECTORIES})


def _make_text_tags(exif: Image.Exif) -> list[tuple[Any, ...]]:
    tags: list[tuple[Any, ...]] = []
    for code in sorted(TEXT_TAGS):
        if isinstance(text := exif.get(code), str):
            value = text.encode("utf-8", "replace") + b"\0"
            tags.append((code, _ASCII, len(value), value, True))
    return tags


def _make_binary_tags(metadata: Metadata) -> list[tuple[Any, ...]]:
    tags = ((_XMP, _BYTE, metadata.xmp), (_IPTC, _UNDEFINED, metadata.iptc))
    return [(code, kind, len(value), value, True) for code, kind, value in tags if value]


def _append_directories(data: bytes, directories: dict[int, dict[int, Any]]) -> bytes:
    """Return the file with directories of EXIF tags at its end. Libraries that write TIFFs do not write these."""
    (start,) = struct.unpack_from("<I", data, _FIRST)
    (count,) = struct.unpack_from("<H", data, start)
    entries = [data[place : place + 12] for place in range(start + 2, start + 2 + 12 * count, 12)]
    data += b"\0" * (len(data) % 2)
    for code, tags in directories.items():
        if tags:
            content = ImageFileDirectory_v2(_HEADER, group=code)
            for tag, value in tags.items():
                content[tag] = value
            entries.append(struct.pack("<HHII", code, _LONG, 1, len(data)))
            data += content.tobytes(len(data))
            data += b"\0" * (len(data) % 2)
    if len(entries) == count:
        return data
    # The first directory again, with the offsets of the new ones; the old one stays behind, unused.
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    first = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:_FIRST] + struct.pack("<I", len(data)) + data[_FIRST + 4 :] + first
