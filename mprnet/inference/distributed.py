"""One or several processes, as torchrun starts them: rank, device and communication."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from mprnet.errors import UserError, one_line
from mprnet.inference.launcher import check_environment, read_number

Item = TypeVar("Item")
_STOPPED = "another process of this run has stopped: see what it says."


@dataclass(frozen=True)
class World:
    """This process among the processes of a run. Only rank 0 prints and writes what all processes share.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        device: of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True on rank 0."""
        return self.rank == 0

    def all_reduce(self, *values: float) -> list[float]:
        """Return the sum of each value over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def all_reduce_tensor(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, on its device."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, in the order of ranks. All have the same shape and dtype."""
        if self.size == 1:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(gathered, tensor)
        return gathered

    @contextlib.contextmanager
    def enter_on_main(self, resource: contextlib.AbstractContextManager[object]) -> Iterator[None]:
        """Enter ``resource``, such as a lock, on rank 0; the other processes wait until rank 0 has it.

        Raises:
            UserError: on every rank, if rank 0 raised it.
        """
        with contextlib.ExitStack() as stack:
            with self.fail_together():
                if self.is_main:
                    stack.enter_context(resource)
            yield

    @contextlib.contextmanager
    def fail_together(self) -> Iterator[None]:
        """Run this context's body on all ranks. No rank leaves it before all have finished it.

        Raises:
            UserError: on every rank, if the body raised it on one.
        """
        problem = None
        try:
            yield
        except UserError as error:
            problem = error
        if not self.all_reduce(problem is not None)[0]:
            return
        sentence: Any = problem and str(problem)
        sentences: list[Any] = [sentence] * self.size
        if self.size > 1:
            dist.all_gather_object(sentences, sentence)
        others = (f"process {rank} of this run: {said}" for rank, said in enumerate(sentences) if said)
        raise problem or UserError(next(others))

    def ask_main(self, make: Callable[[], Item]) -> Item:
        """Return, in all processes, what ``make`` returns on rank 0. The others do not call it.

        Raises:
            UserError: on every rank, if ``make`` raised it.
        """
        made: list[Any] = [None]
        with self.fail_together():
            if self.is_main:
                made = [make()]
        if self.size > 1:
            dist.broadcast_object_list(made)
        return made[0]

    def share(self, items: Sequence[Item], name: str) -> Iterator[Item]:
        """Yield the items that this process takes: always the next one that no process of the run has taken.

        Args:
            items: the same in all processes.
            name: of the counter, the same in all processes, and another for each call.

        Raises:
            UserError: another process of the run has ended, and the counter with it.
        """
        if self.size == 1:
            yield from items
            return
        store = dist.PrefixStore("shared", _default_store())
        while True:
            try:
                number = store.add(name, 1) - 1
            except RuntimeError as error:
                raise UserError(_STOPPED) from error
            if number >= len(items):
                return
            yield items[number]

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


def init_world(gpus: list[int], timeout: timedelta | None = None) -> World:
    """Return the world of the processes that torchrun started, or a world of one process.

    RANK and WORLD_SIZE in the environment say that torchrun, or another launcher, has started several processes.

    Args:
        gpus: numbers of the GPUs to use; [-1] for all. Under torchrun the process of local rank r takes the r-th.
        timeout: how long a process waits for another. None: PyTorch's default, 10 to 30 minutes.

    Raises:
        UserError: a GPU that is not there, more processes than GPUs, variables of the environment that do not go
            together, processes that cannot meet, or a PyTorch without torch.distributed.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return World(0, 1, _single_device(gpus))
    check_environment(is_initialized())
    cuda = torch.cuda.is_available()
    device = torch.device("cpu")
    if cuda:
        local = read_number("LOCAL_RANK", 0, 0)
        processes = read_number("LOCAL_WORLD_SIZE", local + 1, local + 1)
        device = torch.device("cuda", choose_gpu(gpus, local, processes, torch.cuda.device_count()))
        torch.cuda.set_device(device)
    if not is_initialized():
        try:
            dist.init_process_group("nccl" if cuda else "gloo", timeout=timeout, device_id=device if cuda else None)
        except (ValueError, RuntimeError) as error:
            place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise UserError(
                f"the processes of this run cannot meet at {place}, which MASTER_ADDR and MASTER_PORT name: "
                f"{one_line(error)}"
            ) from error
    return World(dist.get_rank(), dist.get_world_size(), device)


def _default_store() -> "dist.Store":
    """Return what the processes of the run use to meet. PyTorch has no public name for it."""
    return dist.distributed_c10d._get_default_store()


def is_initialized() -> bool:
    """True in a process that can communicate with other processes. Some builds of PyTorch have no such processes."""
    return dist.is_available() and dist.is_initialized()


def choose_gpu(gpus: Sequence[int], local_rank: int, processes: int, there: int) -> int:
    """Return the number of the GPU for one of a machine's processes.

    Args:
        gpus: the numbers that may be used; all GPUs if it is empty or holds -1.
        local_rank: of this process, from 0 to ``processes`` - 1.
        there: how many GPUs the machine has.

    Raises:
        UserError: a GPU is not there or is named twice, or there are not enough.
    """
    named = list(range(there)) if not gpus or -1 in gpus else list(gpus)
    used = named[:processes]  # settings for a machine with more GPUs name more
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
        # Settings for a machine with GPUs (GPU: [0,1,2,3]) train on the CPU of another machine.
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device("cuda", choose_gpu(gpus, 0, 1, torch.cuda.device_count()))
    torch.cuda.set_device(device)
    return device


@contextlib.contextmanager
def distributed_world(gpus: list[int], timeout: timedelta | None = None) -> Iterator[World]:
    """``init_world``; at the end, destroy the process group.

    After a failure on GPUs the group is not destroyed: NCCL would wait for the other processes, and they wait for this
    one. It has to end instead (``command.run``).

    Raises:
        UserError: as ``init_world``; or another process of the run has ended, or has not answered for too long.
    """
    world = init_world(gpus, timeout)
    destroy = world.device.type != "cuda"
    try:
        yield world
        destroy = True
    except RuntimeError as error:
        if world.size > 1 and "Connection" in str(error):  # closed or reset by the other process
            raise UserError(_STOPPED) from error
        if world.size > 1 and "Timed out" in str(error):
            raise UserError("another process of this run does not answer: see what it waits for.") from error
        raise
    finally:
        if destroy and is_initialized():
            dist.destroy_process_group()
