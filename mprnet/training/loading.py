"""Loads batches of samples in worker processes."""

import contextlib
import errno
import multiprocessing.queues
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import cv2
import torch
import torch.multiprocessing
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mprnet.data.tensors import as_float
from mprnet.errors import UserError, one_line
from mprnet.inference.launcher import own_processors
from mprnet.training.items import format_size
from mprnet.training.order import DistributedBatchSampler
from mprnet.training.samples import ValidationPairs
from mprnet.training.shared_memory import (
    BATCHES_PER_WORKER,
    NO_SHARED_MEMORY,
    BatchPool,
    PooledBatch,
)
from mprnet.training.stopping import list_stop_signals

_ENDING_SECONDS = 0.1  # how long a worker that was killed takes to end, at most
_GRACE_SECONDS = 30  # how long a worker continues after SIGTERM

# Degraded and target, (2, N, 3, H, W), uint8 or float32. One tensor, because sending a tensor to another process has a
# cost of its own.
Batch = Tensor


def make_loader(
    data: Dataset[tuple[Tensor, Tensor]], sampler: DistributedBatchSampler, workers: int, pin_memory: bool
) -> "DataLoader[Any]":
    """Return a loader of the batches that ``sampler`` lists. ``workers`` processes read them; 0: this process does."""
    options = {"batch_sampler": sampler, "collate_fn": SampleStacker(workers), "pin_memory": pin_memory}
    return _make_loader(data, workers, options)


def make_pair_loader(pairs: ValidationPairs, indices: Sequence[int], workers: int) -> "DataLoader[Any]":
    """Return a loader of the pairs with these indices, in this order, one at a time.

    An item is a list: degraded, target and name. If a pair cannot be read, the item is a sentence that says so.
    """
    return _make_loader(_Readable(pairs), workers, {"batch_size": None, "sampler": indices})


class _Readable(Dataset[Any]):
    """Pairs, and sentences instead of errors. So a loader goes on after a pair that cannot be read."""

    def __init__(self, pairs: ValidationPairs) -> None:
        self._pairs = pairs

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str] | str:
        try:
            return self._pairs[index]
        except UserError as error:
            return str(error)


def _make_loader(data: Dataset[Any], workers: int, options: Mapping[str, Any]) -> "DataLoader[Any]":
    return DataLoader(
        data,
        num_workers=workers,
        prefetch_factor=BATCHES_PER_WORKER if workers else None,
        worker_init_fn=_prepare_worker,
        # Starting workers takes seconds. That is long for short epochs, such as GoPro's of 132 steps.
        persistent_workers=workers > 0,
        **options,
    )


class SampleStacker:
    """Stacks samples to a batch, in shared memory of ``pool`` if a worker does it."""

    def __init__(self, workers: int) -> None:
        self.pool = BatchPool(workers)

    def __call__(self, samples: Sequence[tuple[Tensor, Tensor]]) -> PooledBatch:
        """Return samples as a batch: uint8 if all of them are, else float32.

        Raises:
            UserError: their sizes differ, or a worker has no space for the batch in shared memory.
        """
        sizes = {format_size(target) for _, target in samples}
        if len(sizes) > 1:
            joined = " and ".join(sorted(sizes))
            raise UserError(f"the training data holds items of several sizes, {joined}: crop them to one size.")
        if any(target.dtype != torch.uint8 for _, target in samples):
            samples = [(as_float(degraded), as_float(target)) for degraded, target in samples]
        batch = self.pool.stack([image for side in zip(*samples, strict=True) for image in side])
        return batch._replace(images=batch.images.unflatten(0, (2, len(samples))))


def load_batches(loader: "DataLoader[Any]") -> Iterator[Any]:
    """Yield the loader's batches or items. A batch is valid until the next one is taken: then its memory is used again.

    Raises:
        UserError: a sample cannot be read, or a worker was killed. The message is only the sentence, without a worker's
            traceback.
    """
    pool = getattr(loader.collate_fn, "pool", None)
    try:
        if pool is not None:
            pool.release_all()  # an epoch that was not read to its end leaves batches behind
        iterator = _start(loader)
        if loader.num_workers and hasattr(signal, "SIGCHLD"):
            # PyTorch's handler raises an error when a worker dies, also in the middle of a step. Without it, the error
            # comes when a batch of this worker is awaited, and the state can be saved.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for item in iterator:
            if pool is None:
                yield item
            else:
                yield item.images
                pool.release(item)
    except UserError as error:
        sentence = str(error).strip().splitlines()[-1]
        raise UserError(sentence.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")) from error
    except (RuntimeError, OSError, EOFError) as error:
        # A batch that a dead worker has sent cannot be received either: this raises an error of the connection.
        exit_codes = _dead_workers(loader)
        if not exit_codes:
            raise
        raise UserError(_describe_dead_worker(exit_codes, loader.num_workers)) from error


def _start(loader: "DataLoader[Any]") -> Iterator[Any]:
    """Return the loader's iterator. Its processes start to read.

    Raises:
        UserError: the system does not allow so many processes or files, or there is no shared memory left.
    """
    try:
        with _one_opencv_thread():
            return iter(loader)
    except OSError as error:
        # PyTorch prints a traceback when it deletes an iterator that has only some of its processes.
        hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
        traceback.clear_frames(error.__traceback__)
        sys.unraisablehook = hook
        if error.errno == errno.ENOSPC:  # for semaphores
            raise UserError(
                f"{NO_SHARED_MEMORY}, or lower TRAINING.WORKERS (it is {loader.num_workers}; 0 needs none)."
            ) from error
        raise UserError(
            f"the processes that read pictures cannot be started ({error.strerror or error}): lower TRAINING.WORKERS "
            f"(it is {loader.num_workers}; 0 needs none), or raise the limits of files and processes (ulimit -n, -u)."
        ) from error


def _dead_workers(loader: "DataLoader[Any]") -> list[int]:
    """Return the exit codes of workers that have ended by themselves."""
    workers = getattr(getattr(loader, "_iterator", None), "_workers", ())
    for worker in workers:
        worker.join(_ENDING_SECONDS)
    return [worker.exitcode for worker in workers if worker.exitcode is not None]


def _describe_dead_worker(exit_codes: Sequence[int], workers: int) -> str:
    """Return a sentence about workers that have ended by themselves: why, and what to do."""
    setting = f"TRAINING.WORKERS (it is {workers}"
    if -getattr(signal, "SIGBUS", 0) in exit_codes:
        return f"{NO_SHARED_MEMORY}, or lower {setting}; 0 needs none)."
    if -getattr(signal, "SIGKILL", 0) in exit_codes:
        return (
            "a process that reads pictures was killed, most often because memory ran out: lower "
            f"{setting}), or give the program more memory."
        )
    code = exit_codes[0]
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
    return (
        f"a process that reads pictures has ended {how}. What it says is above; with TRAINING.WORKERS 0 the training "
        "process reads them itself."
    )


def choose_workers() -> int:
    """Return how many worker processes to use: one for each processor but two, which are for training; at most 12.

    The processes that torchrun starts on one machine divide its processors equally.
    """
    return max(0, min(12, own_processors() - 2))


def stop_workers(loader: "DataLoader[Any]") -> None:
    """End the loader's processes. Without this call, they stay from one epoch to the next."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        for worker in iterator._workers:  # PyTorch would wait for workers that wait for a slow disk
            worker.kill()
            worker.join()
        iterator._shutdown_workers()


@contextlib.contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Give OpenCV one thread in this context's body.

    If a process is forked while OpenCV has more, the new process can wait for these threads for ever.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _prepare_worker(worker: int) -> None:
    """Set the threads and signals of a worker process."""
    cv2.setNumThreads(1)  # a process that is not forked has as many as the machine has processors
    # If the trainer is killed, a worker that waits for a disk would stay, with all files and the GPU that it inherited.
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]  # only Linux has it
    # Ctrl-C and other signals often go to the whole process group. But the trainer needs one more batch from its
    # workers before it saves its state.
    for number in list_stop_signals():
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_SECONDS))
    # If a batch cannot be sent, Python drops it, and the trainer would wait for it for ever.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]


def _end_worker(error: Exception, batch: object) -> NoReturn:
    """End this worker, which could not send a batch: the trainer notices."""
    print(f"a process that reads pictures cannot send a batch: {one_line(error)}", file=sys.stderr, flush=True)
    os._exit(1)
