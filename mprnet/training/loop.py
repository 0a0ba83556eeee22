"""The training loop: steps, validation and checkpoints. A resumed run gives the same weights as one without a stop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.inference.distributed import World
from mprnet.model.network import MPRNet
from mprnet.training.datasets import RunData
from mprnet.training.loading import load_batches, make_loader, stop_workers
from mprnet.training.logs import RunLogger
from mprnet.training.measures import MEASURES, RGB, choose_measures
from mprnet.training.meter import StepMeter
from mprnet.training.order import DistributedBatchSampler, ceil_divide
from mprnet.training.progress import Progress
from mprnet.training.state import Checkpoint, describe_space
from mprnet.training.step import Stepper
from mprnet.training.steps import Steps
from mprnet.training.stopping import StopSignals
from mprnet.training.validation import Validator, is_validation_epoch, validation_steps


class Trainer:
    """Trains ``model`` on the training data and validates it.

    Args:
        data: for training and validation.
        folder: for checkpoints, logs and pictures.
        metadata: for the files of weights.
        workers: number of processes that read samples; 0: this process reads them.
        checkpoint: to resume from; None for a new run.
        measure: the task's own, which the validation reports beside RGB PSNR.
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
        measure: str = RGB,
    ) -> None:
        self.settings = settings
        self.world = world
        self.folder = folder
        self.data = data
        self._checkpoint = checkpoint
        optim, seed = settings.OPTIM, settings.TRAINING.SEED
        self.sampler = DistributedBatchSampler(len(data.training), optim.BATCH_SIZE, seed, world.rank, world.size)
        self.loader = make_loader(data.training, self.sampler, workers, pin_memory=world.device.type == "cuda")
        measures = choose_measures(measure, settings.TRAINING.BEST_BY)
        self.validator = Validator(data.validation, measures, settings.TRAINING, folder, world, workers)
        self.epochs = optim.NUM_EPOCHS
        if optim.NUM_ITERATIONS:
            self.epochs = ceil_divide(optim.NUM_ITERATIONS, self.sampler.steps_per_epoch)
        self.stepper = Stepper(model, settings, world)
        self.logger = RunLogger(folder, world.is_main)
        self.progress = Progress(self.stepper, self.sampler, self.epochs, self.logger, metadata, data, settings, world)
        self.signals = StopSignals()
        self.meter = StepMeter(world)
        self.steps = Steps(
            self.stepper, self.progress, self.sampler, self.signals, self.meter, data, settings, folder, world
        )

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
        if self.world.is_main and (note := describe_space(self.folder, self.stepper.checkpoint_bytes)):
            self.logger.print(f"note: {note}")
        # All batches have one size, so it pays to time cuDNN's algorithms for it.
        benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        with self.signals:  # also while the last checkpoint is written
            try:
                self.steps.rehearse()
                self.meter.restart()
                while not self.progress.is_finished:
                    self._train_epoch(self.progress.epochs_done + 1)
                    self._end_epoch()
            finally:
                torch.backends.cudnn.benchmark = benchmark
                stop_workers(self.loader)
                self.validator.close()
                self.logger.close()
                self.progress.writer.close()  # waits for the last checkpoint

    def _train_epoch(self, epoch: int) -> None:
        progress = self.progress
        steps_per_epoch = self.sampler.steps_per_epoch
        self.sampler.epoch, self.sampler.start_step = epoch, progress.steps_done
        validated_steps = validation_steps(self.settings.TRAINING, epoch, steps_per_epoch)
        self.stepper.model.train()
        self._validate_if_due(validated_steps)  # the run may have been stopped before the validation of its last step
        bar = tqdm(
            desc=f"epoch {epoch}/{self.epochs}",
            initial=progress.steps_done,
            total=steps_per_epoch,
            unit="step",
            leave=False,
            mininterval=0.5,
            disable=None if self.world.is_main else True,  # None: if stderr is not a terminal
        )
        batches = load_batches(self.loader)
        with bar:
            while progress.steps_done < steps_per_epoch:
                self.steps.make(epoch, self.steps.wait_for_batch(batches))
                bar.set_postfix(progress.totals.as_text(), refresh=False)
                bar.update()
                self._validate_if_due(validated_steps)
                self._log_if_due()
                self.steps.save_if_due()

    def _validate_if_due(self, validated_steps: set[int]) -> None:
        if self.progress.steps_done in validated_steps and not self._is_logged:
            self._log_progress(validated=True)
            self.stepper.model.train()

    def _log_if_due(self) -> None:
        """Add a row to the log after each LOG_STEPS steps. The end of an epoch has a row of its own."""
        every, progress = self.settings.TRAINING.LOG_STEPS, self.progress
        is_due = bool(every) and progress.total_steps % every == 0 and progress.total_steps > 0
        if is_due and progress.steps_done < self.sampler.steps_per_epoch and not self._is_logged:
            self.logger.add_row(self._make_row())

    @property
    def _is_logged(self) -> bool:
        """True if the log has a row for the steps so far."""
        history = self.logger.history
        return bool(history) and history[-1]["step"] == self.progress.total_steps

    def _end_epoch(self) -> None:
        epoch = self.progress.epochs_done + 1
        self._log_progress(validated=epoch == self.epochs or is_validation_epoch(self.settings.TRAINING, epoch))

    def _log_progress(self, validated: bool) -> None:
        """Validate, add a row to the log, and save the state. At an epoch's end, move on to the next epoch.

        The checkpoint is written last. So a run that is killed in here does all this again.
        """
        progress = self.progress
        is_epoch_end = progress.steps_done == self.sampler.steps_per_epoch
        row = self._make_row()
        improved = False
        if validated:
            progress.save()  # if the validation fails, the steps are not lost
            values = self.validator.validate(self.stepper.eval_model, self.signals)
            if values is None:
                raise self.steps.make_stopped()
            column = MEASURES[progress.best_by].column
            improved = values[column] > progress.best_psnr
            progress.best_psnr = max(progress.best_psnr, values[column])  # in this order, NaN does not become the best
            row |= values | {f"best_{column}": progress.best_psnr, "validation_set": progress.validation_set}
        if is_epoch_end:
            progress.end_epoch()
        self.logger.add_row(row)
        progress.save(is_best=improved, is_epoch_file=validated and is_epoch_end)
        self.meter.restart()  # leaves the time of the validation out

    def _make_row(self) -> dict[str, Any]:
        """Return a row of the log, without a validation. All processes have to call this."""
        progress, steps_per_epoch = self.progress, self.sampler.steps_per_epoch
        is_epoch_end = progress.steps_done == steps_per_epoch
        epochs = progress.epochs_done + progress.steps_done / steps_per_epoch
        steps_left = round((self.epochs - epochs) * steps_per_epoch)
        return {
            "epoch": progress.epochs_done + 1 if is_epoch_end else round(epochs, 6),
            "step": progress.total_steps,
            "lr": self.stepper.optimizer.param_groups[0]["lr"],
            "loss": progress.totals.mean_loss(self.world),
            "skipped_steps": int(progress.totals.skipped),
            **self.meter.read(steps_left),
        }
