"""One process or many: who am I, and sums over all."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

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

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, in the order of their ranks; all have one shape and type."""
        if self.size == 1:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(gathered, tensor)
        return gathered

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
        gpus: numbers of GPUs from the settings; [-1] for whichever there are. Under torchrun the process of local rank
            r takes the r-th of them.
        patience: how long one process waits for another. None: as PyTorch has it, 10 to 30 minutes.

    Raises:
        UserError: a GPU that is not there, or more processes than GPUs.
    """
    if "WORLD_SIZE" in os.environ and "RANK" in os.environ:
        cuda = torch.cuda.is_available()
        device = torch.device("cpu")
        if cuda:
            local, processes = (int(os.environ.get(f"LOCAL_{name}", d)) for name, d in (("RANK", 0), ("WORLD_SIZE", 1)))
            device = torch.device("cuda", choose_gpu(gpus, local, processes, torch.cuda.device_count()))
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo", timeout=patience, device_id=device if cuda else None)
        return World(dist.get_rank(), dist.get_world_size(), device)
    return World(0, 1, _single_device(gpus))


def choose_gpu(gpus: Sequence[int], local_rank: int, processes: int, there: int) -> int:
    """Return the number of the GPU for one of a machine's processes.

    Args:
        gpus: the numbers that may be used; none, or -1 among them, for all.
        local_rank: of this process, from 0 to ``processes`` - 1.
        there: how many GPUs the machine has.

    Raises:
        UserError: one of the GPUs is not there, one is named twice, or there are not enough.
    """
    named = list(range(there)) if not gpus or -1 in gpus else list(gpus)
    used = named[:processes]  # a file written for a machine with more GPUs names more
    missing = [number for number in used if not 0 <= number < there]
    if missing:
        raise UserError(f"GPU names number {missing[0]}, but this machine has {there}, counted from 0.")
    if len(set(used)) < len(used):
        raise UserError(f"GPU names a number twice, {named}: each process needs a GPU of its own.")
    if processes > len(used):
        raise UserError(
            f"torchrun starts {processes} processes on this machine for {len(named)} GPUs {named}: lower "
            "--nproc_per_node, or name more in GPU ([-1] takes all)."
        )
    return named[local_rank]


def _single_device(gpus: list[int]) -> torch.device:
    if not torch.cuda.is_available():
        # A YAML written for a machine with GPUs (GPU: [0,1,2,3]) trains on the CPU elsewhere.
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device("cuda", choose_gpu(gpus, 0, 1, torch.cuda.device_count()))
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
