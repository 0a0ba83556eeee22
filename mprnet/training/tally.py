"""What the steps of an epoch add up to."""

import math
from collections.abc import Mapping

from mprnet.inference.distributed import World


class Tally:
    """Loss, samples and skipped steps since an epoch began, and how many steps in a row were skipped.

    Each process has its own sums of loss and samples; skipped steps are the same in all.
    """

    def __init__(self) -> None:
        self.begin()
        self.bad_in_a_row = 0

    def begin(self) -> None:
        """Begin an epoch."""
        self.loss, self.samples, self.skipped = 0.0, 0.0, 0.0

    def add(self, loss: float, samples: int, sound: bool) -> None:
        """Enter a step: this process's sum of losses over its samples, and whether the weights were updated."""
        if sound:
            self.loss += loss
            self.samples += samples
            self.bad_in_a_row = 0
        else:
            self.skipped += 1
            self.bad_in_a_row += 1

    def mean(self, world: World) -> float:
        """The mean loss of a sample, of all processes; not a number if every step was skipped."""
        loss, samples = world.all_reduce(self.loss, self.samples)
        return loss / samples if samples else math.nan

    def shown(self) -> dict[str, str]:
        """For a progress bar, this process's."""
        shown = {"loss": f"{self.loss / max(1, self.samples):.5f}"}
        return shown | ({"skipped": f"{self.skipped:.0f}"} if self.skipped else {})

    def gather(self, world: World) -> None:
        """Hand all sums to the main process, which keeps them for all: so they are in a checkpoint."""
        if world.size > 1:
            loss, samples = world.all_reduce(self.loss, self.samples)
            self.loss, self.samples = (loss, samples) if world.is_main else (0.0, 0.0)

    def state(self) -> dict[str, float]:
        """For ``load_state``."""
        return {"loss": self.loss, "samples": self.samples, "skipped": self.skipped}

    def load_state(self, state: Mapping[str, float], world: World) -> None:
        """Go on from what ``gather`` and ``state`` gave."""
        self.skipped = state.get("skipped", 0.0)
        if world.is_main:
            self.loss, self.samples = state.get("loss", 0.0), state.get("samples", 0.0)
