"""The order of the training samples, and their distribution over steps and ranks."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

# Epoch and index of a sample.
Key = tuple[int, int]


def ceil_divide(number: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return -(-number // divisor)


def rank_indices(total: int, rank: int, world_size: int) -> range:
    """Return which of ``total`` samples belong to a rank: every ``world_size``-th, beginning with number ``rank``."""
    return range(rank, total, world_size)


class DistributedBatchSampler(Sampler[list[Key]]):
    """The batches of one rank, as lists of (epoch, index).

    An epoch is a permutation of all samples. It depends on seed and epoch only. It is cut into batches, one for each
    step, and each batch is divided among the ranks (``rank_indices``). The last batch may be smaller. A rank that has
    no sample in it gets one that does not count (``count_samples``), so that all ranks make the same number of steps.

    Set ``epoch`` before iterating. Set ``start_step`` to continue within an epoch.

    Args:
        length: number of samples in an epoch.
        batch_size: of all ranks together.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 1
        self.start_step = 0
        self._permutation: tuple[int, list[int]] | None = None  # the epoch, and its order of the samples

    @property
    def steps_per_epoch(self) -> int:
        """Steps in a whole epoch."""
        return ceil_divide(self.length, self.batch_size)

    def __len__(self) -> int:
        return self.steps_per_epoch - self.start_step

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start_step, self.steps_per_epoch):
            batch = self.global_batch(step)
            own = [batch[number] for number in rank_indices(len(batch), self.rank, self.world_size)]
            yield [(self.epoch, index) for index in own or batch[:1]]

    def global_batch(self, step: int) -> list[int]:
        """Return the samples of all ranks in step ``step`` of this epoch, counted from 0."""
        if self._permutation is None or self._permutation[0] != self.epoch:
            permutation = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
            self._permutation = (self.epoch, permutation.tolist())
        return self._permutation[1][step * self.batch_size : (step + 1) * self.batch_size]

    def count_samples(self, step: int) -> tuple[int, int]:
        """Return how many samples of step ``step`` count: of this rank, and of all ranks together."""
        total = min(self.batch_size, self.length - step * self.batch_size)
        return len(rank_indices(total, self.rank, self.world_size)), total
