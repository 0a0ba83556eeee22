"""The training loop: epochs of steps, validation, checkpoints, and going on after a stop as if there had been none."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.files import write_atomically
from mprnet.inference.distributed import World
from mprnet.model.network import MPRNet
from mprnet.training.datasets import RunData
from mprnet.training.loading import batches, make_loader, stop_workers
from mprnet.training.logs import Journal
from mprnet.training.mixup import MixUp, draw_mixup
from mprnet.training.order import StepOrder
from mprnet.training.progress import Progress
from mprnet.training.state import BEST, Checkpoint, save_checkpoint
from mprnet.training.step import LARGEST_LOSS, Stepper
from mprnet.training.validation import is_validated, validate, validations_within

_IMPATIENCE = 1.0  # seconds after which a second Ctrl-C is a person's


class Stopped(Exception):  # noqa: N818  # a wish granted, not an error
    """A signal asked the run to stop, and it did, its state saved."""


class Trainer:
    """Trains ``model`` on ``training`` pairs and measures it on ``validation`` pairs.

    Args:
        data: what to train and to validate on.
        folder: where checkpoints, logs and pictures go.
        metadata: what the weights' files say of themselves.
        checkpoint: to go on from; None for a new run.
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
        optim = settings.OPTIM
        self.order = StepOrder(len(data.training), optim.BATCH_SIZE, settings.TRAINING.SEED, world.rank, world.size)
        self.loader = make_loader(data.training, self.order, workers, pin_memory=world.device.type == "cuda")
        self.epochs = -(-optim.NUM_ITERATIONS // self.order.steps) if optim.NUM_ITERATIONS else optim.NUM_EPOCHS
        self.stepper = Stepper(model, settings, world)
        self.journal = Journal(folder, world.is_main)
        self.progress = Progress(self.stepper, self.order, self.epochs, self.journal, metadata, data, settings, world)
        self.signal: int | None = None
        self._signalled_at = 0.0

    def run(self) -> None:
        """Train all epochs, or what is left of them.

        Raises:
            UserError: a checkpoint of another network, broken data, too many steps skipped, no space to save.
            Stopped: SIGTERM or Ctrl-C came; the state is saved.
        """
        if self._checkpoint is not None:
            self.progress.resume(self._checkpoint)
            self._checkpoint = None  # its tensors are in use now, or not needed any more
        for note in self.data.notes:
            self.journal.say(f"note: {note}")
        if self.progress.is_finished:
            asked = f"the settings ask for {self.epochs}"
            self.journal.say(f"nothing is left to do: {self.progress.done} epochs are done, and {asked}.")
            return
        self.progress.keep_best_apart()
        self.journal.start(self.settings, self.progress.steps)
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self.progress.is_finished:
                self._epoch(self.progress.done + 1)
                self._end_epoch()
        finally:
            stop_workers(self.loader)
            self.journal.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _epoch(self, epoch: int) -> None:
        at = self.progress
        self.order.epoch, self.order.start = epoch, at.steps_done
        between = validations_within(self.settings.TRAINING, epoch, self.order.steps)
        self.stepper.model.train()
        self._validate_within(between)  # where a run may have been cut off
        bar = tqdm(
            batches(self.loader),
            f"epoch {epoch}/{self.epochs}",
            initial=at.steps_done,
            total=self.order.steps,
            unit="step",
            leave=False,
            disable=not self.world.is_main,
        )
        for degraded, target in bar:
            share = self.order.share(at.steps_done)
            result = self.stepper.update(degraded, target, share, self._mixup(epoch, share[1]))
            at.tally.add(result.loss, share[0], result.sound)
            if at.tally.bad_in_a_row >= self.settings.TRAINING.MAX_BAD_STEPS:
                raise self._diverged()
            at.steps_done += 1
            bar.set_postfix(at.tally.shown())
            self._validate_within(between)
            self._save_in_between()
        if at.steps_done < self.order.steps:
            raise UserError(f"the training data ended after {at.steps_done} of {self.order.steps} steps of an epoch.")

    def _mixup(self, epoch: int, samples: int) -> MixUp | None:
        """The draws for the step to come, the same in all processes."""
        augment = self.settings.AUGMENT
        if not epoch >= augment.MIXUP_FROM_EPOCH > 0:
            return None
        # The last number keeps these draws apart from those of the samples.
        seed = [self.settings.TRAINING.SEED, epoch, self.progress.steps_done, 1]
        return draw_mixup(samples, augment.MIXUP_ALPHA, seed)

    def _diverged(self) -> UserError:
        """What to say of too many bad steps; the last batch is listed in a file."""
        path = self.folder / "skipped_batch.txt"
        if self.world.is_main:
            names = [self.data.training.names[index] for index in self.order.together(self.progress.steps_done)]
            write_atomically(path, "".join(f"{name}\n" for name in names).encode(errors="replace"))
        times = self.progress.tally.bad_in_a_row
        ways = [f"lower OPTIM.LR_INITIAL (it is {self.settings.OPTIM.LR_INITIAL:g})"]
        if not self.settings.OPTIM.GRAD_CLIP:
            ways.append("set OPTIM.GRAD_CLIP 1")
        if self.settings.TRAINING.PRECISION != "fp32":
            ways.append("train with TRAINING.PRECISION fp32")
        if self.progress.done:
            ways.append("begin another run from an earlier model_epoch_N.pth (TRAINING.INIT_WEIGHTS)")
        return UserError(
            f"the loss or its gradient was not finite, or the loss above {LARGEST_LOSS:.0f}, in {times} steps in a row "
            f"(the last batch is listed in {path}): {', or '.join(ways)}."
        )

    def _save_in_between(self) -> None:
        """Save the state if it is time or a signal asked to stop; all processes decide alike."""
        due = self.progress.unsaved_for >= 60 * self.settings.TRAINING.SAVE_MINUTES
        asked, due_anywhere = self.world.all_reduce(float(self.signal or 0), float(due and self.world.is_main))
        if asked or due_anywhere:
            self.progress.save()
        if asked:
            at = self.progress
            raise Stopped(f"stopped after {at.done} epochs and {at.steps_done} steps; TRAINING.RESUME True goes on.")

    def _validate_within(self, steps: set[int]) -> None:
        history = self.journal.history
        if self.progress.steps_done in steps and not (history and history[-1]["step"] == self.progress.steps):
            self._report(validated=True)
            self.stepper.model.train()
            self.progress.save()

    def _end_epoch(self) -> None:
        epoch = self.progress.done + 1
        self._report(validated=epoch == self.epochs or is_validated(self.settings.TRAINING, epoch))
        self.progress.save()

    def _report(self, validated: bool) -> None:
        """Enter what was done since the epoch began in the log; validate, and keep the weights if they are the best.

        At an epoch's end, begin the next one. The latest checkpoint is left to the caller, who writes it last: a run
        that is cut off before does all this again.
        """
        at = self.progress
        is_whole = at.steps_done == self.order.steps
        row: dict[str, Any] = {
            "epoch": at.done + 1 if is_whole else round(at.done + at.steps_done / self.order.steps, 3),
            "step": at.steps,
            "lr": self.stepper.optimizer.param_groups[0]["lr"],
            "loss": at.tally.mean(self.world),
            "skipped_steps": int(at.tally.skipped),
        }
        improved = False
        if validated:
            at.save()  # what was trained is not to be lost to what happens while validating
            t = self.settings.TRAINING
            before, after = validate(
                self.stepper.kept, self.data.validation, self.world, self.folder, t.SAVE_IMAGES, t.ON_BROKEN == "skip"
            )
            improved = after > at.best
            at.best = max(at.best, after)  # in this order: a mean that is no number stays out
            row |= {"input_psnr": before, "psnr": after, "best_psnr": at.best, "validation_set": at.validation_set}
        if is_whole:
            at.end_epoch()
        self.journal.add(row)
        if self.world.is_main and validated:
            content = at.content()
            if is_whole:
                save_checkpoint(self.folder / f"model_epoch_{at.done}.pth", content)
            if improved:
                save_checkpoint(self.folder / BEST, content)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._signalled_at = number, now
        # Schedulers signal a run twice in an instant, by themselves and through torchrun; only a person is impatient.
        elif number == signal.SIGINT and now > self._signalled_at + _IMPATIENCE:
            raise KeyboardInterrupt
