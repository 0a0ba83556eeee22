"""How far a run is: what is saved of it, and how it is taken up again as if it had not stopped."""

import time
import warnings
from typing import Any

from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.inference.distributed import World
from mprnet.training.logs import Journal
from mprnet.training.order import StepOrder
from mprnet.training.schedule import make_schedule
from mprnet.training.state import LATEST, load_latest, save_latest
from mprnet.training.step import Stepper
from mprnet.training.tally import Tally


class Progress:
    """A run's place and, with ``stepper``'s and ``journal``'s, its whole state.

    Attributes:
        done: whole epochs.
        steps_done: in the epoch after those.
        tally: of that epoch.
        best: PSNR of the best validation, dB.

    Args:
        epochs: in all.
        metadata: what the weights' files say of themselves.
    """

    def __init__(
        self,
        stepper: Stepper,
        order: StepOrder,
        epochs: int,
        journal: Journal,
        metadata: dict[str, str],
        settings: CfgNode,
        world: World,
    ) -> None:
        self.done = 0
        self.steps_done = 0
        self.tally = Tally()
        self.best = float("-inf")
        self._stepper = stepper
        self._order = order
        self._epochs = epochs
        self._journal = journal
        self._metadata = metadata
        self._settings = settings
        self._world = world
        self._saved_at = time.monotonic()
        self._latest_is_damaged = False
        self._schedule = make_schedule(stepper.optimizer, settings.OPTIM, epochs)

    @property
    def steps(self) -> int:
        """Updates since the beginning."""
        return self.done * self._order.steps + self.steps_done

    @property
    def unsaved_for(self) -> float:
        """Seconds since the state was saved."""
        return time.monotonic() - self._saved_at

    def end_epoch(self) -> None:
        """Go on to the next epoch."""
        self.done += 1
        self._schedule.step()
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.steps_done = 0
        self.tally.begin()

    def content(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        stepper = self._stepper
        return {
            "epoch": self.done,
            "state_dict": stepper.kept.state_dict(),
            **stepper.state(),
            "trained": stepper.model.state_dict() if stepper.average is not None else None,
            "steps_done": self.steps_done,
            "cut": self._cut,
            "totals": self.tally.state(),
            "best_psnr": self.best,
            "history": self._journal.history,
            "metadata": {**self._metadata, "epoch": str(self.done)},
        }

    @property
    def _cut(self) -> list[int]:
        """What a place within an epoch depends on."""
        return [self._order.length, self._order.batch, self._settings.TRAINING.SEED]

    def save(self) -> None:
        """Write the latest checkpoint; in the main process, but all have to call it."""
        self.tally.gather(self._world)
        if self._world.is_main:
            save_latest(self._journal.folder, self.content(), self._latest_is_damaged)
            self._latest_is_damaged = False
        self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Go on from the latest checkpoint.

        Raises:
            UserError: there is none that is whole, or it is of another network.
        """
        content, path = load_latest(self._journal.folder)
        weights = content.get("trained") or content["state_dict"]
        prefix = "module." if all(key.startswith("module.") for key in weights) else ""
        try:
            self._stepper.model.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items()})
            self._stepper.load_state(content)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is of another network or optimizer than these settings describe.") from error
        self.done = int(content["epoch"])
        self._set_rate()
        self.steps_done = int(content.get("steps_done", 0))
        self.tally.load_state(content.get("totals", {}), self._world)
        if self.steps_done and content.get("cut") != self._cut:
            self._journal.say("the number of samples or the batch size changed: the epoch begun is trained anew")
            self._begin_epoch()
        self.best = float(content.get("best_psnr", self.best))
        self._journal.history = list(content.get("history", []))
        self._latest_is_damaged = path.name != LATEST
        note = f" ({LATEST} is damaged)" if self._latest_is_damaged else ""
        self._journal.say(f"going on from {path}{note}: {self.done} epochs and {self.steps_done} steps are done")

    def _set_rate(self) -> None:
        """Make the learning rate that of the epoch to come: a function of the settings, which may have changed.

        Stepping anew gives the same bits as having gone on.
        """
        optimizer = self._stepper.optimizer
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self._settings.OPTIM.LR_INITIAL
        self._schedule = make_schedule(optimizer, self._settings.OPTIM, self._epochs)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of")  # to step the optimizer first
            for _ in range(self.done):
                self._schedule.step()
