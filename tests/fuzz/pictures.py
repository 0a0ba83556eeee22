"""Damaged pictures of every format, through the readers and writers."""

import io
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from apps import odd_files
from data.test_photo_reading import heif_file, raw_file
from PIL import Image

from fuzz.damage import damage
from mprnet import UserError
from mprnet.data.photo_reading import read_photo
from mprnet.data.photo_writing import FORMATS, write_photo
from mprnet.data.photos import Photo
from mprnet.data.reading import read_picture

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
_SUFFIXES = [".png", ".jpg", ".tif", ".webp", ".heic", ".dng", ".avif", ".gif"]


@cache
def sound_files() -> list[bytes]:
    """Return sound pictures of all formats, with all kinds of metadata."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 56, 3)).astype(np.uint8))
    files = [data for data, _ in odd_files.right().values()]
    for format_, options in (
        ("AVIF", {}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("WEBP", {"quality": 80}),
        ("JPEG", {"progressive": True, "dpi": (300, 300), "xmp": b"<x:xmpmeta/>"}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("TIFF", {"compression": "packbits", "dpi": (72, 72)}),
        ("GIF", {}),
        ("BMP", {}),
        ("MPO", {"save_all": True, "append_images": [image]}),
    ):
        file = io.BytesIO()
        image.save(file, format_, **options)
        files.append(file.getvalue())
    for options in ({"tile": (16, 16)}, {"planarconfig": "separate"}, {"compression": "zstd"}):
        file = io.BytesIO()
        array = np.asarray(image).astype(np.uint16) * 257
        array = array.transpose(2, 0, 1).copy() if "planarconfig" in options else array
        tifffile.imwrite(file, array, photometric="rgb", **options)
        files.append(file.getvalue())
    return [*files, raw_file(), heif_file(8), heif_file(10)]


def _try(read: Callable[[Path], Photo], path: Path) -> tuple[Photo | None, str]:
    """Return the picture, or None and the error's sentence."""
    try:
        return read(path), ""
    except UserError as error:
        return None, str(error)


def run(seed: int) -> str:
    """Read a damaged picture in both ways; if it can be read, write it in every format and read it again."""
    sound = sound_files()
    rng = np.random.default_rng(max(seed, 0))
    data = damage(rng, sound) if seed >= 0 else sound[0]
    path = _FOLDER / f"picture{_SUFFIXES[rng.integers(len(_SUFFIXES))]}"
    path.write_bytes(data)
    photo, sentence = _try(read_photo, path)
    picture, other = _try(read_picture, path)
    if sentence != other:
        raise AssertionError(f"read_photo: {sentence}; read_picture: {other}")
    if photo is None:
        return "memory" if "not enough memory" in sentence else "refused"
    np.testing.assert_array_equal(picture.pixels, photo.pixels)
    for suffix in FORMATS.values():
        result = path.with_name(f"result{suffix}")
        try:
            write_photo(result, photo)
        except UserError as error:
            if not any(limit in str(error) for limit in ("holds no transparency", "too many for this format")):
                raise AssertionError from error
            continue
        again = read_photo(result)
        if suffix in (".png", ".tif"):
            np.testing.assert_array_equal(again.pixels, photo.pixels)
    return "read"
