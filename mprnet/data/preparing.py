"""Decoding the pictures of a data set once, for ``PictureCache``."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from mprnet.data.cache import (
    PictureCache,
    Record,
    digest_content,
    find_prepared_files,
    pictures_of,
    remove_unused_files,
)
from mprnet.data.limits import read_file
from mprnet.data.pairs import Pair
from mprnet.data.photo_reading import read_size
from mprnet.data.reading import decode_rgb
from mprnet.errors import UserError
from mprnet.files import write_atomically
from mprnet.processors import available_processors

_BLOCK = 4096  # file systems store files in blocks of so many bytes
# Of these, Pillow reads only the header. ``read_size`` reads the whole file, and knows all formats.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "AVIF")


@dataclass(frozen=True)
class Plan:
    """What to prepare.

    Attributes:
        pictures: to prepare.
        left_out: pictures that are more than the limit allows.
        total: bytes that all ``pictures`` take.
        missing: bytes of those that are not prepared yet.
    """

    pictures: list[Path]
    left_out: list[Path]
    total: int
    missing: int


@dataclass
class Preparation:
    """The result of ``prepare_pictures``.

    Attributes:
        decoded: how many pictures were decoded; the others were prepared already.
        problems: a sentence for each picture that cannot be read.
    """

    decoded: int = 0
    problems: list[str] = field(default_factory=list)


def plan_preparation(pairs: Sequence[Pair], cache: PictureCache, limit: int = 0) -> Plan:
    """Return what to prepare, from the headers of the pictures.

    Args:
        limit: the most bytes that the prepared pictures may take; the first pairs that fit are prepared. 0: no limit.
    """
    paths = pictures_of(pairs)
    prepared = {path for path in paths if cache.is_prepared(path)}
    sizes: dict[Path, int] = {}
    for path in tqdm(paths, "sizes", unit="picture", leave=False):
        record = cache.records.get(path)
        pixels = record.width * record.height if record and path in prepared else _count_pixels(path)
        sizes[path] = -(-3 * pixels // _BLOCK) * _BLOCK
    chosen: dict[Path, None] = {}
    total = 0
    for pair in pairs:
        new = {pair.input, pair.target} - chosen.keys()
        more = sum(sizes[path] for path in new)
        if not limit or total + more <= limit:
            total += more
            chosen |= dict.fromkeys(path for path in (pair.input, pair.target) if path in new)
    # Pictures that an interrupted preparation has decoded are not in the index yet.
    indexed = {record.digest for record in cache.records.values()}
    files = find_prepared_files(cache.folder)
    extra = sum(3 * width * height for digest, (width, height) in files.items() if digest not in indexed)
    missing = sum(size for path, size in sizes.items() if path in chosen and path not in prepared)
    left_out = [path for path in paths if path not in chosen]
    return Plan(list(chosen), left_out, total, max(0, missing - extra))


def prepare_pictures(plan: Plan, cache: PictureCache) -> Preparation:
    """Decode the pictures that are not prepared yet, and show a progress bar. Remove prepared pictures that are unused.

    All source files are read and compared with the prepared pictures. If this function is interrupted, all pictures
    that have been decoded stay, and need not be decoded again.

    Args:
        cache: its records are replaced, and its index is written.

    Raises:
        UserError: a file cannot be written.
    """
    result = Preparation()
    known = find_prepared_files(cache.folder)
    records: dict[Path, Record] = {}
    pool = ThreadPoolExecutor(available_processors())
    try:
        outcomes = pool.map(partial(_prepare, cache=cache, known=known), plan.pictures)
        bar = tqdm(outcomes, "preparing", len(plan.pictures), unit="picture")
        for path, outcome in zip(plan.pictures, bar, strict=True):
            if outcome.record is not None:
                records[path] = outcome.record
            result.decoded += outcome.is_decoded
            if outcome.problem:
                result.problems.append(outcome.problem)
    finally:
        pool.shutdown(cancel_futures=True)
    cache.records, cache.left_out = records, set(plan.left_out)
    cache.save()
    remove_unused_files(cache)
    return result


@dataclass(frozen=True)
class _Outcome:
    record: Record | None
    is_decoded: bool = False
    problem: str = ""


def _prepare(path: Path, cache: PictureCache, known: dict[str, tuple[int, int]]) -> _Outcome:
    """Prepare one picture if it is not among the ``known`` ones: sizes by digest."""
    digest = ""
    try:
        status = path.stat()  # before the file is read: if it changes meanwhile, the record does not match it
        data = read_file(path)
        digest = digest_content(data, path)
        if digest in known:
            return _Outcome(_make_record(status, digest, known[digest]))
        pixels = decode_rgb(data, path)
    except OSError as error:
        return _Outcome(None, problem=f"{path}: cannot be read ({error.strerror}).")
    except UserError as error:
        return _Outcome(_make_record(status, digest, (0, 0)), problem=str(error))
    record = _make_record(status, digest, (pixels.shape[1], pixels.shape[0]))
    write_atomically(cache.file_of(record), pixels.tobytes())
    return _Outcome(record, is_decoded=True)


def _make_record(status: os.stat_result, digest: str, size: tuple[int, int]) -> Record:
    return Record(status.st_size, status.st_mtime_ns, digest, *size)


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
