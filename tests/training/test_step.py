"""One update, by value: every option of it, alone."""

import copy
import shutil

import pytest
import torch

from mprnet.inference.distributed import World
from mprnet.training import step
from mprnet.training.losses import restoration_loss
from mprnet.training.mixup import MixUp
from mprnet.training.step import Stepper, recompute_blocks
from training.runs import ALONE, tiny_network, tiny_settings

DEGRADED, TARGET = torch.rand(2, 5, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def make_stepper(*overrides: object) -> Stepper:
    return Stepper(tiny_network().train(), tiny_settings(*overrides), ALONE)


def gradients(stepper: Stepper) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in stepper.model.parameters() if p.grad is not None])


def weights(stepper: Stepper) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in stepper.model.state_dict().items()}


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


def test_checkpointing_recomputes_blocks(monkeypatch):
    seen = []
    monkeypatch.setattr("mprnet.training.step.recompute_blocks", seen.append)
    make_stepper()
    assert not seen
    stepper = make_stepper("TRAINING.CHECKPOINTING", True)
    assert seen == [stepper.model]


def test_the_optimizer_is_adam_with_the_settings_numbers():
    stepper = make_stepper("OPTIM.LR_INITIAL", 3e-4, "OPTIM.BETA1", 0.8, "OPTIM.WEIGHT_DECAY", 0.01)
    assert type(stepper.optimizer) is torch.optim.Adam
    (group,) = stepper.optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (3e-4, (0.8, 0.999), 1e-8, 0.01)
    assert {id(p) for p in group["params"]} == {id(p) for p in stepper.model.parameters()}


def test_the_loss_is_summed_over_the_samples_and_the_gradient_is_that_of_their_mean():
    stepper = make_stepper()
    twin = tiny_network().train()
    loss = restoration_loss(twin(DEGRADED), TARGET, 0.05)
    loss.backward()
    result = stepper.update(DEGRADED, TARGET, (5, 5))
    assert result.loss == pytest.approx(5 * loss.item(), rel=1e-6)
    expected = torch.cat([p.grad.flatten() for p in twin.parameters()])
    torch.testing.assert_close(gradients(stepper), expected, rtol=1e-5, atol=1e-7)


def test_gradients_do_not_add_up_over_steps():
    stepper = make_stepper("OPTIM.LR_INITIAL", 1e-12, "OPTIM.LR_MIN", 0.0)
    stepper.update(DEGRADED, TARGET, (5, 5))
    first = gradients(stepper)
    stepper.update(DEGRADED, TARGET, (5, 5))
    torch.testing.assert_close(gradients(stepper), first, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_edge_weight(weight):
    result = make_stepper("LOSS.EDGE_WEIGHT", weight).update(DEGRADED, TARGET, (5, 5))
    expected = restoration_loss(tiny_network()(DEGRADED), TARGET, weight).item()
    assert result.loss == pytest.approx(5 * expected, rel=1e-6)


def test_clamped_outputs_have_no_gradient_outside_of_0_to_1():
    """Far outside, the loss of clamped outputs does not change with the weights."""
    far = DEGRADED + 8
    stepper = make_stepper("LOSS.CLAMP", True)
    result = stepper.update(far, TARGET, (5, 5))
    expected = restoration_loss([torch.ones_like(TARGET)], TARGET, 0.05).item()
    assert result.loss == pytest.approx(5 * expected, rel=1e-6)
    assert not gradients(stepper).any()
    stepper = make_stepper("LOSS.CLAMP", False)
    assert stepper.update(far, TARGET, (5, 5)).loss > 5 * 7
    assert gradients(stepper).any()


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(parts):
    """Five samples do not divide into equal parts: each part weighs by its samples."""
    whole, cut = make_stepper(), make_stepper("OPTIM.ACCUMULATE", parts)
    forward, sizes = cut.network.forward, []
    cut.network.forward = lambda batch: sizes.append(len(batch)) or forward(batch)
    losses = [stepper.update(DEGRADED, TARGET, (5, 5)).loss for stepper in (whole, cut)]
    assert sizes == {2: [3, 2], 3: [2, 2, 1], 5: [1] * 5}[parts]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(gradients(cut), gradients(whole), rtol=1e-4, atol=1e-7)


def test_mixup_blends_degraded_and_target_alike_before_the_batch_is_cut():
    draws = MixUp(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]).numpy(), torch.tensor([4, 3, 0, 1, 2]).numpy())
    share = torch.tensor(draws.weights)[:, None, None, None]
    mixed = [share * images + (1 - share) * images[draws.partners] for images in (DEGRADED, TARGET)]
    expected, got = make_stepper(), make_stepper("OPTIM.ACCUMULATE", 2)
    losses = expected.update(*mixed, (5, 5)).loss, got.update(DEGRADED, TARGET, (5, 5), draws).loss
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(gradients(got), gradients(expected), rtol=1e-4, atol=1e-7)


def test_a_sample_that_does_not_count_leaves_loss_and_gradient_at_nothing():
    stepper = make_stepper()
    result = stepper.update(DEGRADED[:1], TARGET[:1], (0, 3))
    assert (result.loss, result.is_updated) == (0.0, True)
    assert not gradients(stepper).any()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("limit", [1e-3, 1e9])
def test_gradients_are_clipped_to_the_norm_asked_for(precision, limit):
    """In fp16 they are clipped after the loss scale is taken out of them."""
    free, clipped = (make_stepper("TRAINING.PRECISION", precision, "OPTIM.GRAD_CLIP", clip) for clip in (0.0, limit))
    for stepper in (free, clipped):
        assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    norm = gradients(free).norm().item()
    assert 1e-2 < norm < 1e3
    assert gradients(clipped).norm().item() == pytest.approx(min(norm, limit), rel=1e-3)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_the_network_computes_in_the_precision_asked_for_and_the_weights_stay_in_fp32(precision, dtype):
    stepper = make_stepper("TRAINING.PRECISION", precision)
    seen = []
    stepper.model.tail.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    assert seen == [dtype]
    assert {value.dtype for value in stepper.model.state_dict().values()} == {torch.float32}
    assert stepper.scaler.is_enabled() == (precision == "fp16")


def test_the_running_average_follows_the_weights():
    stepper = make_stepper("OPTIM.EMA", 0.9)
    assert stepper.eval_model is not stepper.model
    expected: dict[str, torch.Tensor] = {}
    for _ in range(3):
        stepper.update(DEGRADED, TARGET, (5, 5))
        now = weights(stepper)
        expected = {k: 0.9 * expected[k] + 0.1 * v for k, v in now.items()} if expected else now
    for key, value in stepper.eval_model.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-7)
    assert any(not torch.equal(value, expected[key]) for key, value in weights(stepper).items())
    assert make_stepper().ema is None


def test_a_skipped_step_does_not_touch_the_running_average():
    stepper = make_stepper("OPTIM.EMA", 0.5)
    stepper.update(DEGRADED, TARGET, (5, 5))
    before = {key: value.clone() for key, value in stepper.eval_model.state_dict().items()}
    assert not stepper.update(DEGRADED * float("nan"), TARGET, (5, 5)).is_updated
    assert all(torch.equal(value, before[key]) for key, value in stepper.eval_model.state_dict().items())


def growth(stepper: Stepper) -> int:
    return stepper.scaler.state_dict()["_growth_tracker"]


def test_the_loss_scale_is_lowered_by_an_overflow_and_begins_to_count_anew():
    stepper = make_stepper("TRAINING.PRECISION", "fp16")
    for _ in range(3):
        assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    assert growth(stepper) == 3
    stepper.scaler.update(2.0**127)  # a loss times this is infinite
    before = weights(stepper)
    assert not stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    assert (stepper.scaler.get_scale(), growth(stepper)) == (2.0**126, 0)
    assert all(torch.equal(value, before[key]) for key, value in weights(stepper).items())
    stepper.scaler.update(2.0**10)
    assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    assert (stepper.scaler.get_scale(), growth(stepper)) == (2.0**10, 1)


def test_a_finite_loss_beyond_the_limit_does_not_lower_the_loss_scale():
    stepper = make_stepper("TRAINING.PRECISION", "fp16")
    assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    scale = stepper.scaler.get_scale()
    stepper.scaler.set_growth_interval(1)  # nor is it a step after which the scale may grow
    assert not stepper.update(DEGRADED, TARGET + 1000, (5, 5)).is_updated
    assert (stepper.scaler.get_scale(), growth(stepper)) == (scale, 0)


@pytest.mark.parametrize(("offset", "sound"), [(99.0, True), (101.0, False)])
def test_a_step_whose_loss_is_above_100_is_left_out(offset, sound):
    """The mean of a sample; a finite loss, and its gradient is finite as well."""
    stepper = make_stepper("LOSS.EDGE_WEIGHT", 0.0)
    before = weights(stepper)
    result = stepper.update(TARGET, TARGET + offset, (5, 5))
    assert result.is_updated == sound
    assert (result.loss > 0) == sound
    assert all(torch.equal(value, before[key]) for key, value in weights(stepper).items()) != sound


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_with_a_value_that_is_not_finite_is_left_out(value):
    stepper = make_stepper()
    stepper.update(DEGRADED, TARGET, (5, 5))
    before = weights(stepper)
    poisoned = DEGRADED.clone()
    poisoned[2, 0, 3, 3] = value
    assert not stepper.update(poisoned, TARGET, (5, 5)).is_updated
    assert all(torch.equal(value, before[key]) for key, value in weights(stepper).items())


def test_states_from_another_kind_of_device_go_on_in_this_ones_way():
    """On a GPU Adam is one fused kernel, and a checkpoint says whether it was."""
    stepper = make_stepper()
    stepper.update(DEGRADED, TARGET, (5, 5))
    state = stepper.state_dict()
    own = [group["fused"] for group in state["optimizer"]["param_groups"]]
    for group in state["optimizer"]["param_groups"]:
        group["fused"] = True
    stepper.load_state_dict(state)
    assert [group["fused"] for group in stepper.optimizer.param_groups] == own == [False]


def test_settings_changed_on_the_way_hold():
    state = make_stepper().state_dict()
    stepper = make_stepper("OPTIM.BETA1", 0.5, "OPTIM.WEIGHT_DECAY", 0.01)
    stepper.load_state_dict(state)
    (group,) = stepper.optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.999), 0.01)


def test_a_state_brings_back_optimizer_scaler_and_average():
    options = ["TRAINING.PRECISION", "fp16", "OPTIM.EMA", 0.9]
    one, other = make_stepper(*options), make_stepper(*options)
    for _ in range(3):
        one.update(DEGRADED, TARGET, (5, 5))
    one.scaler.update(2.0**9)
    other.model.load_state_dict(one.model.state_dict())
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert (other.scaler.get_scale(), growth(other)) == (2.0**9, 3)
    for stepper in (one, other):
        stepper.update(DEGRADED, TARGET, (5, 5))
    for a, b in zip(one.eval_model.state_dict().values(), other.eval_model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(value, weights(one)[key]) for key, value in weights(other).items())


def test_a_running_average_that_begins_on_the_way_begins_with_the_weights():
    one, other = make_stepper(), make_stepper("OPTIM.EMA", 0.9)
    one.update(DEGRADED, TARGET, (5, 5))
    other.model.load_state_dict(one.model.state_dict())
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for key, value in other.eval_model.state_dict().items():
        assert torch.equal(value, one.model.state_dict()[key])


def test_without_a_compiler_it_goes_on_without(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    stepper = make_stepper("TRAINING.COMPILE", True)
    assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    assert "there is no C++ compiler" in capsys.readouterr().err


class Loud(World):
    """One process whose sums are those of a run in which another process's loss is beyond all measure."""

    def all_reduce(self, *values: float) -> list[float]:
        return [1e9 for _ in values]


def test_whether_to_make_the_step_is_decided_by_all_processes_together():
    stepper = Stepper(tiny_network().train(), tiny_settings(), Loud(0, 1, torch.device("cpu")))
    assert not stepper.update(DEGRADED, TARGET, (5, 5)).is_updated


def test_compile_takes_the_budget_asked_for(monkeypatch):
    compiled = []
    monkeypatch.setattr(step, "has_compiler", lambda device: True)
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    monkeypatch.setattr(step.functorch_config, "activation_memory_budget", 1.0)
    stepper = make_stepper("TRAINING.COMPILE", True, "TRAINING.COMPILE_BUDGET", 0.3)
    assert compiled == [stepper.model]
    assert step.functorch_config.activation_memory_budget == 0.3
    make_stepper()
    assert len(compiled) == 1
