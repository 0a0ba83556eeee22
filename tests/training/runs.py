"""Small trainings for tests, in this process or in others that are started, killed and resumed."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from programs import CONTEXT, start_as_usual
from torch.utils.data import Dataset
from yacs.config import CfgNode

from mprnet import AblationMPRNet, MPRNet
from mprnet.inference.distributed import World
from mprnet.training.datasets import RunData
from mprnet.training.keys import get_defaults
from mprnet.training.loop import Trainer
from mprnet.training.samples import TrainingSamples, ValidationPairs
from mprnet.training.state import load_latest

ALONE = World(0, 1, torch.device("cpu"))


class Noise(Dataset):
    """Noisy samples of 16x16 pixels, each a function of (epoch, index)."""

    addressed_by_epoch = True

    def __init__(self, count: int = 10, broken: int | None = None) -> None:
        self.count = count
        self.broken = broken  # this item holds a pixel that is no number

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
    """Grey pictures to validate on, each of ``side`` x ``side`` pixels."""

    def __init__(self, level: float = 0.4, side: int = 16) -> None:
        self.level = level
        self.side = side

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, str]:
        shape = (3, self.side, self.side)
        return torch.full(shape, self.level), torch.full(shape, 0.5), "grey"


def tiny_settings(*overrides: object) -> CfgNode:
    """Settings for trainings that take no time; ``overrides`` are keys and values."""
    settings = get_defaults()
    settings.merge_from_list(["OPTIM.BATCH_SIZE", 4, "OPTIM.NUM_EPOCHS", 2, "OPTIM.LR_INITIAL", 1e-3, *overrides])
    return settings


def tiny_network(**form: Any) -> MPRNet:
    """One ORSNet alone: a step takes milliseconds."""
    torch.manual_seed(0)
    return AblationMPRNet(4, 2, 3, num_cab=1, reduction=2, **{"subnetworks": ["orsnet"], **form})


def make_trainer(
    folder: Path,
    settings: CfgNode,
    training: Any = None,
    validation: Any = None,
    world: World = ALONE,
    split: dict[str, Any] | None = None,
    workers: int = 0,
) -> Trainer:
    """A Trainer that goes on from what is in ``folder`` if the settings say so."""
    seed = settings.TRAINING.SEED
    data = RunData(
        TrainingSamples(training or Noise(), seed), ValidationPairs(validation or Grey()), "noise", split or {}
    )
    checkpoint = load_latest(folder) if settings.TRAINING.RESUME else None
    return Trainer(tiny_network(), data, settings, folder, {}, world, workers, checkpoint)


def start(function: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Call the function in a process of its own, with one thread."""
    process = CONTEXT.Process(target=_with_one_thread, args=(function, arguments))
    process.start()
    return process


def _with_one_thread(function: Callable[..., None], arguments: Sequence[Any]) -> None:
    start_as_usual()
    torch.set_num_threads(1)
    function(*arguments)


def run_together(size: int, folder: Path, function: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Call ``function(world, *arguments)`` in ``size`` processes, and return their exit codes.

    If one of them ends by a signal, the others are killed.
    """
    meeting = folder / f"meeting-{len(list(folder.glob('meeting-*')))}"
    processes = [start(_joined, rank, size, str(meeting), function, arguments) for rank in range(size)]
    waiting = {process.sentinel: process for process in processes}
    while waiting:
        for sentinel in multiprocessing.connection.wait(list(waiting)):
            ended = waiting.pop(sentinel)
            ended.join()
            if ended.exitcode:
                for other in waiting.values():
                    other.kill()
    return [process.exitcode for process in processes]


def _joined(rank: int, size: int, meeting: str, function: Callable[..., None], arguments: Sequence[Any]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    function(World(rank, size, torch.device("cpu")), *arguments)
    dist.barrier()
    # Without leaving the group in good order, which PyTorch 2.6 may wait for without end.
    sys.stdout.flush()
    os._exit(0)


class Killing(Dataset):
    """Samples of ``Noise``; this process, or the one that it reads for, is killed when the n-th is asked for."""

    addressed_by_epoch = True

    def __init__(self, after: int, by: signal.Signals = signal.SIGKILL) -> None:
        self.samples = Noise()
        self.left = after
        self.by = by
        self.trainer = os.getpid()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        self.left -= 1
        if self.left == 0:
            os.kill(self.trainer, self.by)
        return self.samples[key]
