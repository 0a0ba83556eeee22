"""Six steps of three recipes give the losses and weights of the published code (tests/facts)."""

import numpy as np
import pytest
import torch
from golden import golden_weights, read_fact

from mprnet import MPRNet
from mprnet.inference.distributed import World
from mprnet.training.keys import get_defaults
from mprnet.training.mixup import MixUp
from mprnet.training.step import Stepper

GOLDEN = read_fact("golden_training.json")
SETTINGS = {
    "paper": [],
    "released_denoising": ["LOSS.EDGE_WEIGHT", 0.0, "LOSS.CLAMP", True, "OPTIM.WEIGHT_DECAY", 1e-8],
    "clipped": ["OPTIM.GRAD_CLIP", 0.01],
}


def make_batch(number: int) -> tuple[torch.Tensor, torch.Tensor, MixUp]:
    """Return degraded, target and MixUp's random numbers, made as golden_training.json describes."""
    rng = np.random.RandomState(7000 + number)
    target = rng.uniform(size=(4, 3, 32, 32))
    degraded = np.clip(target + 0.2 * rng.standard_normal(target.shape), 0, 1)
    mixup = MixUp(rng.beta(0.6, 0.6, size=4).astype(np.float32), rng.permutation(4))
    return torch.from_numpy(degraded.astype(np.float32)), torch.from_numpy(target.astype(np.float32)), mixup


@pytest.mark.parametrize("recipe", SETTINGS)
def test_six_steps_give_the_losses_and_weights_of_the_published_code(recipe):
    settings = get_defaults()
    settings.merge_from_list(SETTINGS[recipe])
    model = MPRNet(**GOLDEN["widths"])
    model.load_state_dict(golden_weights(model))
    stepper = Stepper(model.train(), settings, World(0, 1, torch.device("cpu")))
    losses = []
    for number in range(6):
        degraded, target, mixup = make_batch(number)
        result = stepper.update(degraded, target, (4, 4), mixup if recipe == "released_denoising" else None)
        assert result.is_updated
        losses.append(result.loss / 4)
    assert losses == pytest.approx(GOLDEN[recipe]["losses"], rel=1e-5)
    after = GOLDEN[recipe]["after"]
    assert set(after) == set(model.state_dict())
    for key, value in model.state_dict().items():
        mean, deviation = after[key]
        assert value.double().mean().item() == pytest.approx(mean, abs=1e-5), key
        found = value.double().std().item() if value.numel() > 1 else 0.0
        assert found == pytest.approx(deviation, abs=1e-5), key
