import numpy as np
import pytest
import torch

from mprnet.training.mixup import MixUp, apply_mixup, draw_mixup
from training.runs import ONE_PROCESS

IMAGES = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(1))
MIXUP = MixUp(np.array([0.1, 0.9, 0.25, 1.0, 0.5], np.float32), np.array([4, 0, 2, 1, 3]))


def expected(images: torch.Tensor) -> torch.Tensor:
    """Blend sample by sample, in float64."""
    rows = [w * images[j].double() + (1 - w) * images[MIXUP.partners[j]].double() for j, w in enumerate(MIXUP.weights)]
    return torch.stack(rows).float()


class FakeWorld:
    """A world of several processes, seen from one of them. ``all_gather`` computes what the others have."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def part(self, images: torch.Tensor) -> torch.Tensor:
        """Return the samples of this process: every ``size``-th, or one that does not count."""
        return images[self.rank :: self.size] if self.rank < len(images) else images[:1]

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        gathered = []
        for rank in range(self.size):
            part = FakeWorld(rank, self.size).part(IMAGES)
            padded = torch.zeros_like(tensor)
            padded[: len(part)] = part
            gathered.append(padded)
        assert torch.equal(gathered[self.rank], tensor)
        return gathered


def test_mixup_in_one_process():
    torch.testing.assert_close(apply_mixup(IMAGES, MIXUP, ONE_PROCESS), expected(IMAGES))


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
def test_mixup_is_the_same_for_any_number_of_processes(size):
    for rank in range(size):
        world = FakeWorld(rank, size)
        mixed = apply_mixup(world.part(IMAGES), MIXUP, world)  # type: ignore[arg-type]
        torch.testing.assert_close(mixed, world.part(expected(IMAGES)) if rank < len(IMAGES) else IMAGES[:1])


def test_weights_and_partners_depend_only_on_the_seed():
    one, same, other = (draw_mixup(16, 0.6, seed) for seed in ([1, 2, 3], [1, 2, 3], [1, 2, 4]))
    assert np.array_equal(one.weights, same.weights)
    assert np.array_equal(one.partners, same.partners)
    assert not np.array_equal(one.weights, other.weights)
    assert not np.array_equal(one.partners, other.partners)
    assert (one.weights.dtype, sorted(one.partners)) == (np.float32, list(range(16)))


@pytest.mark.parametrize("alpha", [0.6, 5.0])
def test_weights_have_a_beta_distribution(alpha):
    weights = draw_mixup(20000, alpha, [0]).weights
    assert weights.mean() == pytest.approx(0.5, abs=0.01)
    assert weights.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
