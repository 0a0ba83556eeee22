"""Restoring the pictures of a folder, reading and writing them beside the network."""

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NoReturn

import numpy as np
import torch
from tqdm import tqdm

from mprnet.data.photo_writing import write_photo
from mprnet.data.photos import Photo, read_photo
from mprnet.data.tensors import to_array, to_tensor
from mprnet.errors import UserError
from mprnet.inference.jobs import Job
from mprnet.inference.restorer import Restorer
from mprnet.inference.tile_size import is_out_of_memory

# Files read and written at a time, beside the network, and how many pictures wait before and after it.
_THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))
_AHEAD = _THREADS
_GAP = 8  # white pixels between the two halves of a comparison


@dataclass
class Report:
    """What became of a folder."""

    failures: list[UserError] = field(default_factory=list)
    done: int = 0
    seconds: float = 0.0
    restoring: float = 0.0  # seconds of these that the network ran


def restore_all(jobs: Sequence[Job], restorer: Restorer) -> Report:
    """Do all jobs under a progress bar, reading ahead and writing behind, so that the network never waits for files.

    What fails is said at once and returned, and the others go on. Small pictures of one size, one after the other, are
    restored together where the device gains by it. Stopped, it still writes what is restored.
    """
    report = Report()
    start = time.perf_counter()
    with (
        ThreadPoolExecutor(_THREADS, "read") as readers,
        ThreadPoolExecutor(_THREADS, "write") as writers,
        tqdm(total=len(jobs), unit="picture", disable=not jobs) as bar,
    ):
        restorer.on_tile = lambda done, total: bar.set_postfix_str(f"tile {done} of {total}")
        try:
            written: deque[Future[None]] = deque()
            for group in _groups(_read_ahead(jobs, readers, report, bar), restorer):
                begin = time.perf_counter()
                results = _restore(group, restorer)
                report.restoring += time.perf_counter() - begin
                for (job, photo), result in zip(group, results, strict=True):
                    written.append(writers.submit(_write, job, photo, result))
                while len(written) > _AHEAD:
                    _note(written.popleft(), report, bar)
            while written:
                _note(written.popleft(), report, bar)
        finally:
            restorer.on_tile = None
            readers.shutdown(wait=False, cancel_futures=True)
    report.seconds = time.perf_counter() - start
    return report


def _read_ahead(
    jobs: Sequence[Job], readers: ThreadPoolExecutor, report: Report, bar: "tqdm[NoReturn]"
) -> Iterator[tuple[Job, Photo]]:
    """The pictures in turn, the next ones being read meanwhile."""
    waiting: deque[tuple[Job, Future[Photo]]] = deque()
    rest = iter(jobs)
    while True:
        for job in islice(rest, _AHEAD + 1 - len(waiting)):
            waiting.append((job, readers.submit(read_photo, job.source)))
        if not waiting:
            return
        job, photo = waiting.popleft()
        bar.set_description(job.source.name)
        if (error := photo.exception()) is None:
            yield job, photo.result()
        else:
            _fail(error, report, bar)


def _groups(photos: Iterable[tuple[Job, Photo]], restorer: Restorer) -> Iterator[list[tuple[Job, Photo]]]:
    """Neighbours of one size, as many as the device takes at a time."""
    group: list[tuple[Job, Photo]] = []
    for job, photo in photos:
        size = photo.pixels.shape[:2]
        if group and (size != group[0][1].pixels.shape[:2] or len(group) >= restorer.batch_size(*size)):
            yield group
            group = []
        group.append((job, photo))
        if restorer.batch_size(*size) == 1:
            yield group
            group = []
    if group:
        yield group


def _restore(group: Sequence[tuple[Job, Photo]], restorer: Restorer) -> list[np.ndarray | UserError]:
    """Each picture restored, (H, W, 3) float32 in [0, 1], or why it is not."""
    if len(group) == 1:
        ((job, photo),) = group
        try:
            with _enough_memory():
                return [restorer(photo.as_float())]
        except UserError as error:
            return [UserError(f"{job.source}: {error}")]
    try:
        with _enough_memory():
            batch = torch.stack([to_tensor(photo.as_float()) for _, photo in group])
            return [to_array(restored) for restored in restorer(batch)]
    except UserError:  # one of them may be the cause
        return [result for one in group for result in _restore([one], restorer)]


def _write(job: Job, photo: Photo, restored: np.ndarray | UserError) -> None:
    if isinstance(restored, UserError):
        raise restored
    with _enough_memory(f"{job.source}: "):
        result = photo.with_image(restored)
        write_photo(job.result, result)
        if job.comparison is not None:
            write_photo(job.comparison, side_by_side(photo, result))


@contextlib.contextmanager
def _enough_memory(whose: str = "") -> Iterator[None]:
    """Where memory runs out beside the network, a picture is too large, and the next one may not be."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"{whose}there is not enough memory for it.") from error


def _note(written: "Future[None]", report: Report, bar: "tqdm[NoReturn]") -> None:
    if (error := written.exception()) is not None:
        _fail(error, report, bar)
    else:
        report.done += 1
        bar.update()


def _fail(error: BaseException, report: Report, bar: "tqdm[NoReturn]") -> None:
    if not isinstance(error, UserError):
        raise error
    report.failures.append(UserError(str(error)))  # without its traceback, which holds the picture
    bar.update()
    tqdm.write(f"error: {error}", file=sys.stderr)


def side_by_side(before: Photo, after: Photo) -> Photo:
    """Both pictures in one, without their alpha, ``before`` on the left."""
    gap = np.full((before.pixels.shape[0], _GAP, 3), before.peak, before.pixels.dtype)
    return Photo(np.concatenate([before.pixels, gap, after.pixels], axis=1), grey=before.grey, icc=before.icc)
