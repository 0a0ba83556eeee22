"""Shared memory, through which batches come from worker processes. Containers often have little of it."""

import os
import shutil
from pathlib import Path

# Batches that a worker prepares ahead: PyTorch's default.
BATCHES_PER_WORKER = 2
# PyTorch and Python put shared memory here on Linux. Other systems have other places, and no limit.
_FOLDER = Path("/dev/shm")
# The semaphores of queues and the rounding to whole pages, for each process. They take less.
_PROCESS_BYTES = 2**16


def count_local_processes() -> int:
    """Return how many processes torchrun has started on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


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
    # The trainer holds one batch more: the one that it trains on or copies to the device.
    per_process = (BATCHES_PER_WORKER * workers + 1) * batch_bytes + (workers + 1) * _PROCESS_BYTES
    return count_local_processes() * per_process
