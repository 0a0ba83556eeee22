"""How many processors this process may use."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from mprnet.control_groups import find_control_groups


def available_processors(root: Path = Path("/")) -> int:
    """Return how many processors this process may use, at least 1.

    It is the least of the machine's processors, those that the process is bound to (``taskset``, Slurm), and the share
    of time that its control groups get (Docker's ``--cpus``), rounded up.

    Args:
        root: the folder with ``proc`` and ``sys``.
    """
    counts = [os.cpu_count() or 1, *_read_quotas(root)]
    if hasattr(os, "sched_getaffinity"):  # Linux
        counts.append(len(os.sched_getaffinity(0)))
    return max(1, min(counts))


def _read_quotas(root: Path) -> Iterator[int]:
    """Yield the number of processors for each control group that has a limit, rounded up."""
    for version, group in find_control_groups("cpu", root):
        # A group without a limit has no file, or the word "max", or a quota of -1.
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            if version == 2:
                quota, period = map(int, (group / "cpu.max").read_text().split())
            else:
                quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            if quota > 0:
                yield math.ceil(quota / period)
