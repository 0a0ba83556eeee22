"""One process or many: who am I, and sums over all."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from mprnet.errors import UserError


@dataclass(frozen=True)
class World:
    """This process among those of a run; rank 0 alone speaks for all."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value's sum over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    @contextlib.contextmanager
    def held(self, resource: contextlib.AbstractContextManager[object]) -> Iterator[None]:
        """Have ``resource`` while in here: rank 0 enters it, for all.

        Raises:
            UserError: on every rank, if it cannot be had.
        """
        with contextlib.ExitStack() as stack:
            with self.agreed():
                if self.is_main:
                    stack.enter_context(resource)
            yield

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """Do what is in here on all ranks, or fail on all; nobody is past it before all are.

        Raises:
            UserError: on every rank, if it was raised in here on one.
        """
        problem = None
        try:
            yield
        except UserError as error:
            problem = error
        if not self.sum(problem is not None)[0]:
            return
        said: Any = problem and str(problem)
        sentences: list[Any] = [said] * self.size
        if self.size > 1:
            dist.all_gather_object(sentences, said)
        others = (f"process {rank} of this run: {sentence}" for rank, sentence in enumerate(sentences) if sentence)
        raise problem or UserError(next(others))

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


def join_world(gpus: list[int], patience: timedelta | None = None) -> World:
    """The world that torchrun made, or a world of one.

    Args:
        gpus: numbers of GPUs from the settings; [-1] for whichever there is. Under torchrun each process takes the GPU
            of its local rank.
        patience: how long one process waits for another. None: as PyTorch has it, 10 to 30 minutes.

    Raises:
        UserError: a GPU that is not there.
    """
    if "WORLD_SIZE" in os.environ and "RANK" in os.environ:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        if cuda and local >= torch.cuda.device_count():
            raise UserError(
                f"torchrun starts more processes than this machine has GPUs, {torch.cuda.device_count()}: lower "
                "--nproc_per_node."
            )
        device = torch.device("cuda", local) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo", timeout=patience, device_id=device if cuda else None)
        return World(dist.get_rank(), dist.get_world_size(), device)
    return World(0, 1, _single_device(gpus))


def _single_device(gpus: list[int]) -> torch.device:
    if not torch.cuda.is_available():
        # A YAML written for a machine with GPUs (GPU: [0,1,2,3]) trains on the CPU elsewhere.
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    number = gpus[0] if gpus and gpus[0] >= 0 else 0
    if number >= torch.cuda.device_count():
        raise UserError(f"GPU names number {number}, but this machine has {torch.cuda.device_count()}, counted from 0.")
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device


@contextlib.contextmanager
def joined_world(gpus: list[int], patience: timedelta | None = None) -> Iterator[World]:
    """``join_world``, and leave it at the end.

    After a failure on GPUs it is not left: NCCL would wait for the others to leave too, and they wait for this process,
    which has to end (``command.run``).

    Raises:
        UserError: as ``join_world``, and when another process of the world has ended.
    """
    world = join_world(gpus, patience)
    leave = world.device.type != "cuda"
    try:
        yield world
        leave = True
    except RuntimeError as error:
        if world.size > 1 and "Connection" in str(error):  # closed or reset by the other
            raise UserError("another process of this run has stopped: see what it says.") from error
        raise
    finally:
        if leave and dist.is_initialized():
            dist.destroy_process_group()
