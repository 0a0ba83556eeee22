import numpy as np
import pytest
import torch

from mprnet.training.mixup import MixUp, apply_mixup, draw_mixup
from training.runs import ALONE

IMAGES = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(1))
DRAWS = MixUp(np.array([0.1, 0.9, 0.25, 1.0, 0.5], np.float32), np.array([4, 0, 2, 1, 3]))


def expected(images: torch.Tensor) -> torch.Tensor:
    """Sample by sample, in float64."""
    rows = [w * images[j].double() + (1 - w) * images[DRAWS.partners[j]].double() for j, w in enumerate(DRAWS.weights)]
    return torch.stack(rows).float()


class OneOf:
    """A process among several, whose other processes hold their parts of the batch."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def part(self, images: torch.Tensor) -> torch.Tensor:
        """What the loader hands to this process: every ``size``-th sample, or one that does not count."""
        return images[self.rank :: self.size] if self.rank < len(images) else images[:1]

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        gathered = []
        for rank in range(self.size):
            held = OneOf(rank, self.size).part(IMAGES)
            padded = torch.zeros_like(tensor)
            padded[: len(held)] = held
            gathered.append(padded)
        assert torch.equal(gathered[self.rank], tensor)
        return gathered


def test_one_process():
    torch.testing.assert_close(apply_mixup(IMAGES, DRAWS, ALONE), expected(IMAGES))


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
def test_any_number_of_processes_gives_the_same_samples(size):
    for rank in range(size):
        world = OneOf(rank, size)
        mixed = apply_mixup(world.part(IMAGES), DRAWS, world)  # type: ignore[arg-type]
        torch.testing.assert_close(mixed, world.part(expected(IMAGES)) if rank < len(IMAGES) else IMAGES[:1])


def test_draws_are_a_function_of_the_seed():
    one, same, other = (draw_mixup(16, 0.6, seed) for seed in ([1, 2, 3], [1, 2, 3], [1, 2, 4]))
    assert np.array_equal(one.weights, same.weights)
    assert np.array_equal(one.partners, same.partners)
    assert not np.array_equal(one.weights, other.weights)
    assert not np.array_equal(one.partners, other.partners)
    assert (one.weights.dtype, sorted(one.partners)) == (np.float32, list(range(16)))


@pytest.mark.parametrize("alpha", [0.6, 5.0])
def test_weights_are_betas_one_for_each_sample(alpha):
    weights = draw_mixup(20000, alpha, [0]).weights
    assert weights.mean() == pytest.approx(0.5, abs=0.01)
    assert weights.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
