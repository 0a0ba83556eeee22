"""The steps of an epoch, and what ends a run between two of them: signals, broken data, too little memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import torch
from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.files import write_atomically
from mprnet.inference.distributed import World
from mprnet.inference.out_of_memory import is_out_of_memory
from mprnet.training.advice import describe_divergence, describe_memory
from mprnet.training.datasets import RunData
from mprnet.training.loading import Batch
from mprnet.training.meter import StepMeter
from mprnet.training.mixup import MixUp, draw_mixup
from mprnet.training.order import DistributedBatchSampler, rank_indices
from mprnet.training.progress import Progress
from mprnet.training.step import MAX_LOSS, Stepper
from mprnet.training.stopping import Stopped, StopSignals, WaitInterrupted


class Steps:
    """Makes the steps of a run, and saves its state before it ends early.

    Args:
        folder: gets the list of the last batch if too many steps were skipped.
    """

    def __init__(
        self,
        stepper: Stepper,
        progress: Progress,
        sampler: DistributedBatchSampler,
        signals: StopSignals,
        meter: StepMeter,
        data: RunData,
        settings: CfgNode,
        folder: Path,
        world: World,
    ) -> None:
        self._stepper = stepper
        self._progress = progress
        self._sampler = sampler
        self._signals = signals
        self._meter = meter
        self._data = data
        self._settings = settings
        self._folder = folder
        self._world = world
        self._problem: UserError | None = None  # of this process's data
        self._stop = self._due = 0.0  # the sums over all processes of ``_get_flags``

    def wait_for_batch(self, batches: Iterator[Batch]) -> Batch | None:
        """Return the next batch; None if there is none, because of a signal or a problem with the data."""
        try:
            with self._signals.interrupt(), self._meter.wait():
                return next(batches)
        except WaitInterrupted:
            return None
        except StopIteration:
            self._problem = UserError(
                f"the training data ended after {self._progress.steps_done} of {self._sampler.steps_per_epoch} steps "
                "of an epoch."
            )
        except UserError as error:
            self._problem = error
        return None

    def make(self, epoch: int, batch: Batch | None) -> None:
        """Make a step, unless a process has no batch. Then save the state, and end the run.

        Raises:
            Stopped: a signal asked to stop while a process waited for its batch.
            UserError: a problem with the data of a process, not enough memory, or too many skipped steps in a row.
        """
        progress = self._progress
        if batch is None and self._world.size == 1:
            self._end_run()
        own_count, total = counts = self._sampler.count_samples(progress.steps_done)
        # Without a batch, a process takes part with zeros, so that no other process waits for it.
        degraded, target = self._make_zeros(max(1, own_count)) if batch is None else batch
        mixup = self._draw_mixup(epoch, total)
        with self._explain_out_of_memory():
            result = self._stepper.update(degraded, target, counts, mixup, self._get_flags, is_missing=batch is None)
        if result.is_missing:
            self._end_run()
        progress.totals.add(result.loss, own_count, result.is_updated)
        self._meter.add(result, own_count)
        if progress.totals.skipped_in_a_row >= self._settings.TRAINING.MAX_BAD_STEPS:
            raise self._make_divergence_error()
        progress.steps_done += 1
        self._stop, self._due = result.flags

    def rehearse(self) -> None:
        """On a GPU, compute a step of the largest batch without changing anything: better now than after hours.

        Raises:
            UserError: it does not fit in memory.
        """
        if self._world.device.type != "cpu":
            size = self._settings.OPTIM.BATCH_SIZE
            count = len(rank_indices(size, self._world.rank, self._world.size))
            with self._explain_out_of_memory():
                degraded, target = self._make_zeros(max(1, count))
                self._stepper.update(degraded, target, (count, size), is_missing=True)

    def _make_zeros(self, count: int) -> Batch:
        side = self._settings.TRAINING.TRAIN_PS
        return torch.zeros(2, count, 3, side, side)

    def _end_run(self) -> NoReturn:
        """Save the state and end the run before its next step. All processes have to call this.

        Raises:
            UserError: a problem of this or another process.
            Stopped: there is no problem, but a signal.
        """
        # Broken data at the very start leaves no run behind. All processes decide the same, because all save together.
        problems = self._world.all_reduce(self._problem is not None)[0]
        if self._progress.total_steps or not problems:
            self._progress.save()
        with self._world.fail_together():
            if self._problem is not None:
                raise self._problem
        raise self.make_stopped()

    def make_stopped(self) -> Stopped:
        """Return what to raise after a signal, once the state is saved."""
        done = f"{self._progress.epochs_done} epochs and {self._progress.steps_done} steps"
        return Stopped(f"stopped after {done}; set TRAINING.RESUME True to continue.")

    @contextlib.contextmanager
    def _explain_out_of_memory(self) -> Iterator[None]:
        """If a step does not fit in memory, save the state and say what to set.

        Raises:
            UserError: instead of the device's error.
        """
        try:
            yield
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self._world.size == 1 and self._progress.total_steps:
                self._progress.save()
            raise UserError(describe_memory(self._settings, self._world.device)) from error

    def _draw_mixup(self, epoch: int, samples: int) -> MixUp | None:
        """Return the random numbers for the coming step, the same in all processes; None without MixUp."""
        augment = self._settings.AUGMENT
        if not epoch >= augment.MIXUP_FROM_EPOCH > 0:
            return None
        # The 1 makes these random numbers independent of those that the samples use.
        seed = [self._settings.TRAINING.SEED, epoch, self._progress.steps_done, 1]
        return draw_mixup(samples, augment.MIXUP_ALPHA, seed)

    def _make_divergence_error(self) -> UserError:
        """Return the error for too many skipped steps in a row, and list the last batch in a file."""
        path = self._folder / "skipped_batch.txt"
        if self._world.is_main:
            batch = self._sampler.global_batch(self._progress.steps_done)
            names = [self._data.training.names[index] for index in batch]
            write_atomically(path, "".join(f"{name}\n" for name in names).encode(errors="replace"))
        steps = self._progress.totals.skipped_in_a_row
        return UserError(
            f"the loss or its gradient was not finite, or the loss was above {MAX_LOSS:.0f}, in {steps} steps in a row "
            f"(the last batch is listed in {path}): {describe_divergence(self._settings, self._progress.epochs_done)}."
        )

    def _get_flags(self) -> tuple[float, float]:
        """Return whether a signal asks this process to stop, and whether it is time for the main process to save."""
        is_due = self._progress.seconds_since_save >= 60 * self._settings.TRAINING.SAVE_MINUTES
        # If the last checkpoint could not be written, do not train on for long: save again, or end with an error.
        is_due |= self._progress.writer.has_failed
        return float(self._signals.number or 0), float(is_due and self._world.is_main)

    def save_if_due(self) -> None:
        """Save the state if it is time, or if a signal asked to stop. All processes decide the same.

        Raises:
            Stopped: a signal asked to stop.
        """
        if self._stop or self._due:
            self._progress.save()
        if self._stop:
            raise self.make_stopped()
