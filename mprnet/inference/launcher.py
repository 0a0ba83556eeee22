"""What torchrun, or another launcher, says to the processes that it starts."""

import os

import torch.distributed as dist

from mprnet.errors import UserError, one_line
from mprnet.processors import available_processors

_LAUNCHER = "Start several processes with torchrun; for one process, unset RANK and WORLD_SIZE."


def count_local_processes() -> int:
    """Return how many processes of this run are on this machine."""
    return read_number("LOCAL_WORLD_SIZE", 1, 1)


def own_processors() -> int:
    """Return how many processors are for this process: the processes of a run share those of their machine."""
    return max(1, available_processors() // count_local_processes())


def check_environment(is_initialized: bool) -> None:
    """Check what a launcher has to say to each of its processes.

    Args:
        is_initialized: True if the processes have met already.

    Raises:
        UserError: variables are missing or do not go together, or a PyTorch without torch.distributed.
    """
    size = read_number("WORLD_SIZE", None, 1)
    rank = read_number("RANK", None, 0)
    if rank >= size:
        raise UserError(f"RANK is {rank}, but WORLD_SIZE is {size}: ranks count from 0. {_LAUNCHER}")
    if not dist.is_available():
        raise UserError("this PyTorch is built without torch.distributed: run one process, without torchrun.")
    if is_initialized:
        return
    if not os.environ.get("MASTER_ADDR"):
        raise UserError(f"RANK and WORLD_SIZE are set, but MASTER_ADDR is not. {_LAUNCHER}")
    if read_number("MASTER_PORT", None, 0) >= 2**16:
        raise UserError(f"MASTER_PORT is {os.environ['MASTER_PORT']}, but ports are below 65536. {_LAUNCHER}")


def read_number(name: str, default: int | None, least: int) -> int:
    """Return the number in a variable of the environment; without ``default`` it has to be set.

    Raises:
        UserError: it is not a number from ``least`` on.
    """
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdecimal() or len(text) > 9 or int(text) < least:
        raise UserError(f"{name} is {one_line(text, 20) or 'not set'}, not a number from {least} on. {_LAUNCHER}")
    return int(text)
