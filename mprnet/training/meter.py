"""What the steps of a run cost: time, waiting for data, memory, and when the run will end."""

import contextlib
import importlib.util
import math
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import torch

from mprnet.inference.distributed import World
from mprnet.training.step import StepResult

# Of the log. All but the last are numbers.
COLUMNS = ("recent_loss", "grad_norm", "samples_per_second", "data_wait", "memory_gib", "end")


class StepMeter:
    """Averages over the steps since its last ``read``, or since ``restart``.

    Args:
        world: ``read`` adds the samples of all its processes.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._start = time.monotonic()
        self._steps = 0  # since the start
        self.restart()

    def restart(self) -> None:
        """Forget the steps so far, and leave the time until now out of the averages."""
        self._since = time.monotonic()
        self._waited = 0.0
        self._loss, self._updated, self._samples = 0.0, 0, 0
        self._norm, self._norms = 0.0, 0

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """Count the time in this context's body as time that waits for data."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - start

    def add(self, result: StepResult, samples: int) -> None:
        """Add a step.

        Args:
            samples: number of samples of this process.
        """
        self._steps += 1
        self._samples += samples
        if result.is_updated:
            self._loss += result.loss
            self._updated += samples
        if math.isfinite(result.norm):
            self._norm += result.norm
            self._norms += 1

    def read(self, steps_left: int) -> dict[str, Any]:
        """Return the averages as ``COLUMNS`` of the log, and restart. All processes have to call this.

        ``recent_loss``: mean per sample. ``grad_norm``: mean, before clipping. ``data_wait``: the part of the time that
        waited for data, mean of all processes. ``memory_gib``: the peak of this process since its start. ``end``: when
        the run will end, in local time, if it goes on as since its start. Values that are not known are left out.

        Args:
            steps_left: until the end of the run.
        """
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        loss, updated, samples, waited = self._world.all_reduce(self._loss, self._updated, self._samples, self._waited)
        row: dict[str, Any] = {}
        if self._steps and samples:
            row["recent_loss"] = loss / updated if updated else math.nan
            row["grad_norm"] = self._norm / self._norms if self._norms else math.nan
            row["samples_per_second"] = samples / seconds
            row["data_wait"] = waited / self._world.size / seconds
            end = datetime.now() + timedelta(seconds=(now - self._start) / self._steps * steps_left)
            row["end"] = end.strftime("%Y-%m-%d %H:%M")
        peak = peak_memory(self._world.device)
        if peak is not None:
            row["memory_gib"] = peak / 2**30
        self.restart()
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def peak_memory(device: torch.device) -> int | None:
    """Return the largest number of bytes that this process has used; None if it is not known.

    On CUDA, these are the bytes of tensors on the device; on other devices, the process's resident memory.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if importlib.util.find_spec("resource") is None:  # Windows
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
