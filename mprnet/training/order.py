"""Which samples make up which step, in which process."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]


class StepOrder(Sampler[list[Key]]):
    """The batches of an epoch: a permutation that (seed, epoch) alone decide, cut into steps; keys are (epoch, index).

    Of each step's batch, process ``rank`` of ``world`` takes every ``world``-th sample. A last, smaller batch is kept;
    a process for which it holds no sample gets one that ``share`` says does not count, so that all processes make the
    same steps.

    Set ``epoch`` before iterating, and ``start`` to go on within an epoch.
    """

    def __init__(self, length: int, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.length = length
        self.batch = batch
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 1
        self.start = 0
        self._order: tuple[int, list[int]] | None = None

    @property
    def steps(self) -> int:
        """Steps in a whole epoch."""
        return -(-self.length // self.batch)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start, self.steps):
            together = self.together(step)
            yield [(self.epoch, index) for index in together[self.rank :: self.world] or together[:1]]

    def together(self, step: int) -> list[int]:
        """The samples of ``step`` (from 0) of this epoch, those of all processes."""
        if self._order is None or self._order[0] != self.epoch:
            draw = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
            self._order = (self.epoch, draw.tolist())
        return self._order[1][step * self.batch : (step + 1) * self.batch]

    def share(self, step: int) -> tuple[int, int]:
        """How many of the samples of ``step`` (from 0) are this process's, and how many there are in all processes."""
        total = min(self.batch, self.length - step * self.batch)
        return len(range(self.rank, total, self.world)), total
