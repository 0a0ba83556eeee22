import shutil

import pytest
import torch

from mprnet.inference.distributed import World
from mprnet.training.keys import defaults
from mprnet.training.step import Stepper, recompute_blocks


@pytest.mark.parametrize("grad", [True, False])
def test_recomputed_blocks_give_the_same_with_and_without_gradients(tiny, grad):
    """Training and validation go through the same blocks."""
    image = torch.rand(1, 3, 16, 16)
    with torch.set_grad_enabled(grad):
        expected = tiny(image)
        recompute_blocks(tiny)
        images = tiny(image)
    for a, b in zip(images, expected, strict=True):
        assert torch.equal(a, b)
    if grad:
        sum(image.mean() for image in images).backward()
        assert all(p.grad is not None for p in tiny.parameters())


def test_states_from_another_kind_of_device_go_on_in_this_ones_way(tiny):
    """On a GPU Adam is one fused kernel, and a checkpoint says whether it was."""
    stepper = Stepper(tiny.train(), defaults(), World(0, 1, torch.device("cpu")))
    degraded, target = torch.rand(2, 2, 3, 16, 16)
    stepper.update(degraded, target, (2, 2), [0, 1, 0, 0])
    state = stepper.state()
    own = [group["fused"] for group in state["optimizer"]["param_groups"]]
    for group in state["optimizer"]["param_groups"]:
        group["fused"] = True
    stepper.load_state(state)
    assert [group["fused"] for group in stepper.optimizer.param_groups] == own == [False]


def test_settings_changed_on_the_way_hold(tiny):
    settings, world = defaults(), World(0, 1, torch.device("cpu"))
    state = Stepper(tiny.train(), settings, world).state()
    settings.OPTIM.BETA1, settings.OPTIM.WEIGHT_DECAY = 0.5, 0.01
    stepper = Stepper(tiny, settings, world)
    stepper.load_state(state)
    (group,) = stepper.optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.999), 0.01)


def test_without_a_compiler_it_goes_on_without(tiny, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    settings = defaults()
    settings.TRAINING.COMPILE = True
    stepper = Stepper(tiny.train(), settings, World(0, 1, torch.device("cpu")))
    degraded, target = torch.rand(2, 2, 3, 16, 16)
    assert stepper.update(degraded, target, (2, 2), [0, 1, 0, 0]).sound
    assert "there is no C++ compiler" in capsys.readouterr().err


@pytest.mark.parametrize(("scale", "sound"), [(1, True), (1e5, False)])
def test_a_step_whose_loss_is_finite_and_beyond_all_measure_is_left_out(tiny, scale, sound):
    with torch.no_grad():
        tiny.tail.weight.mul_(scale)
    stepper = Stepper(tiny.train(), defaults(), World(0, 1, torch.device("cpu")))
    before = tiny.tail.weight.detach().clone()
    degraded, target = torch.rand(2, 2, 3, 16, 16)
    assert stepper.update(degraded, target, (2, 2), [0, 1, 0, 0]).sound == sound
    assert torch.equal(tiny.tail.weight, before) != sound
