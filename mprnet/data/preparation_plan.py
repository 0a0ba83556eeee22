"""What to prepare for ``PictureCache``, and how much space it takes."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from mprnet.data.cache import PictureCache, find_prepared_files, pictures_of
from mprnet.data.pairs import Pair
from mprnet.data.photo_reading import read_size
from mprnet.data.reading import read_rgb
from mprnet.data.tiles import encode_tiles
from mprnet.errors import UserError
from mprnet.processors import available_processors

_BLOCK = 4096  # file systems store files in blocks of so many bytes
# Of these, Pillow reads only the header. ``read_size`` reads the whole file, and knows all formats.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "AVIF")
_COMPRESSED = 16  # so many pictures are compressed for an estimate
_SURPLUS = 1.1  # factor of the estimate


@dataclass(frozen=True)
class Plan:
    """What to prepare.

    Attributes:
        pictures: to prepare.
        left_out: pictures that are more than the limit allows.
        total: bytes that all ``pictures`` take.
        missing: bytes of those that are not prepared yet.
        tiled: the pictures are stored as compressed tiles. False: as pixels.
    """

    pictures: list[Path]
    left_out: list[Path]
    total: int
    missing: int
    tiled: bool = False


def plan_preparation(pairs: Sequence[Pair], cache: PictureCache, limit: int = 0) -> Plan:
    """Return what to prepare as pixels, from the headers of the pictures.

    Args:
        limit: the most bytes that the prepared pictures may take; the first pairs that fit are prepared. 0: no limit.
    """
    paths = pictures_of(pairs)
    prepared = _find_prepared(paths, cache, tiled=False)
    sizes = _measure(paths, cache, prepared)
    chosen: dict[Path, None] = {}
    total = 0
    for pair in pairs:
        new = {pair.input, pair.target} - chosen.keys()
        more = sum(sizes[path] for path in new)
        if not limit or total + more <= limit:
            total += more
            chosen |= dict.fromkeys(path for path in (pair.input, pair.target) if path in new)
    missing = sum(size for path, size in sizes.items() if path in chosen and path not in prepared)
    left_out = [path for path in paths if path not in chosen]
    return Plan(list(chosen), left_out, total, max(0, missing - _count_interrupted(cache, tiled=False)))


def plan_tiles(pairs: Sequence[Pair], cache: PictureCache) -> Plan:
    """Return what to prepare as compressed tiles: all pictures.

    The bytes of those that are not prepared yet are estimated: a few of them are compressed. The estimate is a little
    high, because the few may be smaller than the others.
    """
    paths = pictures_of(pairs)
    prepared = _find_prepared(paths, cache, tiled=True)
    sizes = _measure(paths, cache, prepared)
    new = [path for path in paths if path not in prepared and sizes[path]]
    share = _estimate_share(new[:: -(-len(new) // _COMPRESSED)]) if new else 0.0
    missing = round(_SURPLUS * share * sum(sizes[path] for path in new))
    total = missing + sum(sizes[path] for path in prepared)
    return Plan(paths, [], total, max(0, missing - _count_interrupted(cache, tiled=True)), tiled=True)


def _find_prepared(paths: Sequence[Path], cache: PictureCache, tiled: bool) -> set[Path]:
    """Return the pictures that are prepared in a form, or could not be read."""
    prepared = {path for path in paths if cache.is_prepared(path)}
    return {path for path in prepared if not cache.records[path].width or bool(cache.records[path].tiles) == tiled}


def _measure(paths: Sequence[Path], cache: PictureCache, prepared: set[Path]) -> dict[Path, int]:
    """Return how many bytes each picture takes: as it is stored if it is ``prepared``, else as pixels."""
    sizes = {}
    for path in tqdm(paths, "sizes", unit="picture", leave=False, disable=None):
        stored = cache.records[path].stored if path in prepared else 3 * _count_pixels(path)
        sizes[path] = -(-stored // _BLOCK) * _BLOCK
    return sizes


def _estimate_share(paths: Sequence[Path]) -> float:
    """Return the bytes of pictures as tiles, as a share of their bytes as pixels; 1 if none of them can be read."""

    def measure(path: Path) -> tuple[int, int]:
        try:
            pixels = read_rgb(path)
        except UserError:
            return 0, 0
        return len(encode_tiles(pixels)), pixels.nbytes

    with ThreadPoolExecutor(available_processors()) as pool:
        sizes = list(
            tqdm(pool.map(measure, paths), "estimating", len(paths), unit="picture", leave=False, disable=None)
        )
    compressed, raw = (sum(column) for column in zip(*sizes, strict=True))
    return compressed / raw if raw else 1.0


def _count_interrupted(cache: PictureCache, tiled: bool) -> int:
    """Return the bytes of the pictures that an interrupted preparation has written. The index does not have them."""
    indexed = {record.digest for record in cache.records.values() if bool(record.tiles) == tiled}
    files = find_prepared_files(cache.folder, tiled)
    return sum(tiles or 3 * w * h for digest, (w, h, tiles) in files.items() if digest not in indexed)


def _count_pixels(path: Path) -> int:
    """Return how many pixels a picture has, from its header; 0 if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of large pictures
            with Image.open(path, formats=_FORMATS) as image:
                width, height = image.size
    except Exception:  # another format, or a broken file, with which a decoder can raise any exception
        width, height = read_size(path) or (0, 0)
    return width * height
