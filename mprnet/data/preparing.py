"""Decoding the pictures of a data set once, for ``PictureCache``."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from mprnet.data.cache import (
    PictureCache,
    Record,
    digest_content,
    find_prepared_files,
    remove_unused_files,
)
from mprnet.data.limits import read_file
from mprnet.data.preparation_plan import Plan
from mprnet.data.reading import decode_rgb
from mprnet.data.tiles import encode_tiles
from mprnet.errors import UserError
from mprnet.files import write_atomically
from mprnet.processors import available_processors


@dataclass
class Preparation:
    """The result of ``prepare_pictures``.

    Attributes:
        decoded: how many pictures were decoded; the others were prepared already.
        problems: a sentence for each picture that cannot be read.
    """

    decoded: int = 0
    problems: list[str] = field(default_factory=list)


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
    known = find_prepared_files(cache.folder, plan.tiled)
    records: dict[Path, Record] = {}
    pool = ThreadPoolExecutor(available_processors())
    try:
        outcomes = pool.map(partial(_prepare, cache=cache, known=known, tiled=plan.tiled), plan.pictures)
        bar = tqdm(outcomes, "preparing", len(plan.pictures), unit="picture", disable=None)
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


def _prepare(path: Path, cache: PictureCache, known: dict[str, tuple[int, int, int]], tiled: bool) -> _Outcome:
    """Prepare one picture if it is not among the ``known`` ones: their records' last values by digest."""
    digest = ""
    try:
        status = path.stat()  # before the file is read: if it changes meanwhile, the record does not match it
        data = read_file(path)
        digest = digest_content(data, path)
        if digest in known:
            return _Outcome(_make_record(status, digest, *known[digest]))
        pixels = decode_rgb(data, path)
    except OSError as error:
        return _Outcome(None, problem=f"{path}: cannot be read ({error.strerror}).")
    except UserError as error:
        return _Outcome(_make_record(status, digest, 0, 0), problem=str(error))
    stored = encode_tiles(pixels) if tiled else pixels.tobytes()
    record = _make_record(status, digest, pixels.shape[1], pixels.shape[0], len(stored) if tiled else 0)
    write_atomically(cache.file_of(record), stored)
    return _Outcome(record, is_decoded=True)


def _make_record(status: os.stat_result, digest: str, width: int, height: int, tiles: int = 0) -> Record:
    return Record(status.st_size, status.st_mtime_ns, digest, width, height, tiles)
