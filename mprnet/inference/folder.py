"""Restoring many picture files, while other threads read and write."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from tqdm import tqdm

from mprnet.data.photo_reading import read_photo
from mprnet.data.photo_writing import check_format, write_photo
from mprnet.data.photos import Photo
from mprnet.errors import UserError, escape_controls
from mprnet.files import file_stamp
from mprnet.inference.images import photo_to_tensor, replace_pixels
from mprnet.inference.jobs import Job
from mprnet.inference.launcher import own_processors
from mprnet.inference.out_of_memory import is_out_of_memory
from mprnet.inference.outcomes import Outcomes, Report
from mprnet.inference.restorer import Restorer

_GAP = 8  # white pixels between the two halves of a comparison
# What is said of a picture if memory runs out: the next one may be smaller.
_NO_MEMORY = "there is not enough memory for it."
# Waits for a batch, and returns each picture restored, (3, H, W), or the error.
Results = Callable[[], "list[Tensor | Exception]"]


class _Picture(NamedTuple):
    """A picture that is read.

    Attributes:
        job, photo: the picture.
        image: its pixels for the network; None: they are not needed any more.
        stamp: of the file, from before it was read.
    """

    job: Job
    photo: Photo
    image: Tensor | None
    stamp: str


def restore_all(
    jobs: Iterable[Job],
    restorer: Restorer,
    verbose: bool = False,
    png_level: int | None = None,
    total: int | None = None,
) -> Report:
    """Restore the pictures of all jobs, and show a progress bar.

    Threads read the next pictures and write the last results meanwhile, as many as there are cores, so that the network
    does not wait for files. Consecutive small pictures of one size are restored as a batch if this is faster on the
    device. If a picture fails, whatever the error, the error is printed and returned, and the other pictures are still
    restored. If the device fails several times in a row with the same error, the run stops. If the program is
    interrupted, pictures that are restored are still written.

    Args:
        jobs: they are taken one by one, shortly before their pictures are read.
        verbose: also print the tracebacks of errors that the program does not know.
        png_level: the level of compression of PNGs, as for ``encode_png``.
        total: how many jobs there are, for the progress bar. None: this is not known.
    """
    start = time.perf_counter()
    threads = own_processors()
    with (
        ThreadPoolExecutor(threads, "read") as readers,
        ThreadPoolExecutor(threads, "write") as writers,
        tqdm(total=total, unit="picture", disable=total == 0) as bar,
    ):
        restorer.on_tile = lambda done, total: bar.set_postfix_str(f"tile {done} of {total}")
        outcomes = Outcomes(bar, verbose)
        report = outcomes.report
        running: deque[tuple[list[_Picture], Results]] = deque()
        writing: deque[tuple[Job, Future[list[str]]]] = deque()

        def finish() -> None:
            """Wait for the first batch that is running, and let its results be written."""
            batch, results = running.popleft()
            for picture, result in zip(batch, _timed(results, report), strict=True):
                outcomes.note_device(result)
                writing.append((picture.job, writers.submit(_write, picture, result, png_level)))
            while len(writing) > threads:
                outcomes.finish(*writing.popleft())

        try:
            for batch in _batches(_read_ahead(jobs, restorer, readers, threads, outcomes), restorer):
                results = _timed(partial(_start, batch, restorer), report)
                running.append(([picture._replace(image=None) for picture in batch], results))
                # A GPU has its next batch before this thread waits for the last one.
                while len(running) > int(restorer.transfers.overlaps):
                    finish()
                if report.stopped:
                    break
            while running:
                finish()
            while writing:
                outcomes.finish(*writing.popleft())
        finally:
            restorer.on_tile = None
            readers.shutdown(wait=False, cancel_futures=True)
    report.seconds = time.perf_counter() - start
    return report


def _timed(call: Callable[[], Any], report: Report) -> Any:
    """Return what ``call`` returns, and count its time as time in which the network ran."""
    begin = time.perf_counter()
    result = call()
    report.restoring += time.perf_counter() - begin
    return result


def _read_ahead(
    jobs: Iterable[Job], restorer: Restorer, readers: ThreadPoolExecutor, most: int, outcomes: Outcomes
) -> Iterator[_Picture]:
    """Yield the pictures of jobs, while the next ones are read. Pictures that cannot be read are left out.

    While one picture is at the network, one other is read, and one more each time that the network had to wait, up to
    ``most``: pictures that wait take memory, and other processes could restore them.
    """
    pending: deque[tuple[Job, Future[_Picture]]] = deque()
    next_jobs = iter(jobs)
    ahead, is_first = 1, True
    while True:
        for job in islice(next_jobs, ahead + 1 - len(pending)):
            pending.append((job, readers.submit(_read, job, restorer)))
        if not pending:
            return
        job, picture = pending.popleft()
        if not is_first and not picture.done():
            ahead = min(most, ahead + 1)
        is_first = False
        outcomes.bar.set_description(escape_controls(job.source.name))
        if (error := picture.exception()) is None:
            yield picture.result()
        else:
            outcomes.fail(job, error)


def _read(job: Job, restorer: Restorer) -> _Picture:
    """Return the picture of a job, if the formats of its outputs can hold the results."""
    stamp = file_stamp(job.source)
    photo = read_photo(job.source)
    check_format(job.result, photo.height, photo.width, photo.alpha is not None)
    if job.comparison is not None:
        check_format(job.comparison, photo.height, 2 * photo.width + _GAP)
    with _name_lack_of_memory(job):
        return _Picture(job, photo, restorer.transfers.pin(photo_to_tensor(photo)), stamp)


def _batches(pictures: Iterable[_Picture], restorer: Restorer) -> Iterator[list[_Picture]]:
    """Yield consecutive pictures together if their images have one shape and dtype, ``restorer.batch_size`` at most."""
    batch: list[_Picture] = []
    for picture in pictures:
        most = restorer.batch_size(picture.photo.height, picture.photo.width)
        if batch and (_kind(picture) != _kind(batch[0]) or len(batch) >= most):  # ``most`` can fall
            yield batch
            batch = []
        batch.append(picture)
        if len(batch) >= most:  # the device does not wait for the next picture
            yield batch
            batch = []
    if batch:
        yield batch


def _kind(picture: _Picture) -> tuple[object, ...]:
    return () if picture.image is None else (picture.image.shape, picture.image.dtype)


def _start(batch: Sequence[_Picture], restorer: Restorer) -> Results:
    """Start to restore pictures of one size."""
    try:
        images = [photo_to_tensor(p.photo) if p.image is None else p.image for p in batch]
        wait = restorer.start(images)
    except Exception as error:
        results = _recover(batch, restorer, error)  # now: the error keeps the device's memory
        return lambda: results

    def finish() -> list[Tensor | Exception]:
        try:
            return [*wait()]
        except Exception as error:
            return _recover(batch, restorer, error)

    return finish


def _recover(batch: Sequence[_Picture], restorer: Restorer, error: Exception) -> list[Tensor | Exception]:
    """Return the results of pictures that could not be restored together."""
    if len(batch) > 1:  # restored one by one, only the picture that caused it fails
        return [result for picture in batch for result in _start([picture], restorer)()]
    source = batch[0].job.source
    if isinstance(error, UserError):
        return [UserError(f"{source}: {error}")]
    return [UserError(f"{source}: {_NO_MEMORY}") if is_out_of_memory(error) else error]


def _write(picture: _Picture, restored: Tensor | Exception, png_level: int | None) -> list[str]:
    """Write the outputs of a job. Return what of the file is not in the result, for people."""
    job, photo, _, stamp = picture
    if isinstance(restored, Exception):
        raise restored
    if file_stamp(job.source) not in (stamp, ""):  # its result would be newer than it, but not show it
        raise UserError(f"{job.source}: has changed while it was restored; restore it again.")
    with _name_lack_of_memory(job):
        result = replace_pixels(photo, restored)
        left_out = write_photo(job.result, result, png_level)
        if job.comparison is not None:
            write_photo(job.comparison, side_by_side(photo, result), png_level)
    return [*photo.notes, *left_out]


@contextlib.contextmanager
def _name_lack_of_memory(job: Job) -> Iterator[None]:
    """Raise UserError, with the picture's name, if memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"{job.source}: {_NO_MEMORY}") from error


def side_by_side(before: Photo, after: Photo) -> Photo:
    """Return both pictures in one, ``before`` on the left, without their alpha."""
    gap = np.full((before.pixels.shape[0], _GAP, 3), before.peak, before.pixels.dtype)
    return Photo(np.concatenate([before.pixels, gap, after.pixels], axis=1), grey=before.grey, icc=before.icc)
