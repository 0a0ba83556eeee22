"""How far a run is: what is saved of it, and how it is taken up again as if it had not stopped."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.inference.distributed import World
from mprnet.training.datasets import RunData
from mprnet.training.logs import Journal
from mprnet.training.order import StepOrder
from mprnet.training.schedule import make_schedule
from mprnet.training.settings import changed_settings, flatten
from mprnet.training.state import BEST, LATEST, Checkpoint, keep_until, save_latest
from mprnet.training.step import Stepper
from mprnet.training.tally import Tally
from mprnet.training.validation import MEASURE


class Progress:
    """A run's place and, with ``stepper``'s and ``journal``'s, its whole state.

    Attributes:
        done: whole epochs.
        steps_done: in the epoch after those.
        tally: of that epoch.
        best: PSNR of the best validation, dB.
        validation_set: which of the run's validations this is, from 1 on; figures of different ones do not compare.

    Args:
        epochs: in all.
        metadata: what the weights' files say of themselves.
        data: what is trained on and validated on; checkpoints say how it was split.
    """

    def __init__(
        self,
        stepper: Stepper,
        order: StepOrder,
        epochs: int,
        journal: Journal,
        metadata: Mapping[str, str],
        data: RunData,
        settings: CfgNode,
        world: World,
    ) -> None:
        self.done = 0
        self.steps_done = 0
        self._steps_before = 0  # this epoch; epochs may have had other numbers of steps
        self.tally = Tally()
        self.best = float("-inf")
        self.validation_set = 1
        self._stepper = stepper
        self._order = order
        self._epochs = epochs
        self._journal = journal
        self._metadata = metadata
        self._split = data.split
        self._validation = _validation_identity(data, settings) if world.is_main else {}
        self._settings = settings
        self._world = world
        self._saved_at = time.monotonic()
        self._latest_is_damaged = False
        self._earlier_validation: dict[str, Any] | None = None  # of the checkpoint that the run goes on from
        self._schedule = make_schedule(stepper.optimizer, settings.OPTIM, epochs)

    @property
    def is_finished(self) -> bool:
        """True if no epoch is left to train."""
        return self.done >= self._epochs

    @property
    def steps(self) -> int:
        """Updates since the beginning."""
        return self._steps_before + self.steps_done

    @property
    def unsaved_for(self) -> float:
        """Seconds since the state was saved."""
        return time.monotonic() - self._saved_at

    def end_epoch(self) -> None:
        """Go on to the next epoch."""
        self.done += 1
        self._steps_before += self.steps_done
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
            "steps_before": self._steps_before,
            "steps_done": self.steps_done,
            "cut": self._cut,
            "totals": self.tally.state(),
            "best_psnr": self.best,
            "validation_set": self.validation_set,
            "history": self._journal.history,
            "metadata": {**self._metadata, "epoch": str(self.done)},
            "settings": flatten(self._settings),
            "split": self._split,
            "validation": self._validation,
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

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, and say which settings are not those that it was made with.

        Raises:
            UserError: it is of another network.
        """
        content, path = checkpoint.content, checkpoint.path
        weights = content.get("trained") or content["state_dict"]
        prefix = "module." if all(key.startswith("module.") for key in weights) else ""
        try:
            self._stepper.model.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items()})
            self._stepper.load_state(content)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is of another network or optimizer than these settings describe.") from error
        self.done = int(content["epoch"])
        self._set_rate()
        self._steps_before = int(content.get("steps_before", self.done * self._order.steps))
        self.steps_done = int(content.get("steps_done", 0))
        self.tally.load_state(content.get("totals", {}), self._world)
        self.best = float(content.get("best_psnr", self.best))
        self.validation_set = int(content.get("validation_set", 1))
        self._journal.history = list(content.get("history", []))
        self._latest_is_damaged = path.name != LATEST
        self._earlier_validation = content.get("validation")
        note = f" ({LATEST} is damaged)" if self._latest_is_damaged else ""
        self._journal.say(f"going on from {path}{note}: {self.done} epochs and {self.steps_done} steps are done")
        if self.steps_done and content.get("cut") != self._cut:
            self._journal.say(
                "the batches are not what they were (number of samples, batch size or seed): the epoch is trained anew"
            )
            self._steps_before += self.steps_done
            self._begin_epoch()
        if "settings" in content:
            for line in changed_settings(content["settings"], flatten(self._settings)):
                self._journal.say(f"  {line}")
        else:
            self._journal.say("  the checkpoint does not say with which settings it was made: compare them yourself")

    def keep_best_apart(self) -> None:
        """Begin ``best`` anew if this run's validation is not the one that gave it; in all processes.

        The best weights so far stay, under a name that says until when they were the best. PSNR of other pictures, or
        of other crops, cannot be compared.
        """
        earlier, self._earlier_validation = self._earlier_validation, self._validation
        is_another = self._world.is_main and self.steps > 0 and earlier != self._validation
        if not self._world.all_reduce(float(is_another))[0]:
            return
        best = self._journal.folder / BEST
        if earlier is None:
            said = "the checkpoint does not say what it was validated on"
        else:
            names = [name for name, value in self._validation.items() if earlier.get(name) != value]
            said = f"validation is not what it was ({', '.join(names)})"
        said += ": the best PSNR begins anew"
        if self._world.is_main and best.exists():
            said += f"; the best model so far, {self.best:.3f} dB, is kept as {keep_until(best, self.steps).name}"
        self._journal.say(said)
        self.best = float("-inf")
        self.validation_set += 1
        self.save()

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


def _validation_identity(data: RunData, settings: CfgNode) -> dict[str, Any]:
    """What a validation's figures depend on beside the weights: only with the same may they be compared."""
    return {
        "pictures": data.validation.fingerprint(),
        "TRAINING.VAL_PS": settings.TRAINING.VAL_PS,
        "measure": MEASURE,
    }
