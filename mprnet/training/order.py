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

    @property
    def steps(self) -> int:
        """Steps in a whole epoch."""
        return -(-self.length // self.batch)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        for step in range(self.start, self.steps):
            together = order[step * self.batch : (step + 1) * self.batch]
            mine = together[self.rank :: self.world]
            yield [(self.epoch, int(index)) for index in (mine if len(mine) else together[:1])]

    def share(self, step: int) -> tuple[int, int]:
        """How many of the samples of ``step`` (from 0) are this process's, and how many there are in all processes."""
        total = min(self.batch, self.length - step * self.batch)
        return len(range(self.rank, total, self.world)), total
