"""Sums over the steps of an epoch."""

import math
from collections.abc import Mapping

from mprnet.inference.distributed import World


class EpochTotals:
    """Sums over an epoch's steps so far: loss, samples and skipped steps. Also counts skipped steps in a row.

    Each process has its own sums of loss and samples. Skipped steps are the same in all processes.
    """

    def __init__(self) -> None:
        self.reset()
        self.skipped_in_a_row = 0

    def reset(self) -> None:
        """Set the sums to 0, for a new epoch."""
        self.loss, self.samples, self.skipped = 0.0, 0.0, 0.0

    def add(self, loss: float, samples: int, is_updated: bool) -> None:
        """Add a step.

        Args:
            loss: sum over the samples of this process.
            samples: number of samples of this process.
            is_updated: True if the step changed the weights, False if it was skipped.
        """
        if is_updated:
            self.loss += loss
            self.samples += samples
            self.skipped_in_a_row = 0
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1

    def mean_loss(self, world: World) -> float:
        """Return the mean loss per sample over all processes; NaN if every step was skipped."""
        loss, samples = world.all_reduce(self.loss, self.samples)
        return loss / samples if samples else math.nan

    def as_text(self) -> dict[str, str]:
        """Return this process's mean loss and number of skipped steps, as text for a progress bar."""
        texts = {"loss": f"{self.loss / max(1, self.samples):.5f}"}
        return texts | ({"skipped": f"{self.skipped:.0f}"} if self.skipped else {})

    def gather_on_main(self, world: World) -> None:
        """Move the sums of all processes to the main process, which writes them to a checkpoint."""
        if world.size > 1:
            loss, samples = world.all_reduce(self.loss, self.samples)
            self.loss, self.samples = (loss, samples) if world.is_main else (0.0, 0.0)

    def state_dict(self) -> dict[str, float]:
        """Return the sums, for ``load_state_dict``."""
        return {"loss": self.loss, "samples": self.samples, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, float], world: World) -> None:
        """Continue from sums that ``gather_on_main`` and ``state_dict`` gave."""
        self.skipped = state.get("skipped", 0.0)
        if world.is_main:
            self.loss, self.samples = state.get("loss", 0.0), state.get("samples", 0.0)
