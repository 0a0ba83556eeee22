"""Loads batches of samples in worker processes."""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from mprnet.data.tensors import as_float
from mprnet.errors import UserError
from mprnet.processors import available_processors
from mprnet.training.order import DistributedBatchSampler
from mprnet.training.samples import format_size

_GRACE_SECONDS = 30  # how long a worker continues after SIGTERM

Batch = tuple[Tensor, Tensor]  # degraded and target, (N, 3, H, W), both uint8 or both float32


def make_loader(
    data: Dataset[tuple[Tensor, Tensor]], sampler: DistributedBatchSampler, workers: int, pin_memory: bool
) -> "DataLoader[Any]":
    """Return a loader of the batches that ``sampler`` lists. ``workers`` processes read them; 0: this process does."""
    return DataLoader(
        data,
        batch_sampler=sampler,
        collate_fn=stack_samples,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_prepare_worker,
        # Starting workers takes seconds. That is long for short epochs, such as GoPro's of 132 steps.
        persistent_workers=workers > 0,
    )


def stack_samples(samples: Sequence[tuple[Tensor, Tensor]]) -> Batch:
    """Return samples as a batch: uint8 if all of them are, else float32.

    Raises:
        UserError: their sizes differ.
    """
    sizes = {format_size(target) for _, target in samples}
    if len(sizes) > 1:
        joined = " and ".join(sorted(sizes))
        raise UserError(f"the training data holds items of several sizes, {joined}: crop them to one size.")
    if any(target.dtype != torch.uint8 for _, target in samples):
        samples = [(as_float(degraded), as_float(target)) for degraded, target in samples]
    degraded, target = default_collate(list(samples))
    return degraded, target


def load_batches(loader: "DataLoader[Any]") -> Iterator[Batch]:
    """Yield the loader's batches.

    Raises:
        UserError: a sample cannot be read. The message is only the sentence, without a worker's traceback.
    """
    try:
        with _one_opencv_thread():
            batches = iter(loader)  # starts the processes
        yield from batches
    except UserError as error:
        sentence = str(error).strip().splitlines()[-1]
        raise UserError(sentence.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")) from error


def choose_workers() -> int:
    """Return how many worker processes to use: one for each processor but two, which are for training; at most 12.

    The processes that torchrun starts on one machine divide its processors equally.
    """
    processors = available_processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min(12, processors - 2))


def stop_workers(loader: "DataLoader[Any]") -> None:
    """End the loader's processes. Without this call, they stay from one epoch to the next."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
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
    # Ctrl-C and SIGTERM often go to the whole process group. But the trainer needs one more batch from its workers
    # before it saves its state.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_SECONDS))
