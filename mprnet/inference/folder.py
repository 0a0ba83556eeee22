"""Restoring many picture files, while other threads read and write."""

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from tqdm import tqdm

from mprnet.data.photo_reading import read_photo
from mprnet.data.photo_writing import check_format, write_photo
from mprnet.data.photos import Photo
from mprnet.data.tensors import to_array, to_tensor
from mprnet.errors import UserError
from mprnet.inference.jobs import Job
from mprnet.inference.outcomes import Outcomes, Report
from mprnet.inference.restorer import Restorer
from mprnet.inference.tile_size import is_out_of_memory
from mprnet.processors import available_processors

# How many threads read files, and how many write them.
_THREADS = max(1, min(4, available_processors() // 2))
# How many pictures may wait for the network, and how many to be written.
_QUEUE = _THREADS
_GAP = 8  # white pixels between the two halves of a comparison


def restore_all(jobs: Sequence[Job], restorer: Restorer, verbose: bool = False) -> Report:
    """Restore the pictures of all jobs, and show a progress bar.

    Threads read the next pictures and write the last results meanwhile, so that the network does not wait for files.
    Consecutive small pictures of one size are restored as a batch if this is faster on the device. If a picture fails,
    whatever the error, the error is printed and returned, and the other pictures are still restored. If the device
    fails several times in a row with the same error, the run stops. If the program is interrupted, pictures that are
    restored are still written.

    Args:
        verbose: also print the tracebacks of errors that the program does not know.
    """
    start = time.perf_counter()
    with (
        ThreadPoolExecutor(_THREADS, "read") as readers,
        ThreadPoolExecutor(_THREADS, "write") as writers,
        tqdm(total=len(jobs), unit="picture", disable=not jobs) as bar,
    ):
        restorer.on_tile = lambda done, total: bar.set_postfix_str(f"tile {done} of {total}")
        outcomes = Outcomes(bar, verbose)
        report = outcomes.report
        try:
            pending: deque[tuple[Job, Future[list[str]]]] = deque()
            for batch in _batches(_read_ahead(jobs, readers, outcomes), restorer):
                begin = time.perf_counter()
                results = _restore(batch, restorer)
                report.restoring += time.perf_counter() - begin
                for (job, photo), result in zip(batch, results, strict=True):
                    outcomes.note_device(result)
                    pending.append((job, writers.submit(_write, job, photo, result)))
                while len(pending) > _QUEUE:
                    outcomes.finish(*pending.popleft())
                if report.stopped:
                    break
            while pending:
                outcomes.finish(*pending.popleft())
        finally:
            restorer.on_tile = None
            readers.shutdown(wait=False, cancel_futures=True)
    report.seconds = time.perf_counter() - start
    return report


def _read_ahead(jobs: Sequence[Job], readers: ThreadPoolExecutor, outcomes: Outcomes) -> Iterator[tuple[Job, Photo]]:
    """Yield each job and its picture, while the next pictures are read. Pictures that cannot be read are left out."""
    pending: deque[tuple[Job, Future[Photo]]] = deque()
    next_jobs = iter(jobs)
    while True:
        for job in islice(next_jobs, _QUEUE + 1 - len(pending)):
            pending.append((job, readers.submit(_read, job)))
        if not pending:
            return
        job, photo = pending.popleft()
        outcomes.bar.set_description(job.source.name)
        if (error := photo.exception()) is None:
            yield job, photo.result()
        else:
            outcomes.fail(job, error)


def _read(job: Job) -> Photo:
    """Return the picture of a job, if the formats of its outputs can hold the results."""
    photo = read_photo(job.source)
    check_format(job.result, photo.height, photo.width, photo.alpha is not None)
    if job.comparison is not None:
        check_format(job.comparison, photo.height, 2 * photo.width + _GAP)
    return photo


def _batches(photos: Iterable[tuple[Job, Photo]], restorer: Restorer) -> Iterator[list[tuple[Job, Photo]]]:
    """Yield consecutive pictures of one size together, at most ``restorer.batch_size`` at a time."""
    batch: list[tuple[Job, Photo]] = []
    for job, photo in photos:
        size = photo.pixels.shape[:2]
        if batch and (size != batch[0][1].pixels.shape[:2] or len(batch) >= restorer.batch_size(*size)):
            yield batch
            batch = []
        batch.append((job, photo))
        if restorer.batch_size(*size) == 1:
            yield batch
            batch = []
    if batch:
        yield batch


def _restore(batch: Sequence[tuple[Job, Photo]], restorer: Restorer) -> list[np.ndarray | Exception]:
    """Return each picture restored, (H, W, 3) float32 in [0, 1], or the error."""
    if len(batch) == 1:
        ((job, photo),) = batch
        try:
            with _raise_out_of_memory():
                return [restorer(photo.as_float())]
        except UserError as error:
            return [UserError(f"{job.source}: {error}")]
        except Exception as error:
            return [error]
    try:
        with _raise_out_of_memory():
            images = torch.stack([to_tensor(photo.as_float()) for _, photo in batch])
            return [to_array(restored) for restored in restorer(images)]
    except Exception:  # restored one by one, only the picture that caused it fails
        return [result for single in batch for result in _restore([single], restorer)]


def _write(job: Job, photo: Photo, restored: np.ndarray | Exception) -> list[str]:
    """Write the outputs of a job. Return what of the file is not in the result, for people."""
    if isinstance(restored, Exception):
        raise restored
    with _raise_out_of_memory(f"{job.source}: "):
        result = photo.with_image(restored)
        left_out = write_photo(job.result, result)
        if job.comparison is not None:
            write_photo(job.comparison, side_by_side(photo, result))
    return [*photo.notes, *left_out]


@contextlib.contextmanager
def _raise_out_of_memory(prefix: str = "") -> Iterator[None]:
    """Raise UserError if memory runs out: then this picture is too large, but the next one may be smaller.

    Args:
        prefix: the start of the message.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"{prefix}there is not enough memory for it.") from error


def side_by_side(before: Photo, after: Photo) -> Photo:
    """Return both pictures in one, ``before`` on the left, without their alpha."""
    gap = np.full((before.pixels.shape[0], _GAP, 3), before.peak, before.pixels.dtype)
    return Photo(np.concatenate([before.pixels, gap, after.pixels], axis=1), grey=before.grey, icc=before.icc)
