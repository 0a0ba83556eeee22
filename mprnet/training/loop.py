"""The training loop: steps, validation and checkpoints. A resumed run gives the same weights as one without a stop."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.files import write_atomically
from mprnet.inference.distributed import World
from mprnet.model.network import MPRNet
from mprnet.training.datasets import RunData
from mprnet.training.loading import load_batches, make_loader, stop_workers
from mprnet.training.logs import RunLogger
from mprnet.training.mixup import MixUp, draw_mixup
from mprnet.training.order import DistributedBatchSampler, ceil_divide
from mprnet.training.progress import Progress
from mprnet.training.state import BEST, Checkpoint, save_checkpoint
from mprnet.training.step import MAX_LOSS, Stepper
from mprnet.training.validation import is_validation_epoch, validate, validation_steps

# A second Ctrl-C stops at once if it comes so many seconds after the first. Schedulers and torchrun may send the same
# signal twice within an instant.
_SECOND_SIGNAL_SECONDS = 1.0


class Stopped(Exception):  # noqa: N818  # not an error: the user asked for it
    """The run stopped because of a signal. Its state is saved."""


class Trainer:
    """Trains ``model`` on the training data and validates it.

    Args:
        data: for training and validation.
        folder: for checkpoints, logs and pictures.
        metadata: for the files of weights.
        workers: number of processes that read samples; 0: this process reads them.
        checkpoint: to resume from; None for a new run.
    """

    def __init__(
        self,
        model: MPRNet,
        data: RunData,
        settings: CfgNode,
        folder: Path,
        metadata: Mapping[str, str],
        world: World,
        workers: int = 0,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.settings = settings
        self.world = world
        self.folder = folder
        self.data = data
        self._checkpoint = checkpoint
        optim, seed = settings.OPTIM, settings.TRAINING.SEED
        self.sampler = DistributedBatchSampler(len(data.training), optim.BATCH_SIZE, seed, world.rank, world.size)
        self.loader = make_loader(data.training, self.sampler, workers, pin_memory=world.device.type == "cuda")
        self.epochs = optim.NUM_EPOCHS
        if optim.NUM_ITERATIONS:
            self.epochs = ceil_divide(optim.NUM_ITERATIONS, self.sampler.steps_per_epoch)
        self.stepper = Stepper(model, settings, world)
        self.logger = RunLogger(folder, world.is_main)
        self.progress = Progress(self.stepper, self.sampler, self.epochs, self.logger, metadata, data, settings, world)
        self.signal: int | None = None
        self._signal_time = 0.0

    def run(self) -> None:
        """Train all epochs that are left.

        Raises:
            UserError: the checkpoint is of another network, data is broken, too many steps in a row were skipped, or
                there is no space to save.
            Stopped: SIGTERM or Ctrl-C came, and the state is saved.
        """
        if self._checkpoint is not None:
            self.progress.resume(self._checkpoint)
            self._checkpoint = None  # frees its memory
        for note in self.data.notes:
            self.logger.print(f"note: {note}")
        if self.progress.is_finished:
            done = self.progress.epochs_done
            self.logger.print(f"nothing is left to do: {done} epochs are done, and the settings ask for {self.epochs}.")
            return
        self.progress.check_validation()
        self.logger.start(self.settings, self.progress.total_steps)
        # All batches have one size, so it pays to time cuDNN's algorithms for it.
        benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self.progress.is_finished:
                self._train_epoch(self.progress.epochs_done + 1)
                self._end_epoch()
        finally:
            torch.backends.cudnn.benchmark = benchmark
            stop_workers(self.loader)
            self.logger.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _train_epoch(self, epoch: int) -> None:
        progress = self.progress
        steps_per_epoch = self.sampler.steps_per_epoch
        self.sampler.epoch, self.sampler.start_step = epoch, progress.steps_done
        validated_steps = validation_steps(self.settings.TRAINING, epoch, steps_per_epoch)
        self.stepper.model.train()
        self._validate_if_due(validated_steps)  # the run may have been stopped before the validation of its last step
        bar = tqdm(
            load_batches(self.loader),
            f"epoch {epoch}/{self.epochs}",
            initial=progress.steps_done,
            total=steps_per_epoch,
            unit="step",
            leave=False,
            disable=not self.world.is_main,
        )
        for degraded, target in bar:
            counts = self.sampler.count_samples(progress.steps_done)
            own_count, total = counts
            result = self.stepper.update(degraded, target, counts, self._draw_mixup(epoch, total), self._get_flags)
            progress.totals.add(result.loss, own_count, result.is_updated)
            if progress.totals.skipped_in_a_row >= self.settings.TRAINING.MAX_BAD_STEPS:
                raise self._make_divergence_error()
            progress.steps_done += 1
            bar.set_postfix(progress.totals.as_text())
            self._validate_if_due(validated_steps)
            self._save_if_due(*result.flags)
        if progress.steps_done < steps_per_epoch:
            raise UserError(
                f"the training data ended after {progress.steps_done} of {steps_per_epoch} steps of an epoch."
            )

    def _draw_mixup(self, epoch: int, samples: int) -> MixUp | None:
        """Return the random numbers for the coming step, the same in all processes; None without MixUp."""
        augment = self.settings.AUGMENT
        if not epoch >= augment.MIXUP_FROM_EPOCH > 0:
            return None
        # The 1 makes these random numbers independent of those that the samples use.
        seed = [self.settings.TRAINING.SEED, epoch, self.progress.steps_done, 1]
        return draw_mixup(samples, augment.MIXUP_ALPHA, seed)

    def _make_divergence_error(self) -> UserError:
        """Return the error for too many skipped steps in a row, and list the last batch in a file."""
        path = self.folder / "skipped_batch.txt"
        if self.world.is_main:
            batch = self.sampler.global_batch(self.progress.steps_done)
            names = [self.data.training.names[index] for index in batch]
            write_atomically(path, "".join(f"{name}\n" for name in names).encode(errors="replace"))
        steps = self.progress.totals.skipped_in_a_row
        advice = [f"lower OPTIM.LR_INITIAL (it is {self.settings.OPTIM.LR_INITIAL:g})"]
        if not self.settings.OPTIM.GRAD_CLIP:
            advice.append("set OPTIM.GRAD_CLIP 1")
        if self.settings.TRAINING.PRECISION != "fp32":
            advice.append("train with TRAINING.PRECISION fp32")
        if self.progress.epochs_done:
            advice.append("start another run from an earlier model_epoch_N.pth (TRAINING.INIT_WEIGHTS)")
        return UserError(
            f"the loss or its gradient was not finite, or the loss was above {MAX_LOSS:.0f}, in {steps} steps in a row "
            f"(the last batch is listed in {path}): {', or '.join(advice)}."
        )

    def _get_flags(self) -> tuple[float, float]:
        """Return whether a signal asks this process to stop, and whether it is time for the main process to save."""
        is_due = self.progress.seconds_since_save >= 60 * self.settings.TRAINING.SAVE_MINUTES
        return float(self.signal or 0), float(is_due and self.world.is_main)

    def _save_if_due(self, signals: float, due_on_main: float) -> None:
        """Save the state if it is time, or if a signal asked to stop. All processes decide the same.

        Args:
            signals, due_on_main: the sums over all processes of ``_get_flags``.

        Raises:
            Stopped: a signal asked to stop.
        """
        if signals or due_on_main:
            self.progress.save()
        if signals:
            done = f"{self.progress.epochs_done} epochs and {self.progress.steps_done} steps"
            raise Stopped(f"stopped after {done}; set TRAINING.RESUME True to continue.")

    def _validate_if_due(self, validated_steps: set[int]) -> None:
        history = self.logger.history
        is_logged = bool(history) and history[-1]["step"] == self.progress.total_steps
        if self.progress.steps_done in validated_steps and not is_logged:
            self._log_progress(validated=True)
            self.stepper.model.train()
            self.progress.save()

    def _end_epoch(self) -> None:
        epoch = self.progress.epochs_done + 1
        self._log_progress(validated=epoch == self.epochs or is_validation_epoch(self.settings.TRAINING, epoch))
        self.progress.save()

    def _log_progress(self, validated: bool) -> None:
        """Validate, add a row to the log, and save the weights. At an epoch's end, move on to the next epoch.

        The caller writes the latest checkpoint afterwards. So a run that is killed in here does all this again.
        """
        progress = self.progress
        is_epoch_end = progress.steps_done == self.sampler.steps_per_epoch
        epochs = progress.epochs_done + progress.steps_done / self.sampler.steps_per_epoch
        row: dict[str, Any] = {
            "epoch": progress.epochs_done + 1 if is_epoch_end else round(epochs, 3),
            "step": progress.total_steps,
            "lr": self.stepper.optimizer.param_groups[0]["lr"],
            "loss": progress.totals.mean_loss(self.world),
            "skipped_steps": int(progress.totals.skipped),
        }
        improved = False
        if validated:
            progress.save()  # if the validation fails, the steps are not lost
            t = self.settings.TRAINING
            skip_broken = t.ON_BROKEN == "skip"
            input_psnr, psnr = validate(
                self.stepper.eval_model, self.data.validation, self.world, self.folder, t.SAVE_IMAGES, skip_broken
            )
            improved = psnr > progress.best_psnr
            progress.best_psnr = max(progress.best_psnr, psnr)  # in this order, NaN does not become the best
            row |= {"input_psnr": input_psnr, "psnr": psnr, "best_psnr": progress.best_psnr}
            row["validation_set"] = progress.validation_set
        if is_epoch_end:
            progress.end_epoch()
        self.logger.add_row(row)
        if self.world.is_main and validated:
            content = progress.make_checkpoint()
            if is_epoch_end:
                save_checkpoint(self.folder / f"model_epoch_{progress.epochs_done}.pth", content)
            if improved:
                save_checkpoint(self.folder / BEST, content)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._signal_time = number, now
        elif number == signal.SIGINT and now > self._signal_time + _SECOND_SIGNAL_SECONDS:
            raise KeyboardInterrupt
