"""One training step: the values it gives, for each option alone."""

import copy
import shutil

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mprnet.inference.distributed import World
from mprnet.training import step
from mprnet.training.losses import RestorationLoss
from mprnet.training.mixup import MixUp, draw_mixup
from mprnet.training.step import Stepper, recompute_blocks
from training.runs import ONE_PROCESS, are_equal, tiny_network, tiny_settings

DEGRADED, TARGET = torch.rand(2, 5, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def make_stepper(*overrides: object) -> Stepper:
    return Stepper(tiny_network().train(), tiny_settings(*overrides), ONE_PROCESS)


def concatenated_gradients(stepper: Stepper) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in stepper.model.parameters() if p.grad is not None])


def copy_weights(stepper: Stepper) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in stepper.model.state_dict().items()}


@pytest.mark.parametrize("grad", [True, False])
def test_recomputed_blocks_give_the_same_images(tiny, grad):
    """Training runs them with gradients, and validation without."""
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


def test_the_optimizer_is_adam_with_the_numbers_of_the_settings():
    stepper = make_stepper("OPTIM.LR_INITIAL", 3e-4, "OPTIM.BETA1", 0.8, "OPTIM.WEIGHT_DECAY", 0.01)
    assert type(stepper.optimizer) is torch.optim.Adam
    (group,) = stepper.optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (3e-4, (0.8, 0.999), 1e-8, 0.01)
    assert {id(p) for p in group["params"]} == {id(p) for p in stepper.model.parameters()}


def test_the_loss_is_the_sum_over_samples_and_the_gradient_that_of_their_mean():
    stepper = make_stepper()
    twin = tiny_network().train()
    loss = RestorationLoss(0.05)(twin(DEGRADED), TARGET)
    loss.backward()
    result = stepper.update(DEGRADED, TARGET, (5, 5))
    assert result.loss == pytest.approx(5 * loss.item(), rel=1e-6)
    expected = torch.cat([p.grad.flatten() for p in twin.parameters()])
    torch.testing.assert_close(concatenated_gradients(stepper), expected, rtol=1e-5, atol=1e-7)


def test_bytes_train_as_the_floats_that_they_mean():
    images = (255 * torch.stack([DEGRADED, TARGET])).byte()
    steppers = make_stepper("OPTIM.ACCUMULATE", 2), make_stepper("OPTIM.ACCUMULATE", 2)
    mixup = MixUp(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]).numpy(), torch.tensor([4, 3, 0, 1, 2]).numpy())
    losses = [s.update(*batch, (5, 5), mixup).loss for s, batch in zip(steppers, (images, images / 255), strict=True)]
    assert losses[0] == losses[1]
    assert are_equal(*map(copy_weights, steppers))


def test_gradients_are_reset_in_each_step():
    stepper = make_stepper("OPTIM.LR_INITIAL", 1e-12, "OPTIM.LR_MIN", 0.0)
    stepper.update(DEGRADED, TARGET, (5, 5))
    first = concatenated_gradients(stepper)
    stepper.update(DEGRADED, TARGET, (5, 5))
    torch.testing.assert_close(concatenated_gradients(stepper), first, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_edge_weight_of_the_settings_is_used(weight):
    result = make_stepper("LOSS.EDGE_WEIGHT", weight).update(DEGRADED, TARGET, (5, 5))
    expected = RestorationLoss(weight)(tiny_network()(DEGRADED), TARGET).item()
    assert result.loss == pytest.approx(5 * expected, rel=1e-6)


def test_clamped_outputs_outside_of_0_to_1_have_no_gradient():
    """If all outputs are far outside, the loss does not depend on the weights."""
    far = DEGRADED + 8
    stepper = make_stepper("LOSS.CLAMP", True)
    result = stepper.update(far, TARGET, (5, 5))
    expected = RestorationLoss(0.05)([torch.ones_like(TARGET)], TARGET).item()
    assert result.loss == pytest.approx(5 * expected, rel=1e-6)
    assert not concatenated_gradients(stepper).any()
    stepper = make_stepper("LOSS.CLAMP", False)
    assert stepper.update(far, TARGET, (5, 5)).loss > 5 * 7
    assert concatenated_gradients(stepper).any()


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts):
    """Five samples cannot be split into equal parts. Each part has a weight by its number of samples."""
    whole, accumulated = make_stepper(), make_stepper("OPTIM.ACCUMULATE", parts)
    forward, sizes = accumulated.network.forward, []
    accumulated.network.forward = lambda batch: sizes.append(len(batch)) or forward(batch)
    losses = [stepper.update(DEGRADED, TARGET, (5, 5)).loss for stepper in (whole, accumulated)]
    assert sizes == {2: [3, 2], 3: [2, 2, 1], 5: [1] * 5}[parts]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(concatenated_gradients(accumulated), concatenated_gradients(whole), rtol=1e-4, atol=1e-7)


def test_mixup_blends_degraded_and_target_before_the_batch_is_split():
    mixup = MixUp(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]).numpy(), torch.tensor([4, 3, 0, 1, 2]).numpy())
    weight = torch.tensor(mixup.weights)[:, None, None, None]
    mixed = [weight * images + (1 - weight) * images[mixup.partners] for images in (DEGRADED, TARGET)]
    expected, found = make_stepper(), make_stepper("OPTIM.ACCUMULATE", 2)
    losses = expected.update(*mixed, (5, 5)).loss, found.update(DEGRADED, TARGET, (5, 5), mixup).loss
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(concatenated_gradients(found), concatenated_gradients(expected), rtol=1e-4, atol=1e-7)


def test_a_sample_that_does_not_count_gives_no_loss_and_no_gradient():
    stepper = make_stepper()
    result = stepper.update(DEGRADED[:1], TARGET[:1], (0, 3))
    assert (result.loss, result.is_updated) == (0.0, True)
    assert not concatenated_gradients(stepper).any()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("limit", [1e-3, 1e9])
def test_gradients_are_clipped_to_grad_clip(precision, limit):
    """In fp16, they are divided by the loss scale first."""
    options = ["TRAINING.PRECISION", precision, "OPTIM.GRAD_CLIP"]
    unclipped, clipped = make_stepper(*options, 0.0), make_stepper(*options, limit)
    for stepper in (unclipped, clipped):
        assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    norm = concatenated_gradients(unclipped).norm().item()
    assert 1e-2 < norm < 1e3
    assert concatenated_gradients(clipped).norm().item() == pytest.approx(min(norm, limit), rel=1e-3)


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
        now = copy_weights(stepper)
        expected = {k: 0.9 * expected[k] + 0.1 * v for k, v in now.items()} if expected else now
    for key, value in stepper.eval_model.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-7)
    assert any(not torch.equal(value, expected[key]) for key, value in copy_weights(stepper).items())
    assert make_stepper().ema is None


def test_a_skipped_step_does_not_change_the_ema():
    stepper = make_stepper("OPTIM.EMA", 0.5)
    stepper.update(DEGRADED, TARGET, (5, 5))
    before = {key: value.clone() for key, value in stepper.eval_model.state_dict().items()}
    assert not stepper.update(DEGRADED * float("nan"), TARGET, (5, 5)).is_updated
    assert are_equal(stepper.eval_model.state_dict(), before)


def growth_steps(stepper: Stepper) -> int:
    return stepper.scaler.state_dict()["_growth_tracker"]


def test_an_overflow_lowers_the_loss_scale_and_restarts_its_count():
    stepper = make_stepper("TRAINING.PRECISION", "fp16")
    for _ in range(3):
        assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    assert growth_steps(stepper) == 3
    stepper.scaler.update(2.0**127)  # a loss times this is infinite
    before = copy_weights(stepper)
    assert not stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    assert (stepper.scaler.get_scale(), growth_steps(stepper)) == (2.0**126, 0)
    assert are_equal(copy_weights(stepper), before)
    stepper.scaler.update(2.0**10)
    assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    assert (stepper.scaler.get_scale(), growth_steps(stepper)) == (2.0**10, 1)


def test_a_loss_above_the_limit_does_not_lower_the_loss_scale():
    stepper = make_stepper("TRAINING.PRECISION", "fp16")
    assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    scale = stepper.scaler.get_scale()
    stepper.scaler.set_growth_interval(1)  # a skipped step must not make the scale grow either
    assert not stepper.update(DEGRADED, TARGET + 1000, (5, 5)).is_updated
    assert (stepper.scaler.get_scale(), growth_steps(stepper)) == (scale, 0)


@pytest.mark.parametrize(("offset", "is_updated"), [(99.0, True), (101.0, False)])
def test_a_step_with_a_loss_above_100_is_skipped(offset, is_updated):
    """The limit is for the mean over samples. Loss and gradient are finite here."""
    stepper = make_stepper("LOSS.EDGE_WEIGHT", 0.0)
    before = copy_weights(stepper)
    result = stepper.update(TARGET, TARGET + offset, (5, 5))
    assert result.is_updated == is_updated
    assert (result.loss > 0) == is_updated
    assert are_equal(copy_weights(stepper), before) != is_updated


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_with_a_value_that_is_not_finite_is_skipped(value):
    stepper = make_stepper()
    stepper.update(DEGRADED, TARGET, (5, 5))
    before = copy_weights(stepper)
    broken = DEGRADED.clone()
    broken[2, 0, 3, 3] = value
    assert not stepper.update(broken, TARGET, (5, 5)).is_updated
    assert are_equal(copy_weights(stepper), before)


def test_the_optimizer_is_fused_by_device_not_by_checkpoint():
    """On a CPU or CUDA, Adam is one fused kernel. A checkpoint says whether it was, but the current device decides."""
    stepper = make_stepper()
    stepper.update(DEGRADED, TARGET, (5, 5))
    state = stepper.state_dict()
    expected = [group["fused"] for group in state["optimizer"]["param_groups"]]
    for group in state["optimizer"]["param_groups"]:
        group["fused"] = False
    stepper.load_state_dict(state)
    assert [group["fused"] for group in stepper.optimizer.param_groups] == expected == [True]


def test_changed_optimizer_settings_are_used_after_a_resume():
    state = make_stepper().state_dict()
    stepper = make_stepper("OPTIM.BETA1", 0.5, "OPTIM.WEIGHT_DECAY", 0.01)
    stepper.load_state_dict(state)
    (group,) = stepper.optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.999), 0.01)


def test_a_state_restores_optimizer_scaler_and_ema():
    options = ["TRAINING.PRECISION", "fp16", "OPTIM.EMA", 0.9]
    one, other = make_stepper(*options), make_stepper(*options)
    for _ in range(3):
        one.update(DEGRADED, TARGET, (5, 5))
    one.scaler.update(2.0**9)
    other.model.load_state_dict(one.model.state_dict())
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert (other.scaler.get_scale(), growth_steps(other)) == (2.0**9, 3)
    for stepper in (one, other):
        stepper.update(DEGRADED, TARGET, (5, 5))
    for a, b in zip(one.eval_model.state_dict().values(), other.eval_model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(value, copy_weights(one)[key]) for key, value in copy_weights(other).items())


def test_an_ema_that_is_new_after_a_resume_starts_from_the_weights():
    one, other = make_stepper(), make_stepper("OPTIM.EMA", 0.9)
    one.update(DEGRADED, TARGET, (5, 5))
    other.model.load_state_dict(one.model.state_dict())
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for key, value in other.eval_model.state_dict().items():
        assert torch.equal(value, one.model.state_dict()[key])


def test_without_a_compiler_training_is_not_compiled(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    stepper = make_stepper("TRAINING.COMPILE", True)
    assert stepper.update(DEGRADED, TARGET, (5, 5)).is_updated
    assert "there is no C++ compiler" in capsys.readouterr().err


class LargeLossElsewhere(World):
    """A world in which another process has a very large loss."""

    def all_reduce_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.full_like(tensor, 1e9)


def test_a_large_loss_in_another_process_skips_the_step():
    stepper = Stepper(tiny_network().train(), tiny_settings(), LargeLossElsewhere(0, 1, torch.device("cpu")))
    assert not stepper.update(DEGRADED, TARGET, (5, 5)).is_updated


def test_compile_uses_the_budget_of_the_settings(monkeypatch):
    compiled = []
    monkeypatch.setattr(step, "has_compiler", lambda device: True)
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    monkeypatch.setattr(step.functorch_config, "activation_memory_budget", 1.0)
    stepper = make_stepper("TRAINING.COMPILE", True, "TRAINING.COMPILE_BUDGET", 0.3)
    assert compiled == [stepper.model]
    assert step.functorch_config.activation_memory_budget == 0.3
    make_stepper()
    assert len(compiled) == 1


class CountReads(TorchDispatchMode):
    """Counts how often the program waits for the device: where it reads a value, or moves a tensor to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.reads += 1
        is_copy = function is torch.ops.aten._to_copy.default
        if is_copy and (options or {}).get("device", arguments[0].device) != arguments[0].device:
            self.reads += 1
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("OPTIM.ACCUMULATE", 3),
        ("OPTIM.GRAD_CLIP", 0.1),
        ("OPTIM.EMA", 0.9),
        ("OPTIM.OPTIMIZER", "muon"),
        ("TRAINING.PRECISION", "bf16"),
        ("TRAINING.PRECISION", "fp16"),
        ("LOSS.CLAMP", True),
        ("OPTIM.ACCUMULATE", 2, "OPTIM.GRAD_CLIP", 0.1, "OPTIM.EMA", 0.9, "TRAINING.CHECKPOINTING", True),
    ],
)
def test_a_step_reads_once_from_the_device(options, monkeypatch):
    stepper = make_stepper(*options)
    # The values of a tensor are read as one transfer: tolist does not go through the dispatcher value by value.
    tolist, lists = torch.Tensor.tolist, []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: lists.append(len(self)) or tolist(self))
    for _ in range(2):  # the first step makes what the later ones use again
        lists.clear()
        with CountReads() as counter:
            result = stepper.update(DEGRADED, TARGET, (5, 5), draw_mixup(5, 1.0, [0]), get_flags=lambda: (3.0, 4.0))
        assert result.is_updated
        assert result.flags == [3.0, 4.0]
    assert counter.reads == 0
    assert len(lists) == 1


def test_the_gradients_norm_is_returned():
    stepper, twin = make_stepper("OPTIM.GRAD_CLIP", 0.01), tiny_network()
    RestorationLoss(0.05)(twin(DEGRADED), TARGET).backward()
    expected = torch.cat([p.grad.ravel() for p in twin.parameters()]).norm()
    assert stepper.update(DEGRADED, TARGET, (5, 5)).norm == pytest.approx(expected.item(), rel=1e-4)
