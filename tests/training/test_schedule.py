import warnings

import pytest
import torch
from conftest import ROOT
from golden import read_fact

from mprnet.training.schedule import make_schedule
from mprnet.training.settings import load
from training.runs import tiny_settings

SCHEDULES = {name: value for name, value in read_fact("lr_schedule.json").items() if name != "about"}
FILES = {
    "Deblurring": "Deblurring/training.yml",
    "Deraining": "Deraining/training.yml",
    "Denoising": "Denoising/training_released.yml",
}


def learning_rates(optim, epochs: int) -> list[float]:
    """Return the learning rates of epochs 1 to ``epochs``."""
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=optim.LR_INITIAL)
    schedule = make_schedule(adam, optim, epochs)
    seen = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of")
        for _ in range(epochs):
            seen.append(adam.param_groups[0]["lr"])
            schedule.step()
    return seen


@pytest.mark.parametrize("name", FILES)
def test_the_tasks_have_the_published_learning_rates(name):
    facts = SCHEDULES[name]
    optim = load(ROOT / FILES[name]).OPTIM
    assert facts["epochs"] == optim.NUM_EPOCHS
    seen = learning_rates(optim, optim.NUM_EPOCHS)
    for epoch, rate in facts["lr"].items():
        assert seen[int(epoch) - 1] == pytest.approx(rate, abs=1e-12)


def test_the_schedule_follows_the_formula_for_all_settings():
    """The learning rate rises linearly during the warm-up, then falls by half a cosine."""
    optim = tiny_settings("OPTIM.LR_INITIAL", 0.1, "OPTIM.LR_MIN", 0.02, "OPTIM.WARMUP_EPOCHS", 2).OPTIM
    cosine = [0.1, 0.02 + 0.08 * 0.853553391, 0.06, 0.02 + 0.08 * 0.146446609]
    assert learning_rates(optim, 6) == pytest.approx([0.05, 0.1, *cosine])
    optim.COSINE_EXTRA_EPOCHS = 4
    assert learning_rates(optim, 6)[-1] == pytest.approx(0.02 + 0.08 * 0.691341716)
    optim.WARMUP_EPOCHS, optim.COSINE_EXTRA_EPOCHS = 0, 0
    assert learning_rates(optim, 4) == pytest.approx(cosine)


def test_a_warm_up_may_be_longer_than_the_training():
    optim = tiny_settings("OPTIM.LR_INITIAL", 0.1, "OPTIM.WARMUP_EPOCHS", 4).OPTIM
    assert learning_rates(optim, 2) == pytest.approx([0.025, 0.05])
