"""Shared memory, through which batches come from worker processes. Containers often have little of it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mprnet.errors import UserError
from mprnet.inference.launcher import count_local_processes

NO_SHARED_MEMORY = (
    "a worker found no space for a batch in /dev/shm: give the container more (--shm-size 8g, or --ipc host)"
)
# Batches that a worker prepares ahead: PyTorch's default.
BATCHES_PER_WORKER = 2
# PyTorch and Python put shared memory here on Linux. Other systems have other places, and no limit.
_FOLDER = Path("/dev/shm")
# The semaphores of queues and the rounding to whole pages, for each process. They take less.
_PROCESS_BYTES = 2**16
# Places for batches of a worker: those that it prepares ahead, and the one that the trainer uses.
_PLACES = BATCHES_PER_WORKER + 1


class PooledBatch(NamedTuple):
    """A batch, and its place in the shared memory of the worker that read it; -1 if it has no place."""

    images: Tensor
    worker: int
    place: int


class BatchPool:
    """Shared memory of a loader's workers, which is used again.

    The system takes as long to provide new shared memory for a batch as a worker takes to read it from prepared
    pictures. So each worker writes its batches to a few places in turn.

    Args:
        workers: how many processes read batches.
    """

    def __init__(self, workers: int) -> None:
        self._is_used = torch.zeros(workers, _PLACES, dtype=torch.bool).share_memory_()
        self._places = [torch.empty(0, dtype=torch.uint8)] * _PLACES  # of this process, if it is a worker

    def stack(self, images: Sequence[Tensor]) -> PooledBatch:
        """Return images of one shape and dtype, stacked. In a worker, they are in a place that is then used.

        If all places are used, they are in new memory.

        Raises:
            UserError: there is no space in shared memory.
        """
        info = get_worker_info()
        if info is None:
            return PooledBatch(torch.stack(list(images)), -1, -1)
        shape, dtype = (len(images), *images[0].shape), images[0].dtype
        size = len(images) * images[0].nbytes
        place = next((place for place in range(_PLACES) if not self._is_used[info.id, place]), -1)
        memory = self._places[place] if place >= 0 else _allocate(size)
        if memory.numel() < size:
            memory = self._places[place] = _allocate(size)
        stacked = torch.stack(list(images), out=memory[:size].view(dtype).view(shape))
        if place >= 0:
            self._is_used[info.id, place] = True
        return PooledBatch(stacked, info.id, place)

    def release(self, batch: PooledBatch) -> None:
        """Let the worker use the batch's place again."""
        if batch.place >= 0:
            self._is_used[batch.worker, batch.place] = False

    def release_all(self) -> None:
        """Do the same for all batches, also for those that were never received.

        Batches that a worker still makes, and that nothing receives, keep their places until the next call.
        """
        self._is_used.zero_()


def _allocate(size: int) -> Tensor:
    """Return so many bytes of shared memory.

    Raises:
        UserError: there is no space for them.
    """
    try:
        return torch.empty(size, dtype=torch.uint8).share_memory_()
    except RuntimeError as error:  # PyTorch has no class for it
        raise UserError(f"{NO_SHARED_MEMORY}, or lower TRAINING.WORKERS (0 needs none).") from error


def fit_workers(workers: int, batch_bytes: int) -> tuple[int, str]:
    """Return how many worker processes have space for their batches in shared memory.

    All processes of a machine that train have to call this before one of them starts its workers.

    Args:
        workers: that are wanted.
        batch_bytes: the size of what this process gets at a time, in bytes.

    Returns:
        The number, at most ``workers``, and a note for the user if it is smaller; else "".
    """
    if not workers or not _FOLDER.is_dir():
        return workers, ""
    free = shutil.disk_usage(_FOLDER).free
    fitting = workers
    while fitting and _needed_bytes(fitting, batch_bytes) > free:
        fitting -= 1
    if fitting == workers:
        return workers, ""
    needed = _needed_bytes(workers, batch_bytes)
    return fitting, (
        f"{fitting} worker processes read pictures instead of {workers}: the batches of {workers} need "
        f"{needed / 2**20:,.0f} MiB in {_FOLDER}, and {free / 2**20:,.0f} MiB are free. A container gets more with "
        f"--shm-size 8g or --ipc host. TRAINING.WORKERS {fitting} avoids this note."
    )


def _needed_bytes(workers: int, batch_bytes: int) -> int:
    per_process = workers * _PLACES * batch_bytes + (workers + 1) * _PROCESS_BYTES
    return count_local_processes() * per_process
