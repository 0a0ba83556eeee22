"""The training loop: epochs of steps, validation, checkpoints, and going on after a stop as if there had been none."""

import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.files import write_whole
from mprnet.inference.distributed import World
from mprnet.model.network import MPRNet
from mprnet.training.loading import batches, make_loader, stop_workers
from mprnet.training.logs import Journal
from mprnet.training.order import StepOrder
from mprnet.training.schedule import make_schedule
from mprnet.training.state import LATEST, load_latest, save_checkpoint, save_latest
from mprnet.training.step import Stepper
from mprnet.training.tally import Tally
from mprnet.training.validation import is_validated, validate, validations_within


class Stopped(Exception):  # noqa: N818  # a wish granted, not an error
    """A signal asked the run to stop, and it did, its state saved."""


class Trainer:
    """Trains ``model`` on ``training`` pairs and measures it on ``validation`` pairs.

    Args:
        training: addressed by (epoch, index); degraded and target, (3, H, W) in [0, 1], and the index. ``names`` of its
            items serve to say which batch broke.
        validation: degraded, target and a name; sides of any size.
        folder: where checkpoints, logs and pictures go.
        metadata: what the weights' files say of themselves.
    """

    def __init__(
        self,
        model: MPRNet,
        training: Dataset[tuple[Tensor, Tensor, int]],
        names: Sequence[str],
        validation: Sequence[tuple[Tensor, Tensor, str]],
        settings: CfgNode,
        folder: Path,
        metadata: dict[str, str],
        world: World,
        workers: int = 0,
    ) -> None:
        self.settings = settings
        self.world = world
        self.folder = folder
        self.metadata = metadata
        self.names = names
        self.validation = validation
        optim = settings.OPTIM
        self.order = StepOrder(len(names), optim.BATCH_SIZE, settings.TRAINING.SEED, world.rank, world.size)
        self.loader = make_loader(training, self.order, workers, pin_memory=world.device.type == "cuda")
        self.epochs = -(-optim.NUM_ITERATIONS // self.order.steps) if optim.NUM_ITERATIONS else optim.NUM_EPOCHS
        self.stepper = Stepper(model, settings, world)
        self.schedule = make_schedule(self.stepper.optimizer, optim, self.epochs)
        self.done = 0  # whole epochs
        self.steps_done = 0  # in the epoch after those
        self.tally = Tally()  # of that epoch
        self.best = float("-inf")
        self.journal = Journal(folder, world.is_main)
        self.saved_at = time.monotonic()
        self.signal: int | None = None

    def run(self) -> None:
        """Train all epochs, or what is left of them.

        Raises:
            UserError: nothing to resume from, broken data, too many steps that were not finite, no space to save.
            Stopped: SIGTERM or Ctrl-C came; the state is saved.
        """
        if self.settings.TRAINING.RESUME:
            self._resume()
        self.journal.start(self.settings, self._steps)
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while self.done < self.epochs:
                self._epoch(self.done + 1)
                self._end_epoch()
        finally:
            stop_workers(self.loader)
            self.journal.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    @property
    def _steps(self) -> int:
        """Updates since the beginning."""
        return self.done * self.order.steps + self.steps_done

    def _epoch(self, epoch: int) -> None:
        self.order.epoch, self.order.start = epoch, self.steps_done
        between = validations_within(self.settings.TRAINING, epoch, self.order.steps)
        self.stepper.model.train()
        self._validate_within(between)  # where a run may have been cut off
        bar = tqdm(
            batches(self.loader),
            f"epoch {epoch}/{self.epochs}",
            initial=self.steps_done,
            total=self.order.steps,
            unit="step",
            leave=False,
            disable=not self.world.is_main,
        )
        for degraded, target, _ in bar:
            share = self.order.share(self.steps_done)
            seed = [self.settings.TRAINING.SEED, epoch, self.steps_done, self.world.rank]
            result = self.stepper.update(degraded, target, share, seed)
            self.tally.add(result.loss, share[0], result.finite)
            if self.tally.bad_in_a_row >= self.settings.TRAINING.MAX_BAD_STEPS:
                raise self._not_finite()
            self.steps_done += 1
            bar.set_postfix(self.tally.shown())
            self._validate_within(between)
            self._save_in_between()

    def _not_finite(self) -> UserError:
        """What to say of too many bad steps; the last batch is listed in a file."""
        path = self.folder / "not_finite.txt"
        if self.world.is_main:
            batch = self.order.together(self.steps_done)
            write_whole(path, "".join(f"{self.names[index]}\n" for index in batch).encode(errors="replace"))
        return UserError(
            f"the loss or its gradient was not finite in {self.tally.bad_in_a_row} steps in a row (the last batch is "
            f"listed in {path}): lower OPTIM.LR_INITIAL, set OPTIM.GRAD_CLIP, or train with TRAINING.PRECISION fp32."
        )

    def _save_in_between(self) -> None:
        """Save the state if it is time or a signal asked to stop; all processes decide alike."""
        due = time.monotonic() - self.saved_at >= 60 * self.settings.TRAINING.SAVE_MINUTES
        asked, due_anywhere = self.world.sum(float(self.signal or 0), float(due and self.world.is_main))
        if asked or due_anywhere:
            self._save_latest()
        if asked:
            raise Stopped(
                f"stopped after {self.done} epochs and {self.steps_done} steps; TRAINING.RESUME True goes on."
            )

    def _validate_within(self, steps: set[int]) -> None:
        history = self.journal.history
        if self.steps_done in steps and not (history and history[-1]["step"] == self._steps):
            self._report(validated=True)
            self.stepper.model.train()
            self._save_latest()

    def _end_epoch(self) -> None:
        epoch = self.done + 1
        self._report(validated=epoch == self.epochs or is_validated(self.settings.TRAINING, epoch))
        self._save_latest()

    def _report(self, validated: bool) -> None:
        """Enter what was done since the epoch began in the log; validate, and keep the weights if they are the best.

        At an epoch's end, begin the next one. The latest checkpoint is left to the caller, who writes it last: a run
        that is cut off before does all this again.
        """
        is_whole = self.steps_done == self.order.steps
        row: dict[str, Any] = {
            "epoch": self.done + 1 if is_whole else round(self.done + self.steps_done / self.order.steps, 3),
            "step": self._steps,
            "lr": self.stepper.optimizer.param_groups[0]["lr"],
            "loss": self.tally.mean(self.world),
            "skipped_steps": int(self.tally.skipped),
        }
        improved = False
        if validated:
            self._save_latest()  # what was trained is not to be lost to what happens while validating
            t = self.settings.TRAINING
            before, after = validate(
                self.stepper.kept, self.validation, self.world, self.folder, t.SAVE_IMAGES, t.ON_BROKEN == "skip"
            )
            improved = after > self.best
            self.best = max(after, self.best)
            row |= {"input_psnr": before, "psnr": after, "best_psnr": self.best}
        if is_whole:
            self.done += 1
            self.schedule.step()
            self.steps_done = 0
            self.tally.begin()
        self.journal.add(row)
        if self.world.is_main and validated:
            content = self._content()
            if is_whole:
                save_checkpoint(self.folder / f"model_epoch_{self.done}.pth", content)
            if improved:
                save_checkpoint(self.folder / "model_best.pth", content)

    def _content(self) -> dict[str, Any]:
        return {
            "epoch": self.done,
            "state_dict": self.stepper.kept.state_dict(),
            **self.stepper.state(),
            "trained": self.stepper.model.state_dict() if self.stepper.average is not None else None,
            "steps_done": self.steps_done,
            "cut": self._cut,
            "totals": self.tally.state(),
            "best_psnr": self.best,
            "history": self.journal.history,
            "metadata": {**self.metadata, "epoch": str(self.done)},
        }

    def _save_latest(self) -> None:
        self.tally.gather(self.world)
        if self.world.is_main:
            save_latest(self.folder, self._content())
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        content, path = load_latest(self.folder)
        weights = content.get("trained") or content["state_dict"]
        prefix = "module." if all(key.startswith("module.") for key in weights) else ""
        try:
            self.stepper.model.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items()})
            self.stepper.load_state(content)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is of another network or optimizer than these settings describe.") from error
        self._set_rate(int(content["epoch"]))
        self.steps_done = int(content.get("steps_done", 0))
        self.tally.load_state(content.get("totals", {}), self.world)
        if self.steps_done and content.get("cut") != self._cut:
            self.journal.say("the number of samples or the batch size changed: the epoch begun is trained anew")
            self.steps_done = 0
            self.tally.begin()
        self.best = float(content.get("best_psnr", self.best))
        self.journal.history = list(content.get("history", []))
        note = "" if path.name == LATEST else f" ({LATEST} is damaged)"
        self.journal.say(f"going on from {path}{note}: {self.done} epochs and {self.steps_done} steps are done")

    def _set_rate(self, done: int) -> None:
        """Make the learning rate that of the epoch after ``done``: a function of the settings, which may have changed.

        Stepping anew gives the same bits as having gone on.
        """
        self.done = done
        for group in self.stepper.optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self.settings.OPTIM.LR_INITIAL
        self.schedule = make_schedule(self.stepper.optimizer, self.settings.OPTIM, self.epochs)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of")  # to step the optimizer first
            for _ in range(done):
                self.schedule.step()

    @property
    def _cut(self) -> list[int]:
        """What a place within an epoch depends on."""
        return [self.order.length, self.order.batch, self.settings.TRAINING.SEED]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt  # the second time, at once
        self.signal = number
