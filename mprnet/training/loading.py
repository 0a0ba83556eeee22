"""How samples come to the training process: by workers, with their errors in one sentence."""

import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from mprnet.errors import UserError
from mprnet.training.order import StepOrder

_GRACE = 30  # seconds that a worker goes on for after SIGTERM

Batch = tuple[Tensor, Tensor]  # degraded and target, (N, 3, H, W)


def make_loader(
    data: Dataset[tuple[Tensor, Tensor]], order: StepOrder, workers: int, pin_memory: bool
) -> "DataLoader[Any]":
    """Batches of ``data`` in ``order``, read by ``workers`` processes (0: by this one)."""
    return DataLoader(
        data,
        batch_sampler=order,
        collate_fn=stack,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_the_trainer,
        persistent_workers=workers > 0,  # short epochs, as GoPro's of 132 steps, would spend seconds on new ones
    )


def stack(samples: Sequence[tuple[Tensor, Tensor]]) -> Batch:
    """Return samples as a batch.

    Raises:
        UserError: they are not all of one size.
    """
    sizes = {f"{target.shape[2]}x{target.shape[1]}" for _, target in samples}
    if len(sizes) > 1:
        several = " and ".join(sorted(sizes))
        raise UserError(f"the training data holds items of several sizes, {several}: crop them alike.")
    degraded, target = default_collate(list(samples))
    return degraded, target


def batches(loader: "DataLoader[Any]") -> Iterator[Batch]:
    """The loader's batches.

    Raises:
        UserError: a sample cannot be read; from a worker too it is the sentence alone, without its traceback.
    """
    try:
        yield from loader
    except UserError as error:
        sentence = str(error).strip().splitlines()[-1]
        raise UserError(sentence.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")) from error


def free_workers() -> int:
    """How many processes a machine can spare for reading pictures: one per core but the two that train, at most 12; of
    a torchrun's processes on it, each has its share."""
    cores = torch.multiprocessing.cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min(12, cores - 2))


def stop_workers(loader: "DataLoader[Any]") -> None:
    """End the loader's processes; they are kept from one epoch to the next otherwise."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()


def _leave_signals_to_the_trainer(worker: int) -> None:
    # Both are sent to whole groups of processes, and the trainer still needs its batch when it saves its state.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE))
