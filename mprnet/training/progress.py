"""How far a run is: its counters, its checkpoints, and how it resumes from them."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.inference.distributed import World
from mprnet.training.datasets import RunData
from mprnet.training.logs import RunLogger
from mprnet.training.measures import MEASURES, RGB
from mprnet.training.order import DistributedBatchSampler
from mprnet.training.schedule import make_schedule
from mprnet.training.settings import describe_changes, flatten
from mprnet.training.state import BEST, LATEST, Checkpoint, archive
from mprnet.training.step import Stepper
from mprnet.training.totals import EpochTotals
from mprnet.training.writer import CheckpointWriter


class Progress:
    """A run's counters. With the states of ``stepper`` and ``logger``, they are all that a checkpoint has to hold.

    Attributes:
        epochs_done: number of whole epochs.
        steps_done: number of steps in the current epoch.
        totals: of the current epoch.
        best_psnr: of the best validation, in dB.
        best_by: the name of its measure.
        validation_set: a number, from 1. It increases when the validation changes: PSNR values with different numbers
            cannot be compared.
        writer: of the checkpoints. It is used on the main process only.

    Args:
        epochs: of the whole run.
        metadata: for the weights in the checkpoints.
        data: checkpoints contain its split.
    """

    def __init__(
        self,
        stepper: Stepper,
        sampler: DistributedBatchSampler,
        epochs: int,
        logger: RunLogger,
        metadata: Mapping[str, str],
        data: RunData,
        settings: CfgNode,
        world: World,
    ) -> None:
        self.epochs_done = 0
        self.steps_done = 0
        self._steps_before = 0  # of earlier epochs; the number of steps in an epoch can change when a run is resumed
        self.totals = EpochTotals()
        self.best_psnr = float("-inf")
        self.best_by = settings.TRAINING.BEST_BY
        self.validation_set = 1
        self._stepper = stepper
        self._sampler = sampler
        self._epochs = epochs
        self._logger = logger
        self._metadata = metadata
        self._split = data.split
        self._validation = _describe_validation(data, settings) if world.is_main else {}
        self._settings = settings
        self._world = world
        self._saved_at = time.monotonic()
        self.writer = CheckpointWriter(logger.folder)
        self._saved_validation: dict[str, Any] | None = None  # of the checkpoint that the run was resumed from
        self._schedule = make_schedule(stepper.optimizer, settings.OPTIM, epochs)

    @property
    def is_finished(self) -> bool:
        """True if no epoch is left to train."""
        return self.epochs_done >= self._epochs

    @property
    def total_steps(self) -> int:
        """Steps since the start of the run."""
        return self._steps_before + self.steps_done

    @property
    def seconds_since_save(self) -> float:
        """Seconds since the last ``save``."""
        return time.monotonic() - self._saved_at

    def end_epoch(self) -> None:
        """Move the counters and the learning rate to the next epoch."""
        self.epochs_done += 1
        self._steps_before += self.steps_done
        self._schedule.step()
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.steps_done = 0
        self.totals.reset()

    def make_checkpoint(self) -> dict[str, Any]:
        """Return the content of a checkpoint."""
        stepper = self._stepper
        return {
            "epoch": self.epochs_done,
            "state_dict": stepper.eval_model.state_dict(),
            **stepper.state_dict(),
            # With an EMA, "state_dict" holds the EMA, and "trained" the weights to resume from.
            "trained": stepper.model.state_dict() if stepper.ema is not None else None,
            "steps_before": self._steps_before,
            "steps_done": self.steps_done,
            "cut": self._batch_layout,
            "totals": self.totals.state_dict(),
            "best_psnr": self.best_psnr,
            "validation_set": self.validation_set,
            "history": self._logger.history,
            "metadata": {**self._metadata, "epoch": str(self.epochs_done)},
            "settings": flatten(self._settings),
            "split": self._split,
            "validation": self._validation,
        }

    @property
    def _batch_layout(self) -> list[int]:
        """What decides which samples the batches of an epoch contain."""
        return [self._sampler.length, self._sampler.batch_size, self._settings.TRAINING.SEED]

    def save(self, is_best: bool = False, is_epoch_file: bool = False) -> None:
        """Start to write the latest checkpoint. The main process writes it, but all processes have to call this.

        Args:
            is_best: its weights are the best so far.
            is_epoch_file: write its weights to model_epoch_N.pth too.

        Raises:
            UserError: the checkpoint before cannot be written.
        """
        self.totals.gather_on_main(self._world)
        if self._world.is_main:
            keep_epochs = self._settings.TRAINING.KEEP_EPOCHS
            self.writer.write(self.make_checkpoint(), is_best, is_epoch_file, keep_epochs)
        self._saved_at = time.monotonic()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, and print which settings have changed since it was written.

        Raises:
            UserError: the checkpoint is of another network.
        """
        content, path = checkpoint.content, checkpoint.path
        weights = content.get("trained") or content["state_dict"]
        prefix = "module." if all(key.startswith("module.") for key in weights) else ""
        try:
            self._stepper.model.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items()})
            self._stepper.load_state_dict(content)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} holds another network or optimizer than the settings say: set MODEL and OPTIM.OPTIMIZER as "
                "they were, or start another run with another MODEL.SESSION."
            ) from error
        self.epochs_done = int(content["epoch"])
        self._set_learning_rate()
        self._steps_before = int(content.get("steps_before", self.epochs_done * self._sampler.steps_per_epoch))
        self.steps_done = int(content.get("steps_done", 0))
        self.totals.load_state_dict(content.get("totals", {}), self._world)
        self.best_psnr = float(content.get("best_psnr", self.best_psnr))
        self.best_by = content.get("settings", {}).get("TRAINING.BEST_BY", RGB)
        self.validation_set = int(content.get("validation_set", 1))
        self._logger.history = list(content.get("history", []))
        self.writer.latest_is_damaged = path.name != LATEST
        self._saved_validation = content.get("validation")
        note = f" ({LATEST} is damaged)" if self.writer.latest_is_damaged else ""
        self._logger.print(
            f"resuming from {path}{note}: {self.epochs_done} epochs and {self.steps_done} steps are done"
        )
        if self.steps_done and content.get("cut") != self._batch_layout:
            self._logger.print(
                "the batches have changed (number of samples, batch size or seed): the epoch is trained from its start"
            )
            self._steps_before += self.steps_done
            self._start_epoch()
        if "settings" in content:
            for line in describe_changes(content["settings"], flatten(self._settings)):
                self._logger.print(f"  {line}")
        else:
            self._logger.print("  the checkpoint does not contain its settings: compare them yourself")

    def check_validation(self) -> None:
        """Reset ``best_psnr`` if this run's validation is not the one that it is from: the values cannot be compared.

        The best weights so far are kept under a name with the number of steps. All processes have to call this.
        """
        self.best_by = self._settings.TRAINING.BEST_BY
        saved, self._saved_validation = self._saved_validation, self._validation
        has_changed = self._world.is_main and self.total_steps > 0 and saved != self._validation
        if not self._world.all_reduce(float(has_changed))[0]:
            return
        best_path = self._logger.folder / BEST
        if saved is None:
            message = "the checkpoint does not say what it was validated on"
        else:
            names = [name for name, value in self._validation.items() if saved.get(name) != value]
            message = f"the validation has changed ({', '.join(names)})"
        message += ": the best PSNR is reset"
        if self._world.is_main and best_path.exists():
            archived = archive(best_path, self.total_steps)
            message += f"; the best model so far, {self.best_psnr:.3f} dB, is kept as {archived.name}"
        self._logger.print(message)
        self.best_psnr = float("-inf")
        self.validation_set += 1
        self.save()

    def _set_learning_rate(self) -> None:
        """Set the learning rate of the coming epoch. It depends only on the settings, which may have changed.

        The schedule is stepped through all epochs so far, which gives exactly the rate of a run that was not stopped.
        """
        optimizer = self._stepper.optimizer
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self._settings.OPTIM.LR_INITIAL
        self._schedule = make_schedule(optimizer, self._settings.OPTIM, self._epochs)
        with warnings.catch_warnings():
            # PyTorch warns that the schedule is stepped before the optimizer.
            warnings.filterwarnings("ignore", "Detected call of")
            for _ in range(self.epochs_done):
                self._schedule.step()


def _describe_validation(data: RunData, settings: CfgNode) -> dict[str, Any]:
    """Return what a validation's PSNR depends on, apart from the weights. If it changes, values cannot be compared."""
    return {
        "pictures": data.validation.fingerprint(),
        "TRAINING.VAL_PS": settings.TRAINING.VAL_PS,
        "measure": MEASURES[settings.TRAINING.BEST_BY].definition,
    }
