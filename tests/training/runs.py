"""Small training runs for tests, in this process or in new processes."""

import csv
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from programs import CONTEXT, reset_start_method
from torch.utils.data import Dataset
from yacs.config import CfgNode

from mprnet import AblationMPRNet, MPRNet
from mprnet.inference.distributed import World
from mprnet.training import meter
from mprnet.training.datasets import RunData
from mprnet.training.keys import get_defaults
from mprnet.training.loop import Trainer
from mprnet.training.samples import TrainingSamples, ValidationPairs
from mprnet.training.shared_memory import BatchPool, PooledBatch
from mprnet.training.state import load_latest

ONE_PROCESS = World(0, 1, torch.device("cpu"))
# Functions of mprnet.training.logs that take longer than all the rest of a small run.
SLOW_LOGS = ("draw_curves", "_open_tensorboard")


class Noise(Dataset):
    """Noisy samples of 16x16 pixels. Each depends only on (epoch, index)."""

    addressed_by_epoch = True

    def __init__(self, count: int = 10, broken: int | None = None) -> None:
        self.count = count
        self.broken = broken  # this item has pixels that are NaN

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, index = key
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        target = torch.rand(3, 16, 16, generator=generator)
        degraded = target + 0.1 * torch.randn(3, 16, 16, generator=generator)
        if index == self.broken:
            degraded[:, 3, 4] = float("nan")
        return degraded, target


class Grey(Dataset):
    """One grey picture for validation, of ``side`` x ``side`` pixels."""

    def __init__(self, level: float = 0.4, side: int = 16) -> None:
        self.level = level
        self.side = side

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, str]:
        shape = (3, self.side, self.side)
        return torch.full(shape, self.level), torch.full(shape, 0.5), "grey"


def tiny_settings(*overrides: object) -> CfgNode:
    """Return settings for short runs; ``overrides`` are keys and values."""
    settings = get_defaults()
    settings.merge_from_list(["OPTIM.BATCH_SIZE", 4, "OPTIM.NUM_EPOCHS", 2, "OPTIM.LR_INITIAL", 1e-3, *overrides])
    return settings


def tiny_network(**form: Any) -> MPRNet:
    """Return a network of one stage, an ORSNet. A step takes milliseconds."""
    torch.manual_seed(0)
    return AblationMPRNet(4, 2, 3, num_cab=1, reduction=2, **{"subnetworks": ["orsnet"], **form})


def make_trainer(
    folder: Path,
    settings: CfgNode,
    training: Any = None,
    validation: Any = None,
    world: World = ONE_PROCESS,
    split: dict[str, Any] | None = None,
    workers: int = 0,
) -> Trainer:
    """Return a Trainer. With TRAINING.RESUME, it resumes the run in ``folder``."""
    seed = settings.TRAINING.SEED
    data = RunData(
        TrainingSamples(training or Noise(), seed), ValidationPairs(validation or Grey()), "noise", split or {}
    )
    checkpoint = load_latest(folder) if settings.TRAINING.RESUME else None
    return Trainer(tiny_network(), data, settings, folder, {}, world, workers, checkpoint)


def overwrite_released_batches(monkeypatch: Any) -> list[int]:
    """Fill batches with other values as soon as workers may. Return a list to which each of them appends its worker."""
    release, overwritten = BatchPool.release, []

    def overwrite(self: BatchPool, batch: PooledBatch) -> None:
        if batch.place >= 0:
            batch.images.view(torch.uint8).fill_(0xFF)  # as float32: NaN
            overwritten.append(batch.worker)
        release(self, batch)

    monkeypatch.setattr(BatchPool, "release", overwrite)
    return overwritten


def read_log(folder: Path, with_meter: bool = False) -> list[dict[str, str]]:
    """Return the rows of log.csv.

    Args:
        with_meter: also the columns that depend on the machine, and on when the run was stopped.
    """
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if with_meter or key not in meter.COLUMNS} for row in rows]


def read_lines(folder: Path) -> list[str]:
    """Return the lines of log.txt, without the time."""
    return [line[21:] for line in (folder / "log.txt").read_text().splitlines()]


def are_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """True if two state dicts have the same keys, and exactly the same values."""
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def start(function: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Call the function in a new process, with one thread."""
    process = CONTEXT.Process(target=_with_one_thread, args=(function, arguments))
    process.start()
    return process


def _with_one_thread(function: Callable[..., None], arguments: Sequence[Any]) -> None:
    reset_start_method()
    torch.set_num_threads(1)
    function(*arguments)


def run_processes(size: int, folder: Path, function: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Call ``function(world, *arguments)`` in ``size`` processes, and return their exit codes.

    If one of them fails, the others are killed.
    """
    rendezvous = folder / f"rendezvous-{len(list(folder.glob('rendezvous-*')))}"
    processes = [start(_run_rank, rank, size, str(rendezvous), function, arguments) for rank in range(size)]
    running = {process.sentinel: process for process in processes}
    while running:
        for sentinel in multiprocessing.connection.wait(list(running)):
            ended = running.pop(sentinel)
            ended.join()
            if ended.exitcode:
                for other in running.values():
                    other.kill()
    return [process.exitcode for process in processes]


def _run_rank(rank: int, size: int, rendezvous: str, function: Callable[..., None], arguments: Sequence[Any]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    function(World(rank, size, torch.device("cpu")), *arguments)
    dist.barrier()
    # Do not destroy the process group: in PyTorch 2.6, this may wait for ever.
    sys.stdout.flush()
    os._exit(0)


class Killing(Dataset):
    """Samples of ``Noise``. Reading the n-th sample kills the trainer, also if a worker process reads it."""

    addressed_by_epoch = True

    def __init__(self, number: int) -> None:
        self.samples = Noise()
        self.left = number
        self.trainer = os.getpid()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        self.left -= 1
        if self.left == 0:
            os.kill(self.trainer, signal.SIGKILL)
        return self.samples[key]
