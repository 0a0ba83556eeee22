import warnings
from itertools import pairwise

import pytest
import torch
from golden import read_fact
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from warmup_scheduler import GradualWarmupScheduler

SCHEDULES = {name: value for name, value in read_fact("lr_schedule.json").items() if name != "about"}


def optimizer(*rates: float) -> SGD:
    return SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates])


def collect_rates(scheduler: LRScheduler, epochs: int) -> list[float]:
    """Return the rates of epochs 1 to ``epochs``; ``step()`` is called before each epoch."""
    seen = []
    for _ in range(epochs):
        scheduler.step()
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
    return seen


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rates_equal_those_of_the_published_recipe(name):
    facts = SCHEDULES[name]
    adam = Adam([torch.zeros(1, requires_grad=True)], lr=2e-4)
    cosine = CosineAnnealingLR(adam, facts["T_max"], eta_min=1e-6)
    seen = collect_rates(GradualWarmupScheduler(adam, 1, 3, cosine), facts["epochs"])
    for epoch, rate in facts["lr"].items():
        assert seen[int(epoch) - 1] == pytest.approx(rate, abs=1e-12)


def test_the_rate_before_the_first_step_is_zero():
    sgd = optimizer(0.1)
    GradualWarmupScheduler(sgd, multiplier=1, total_epoch=3)
    assert sgd.param_groups[0]["lr"] == 0


def test_a_multiplier_without_another_scheduler():
    seen = collect_rates(GradualWarmupScheduler(optimizer(0.1), multiplier=3, total_epoch=4), 6)
    assert seen == pytest.approx([0.15, 0.2, 0.25, 0.3, 0.3, 0.3])


@pytest.mark.parametrize(
    "make",
    [
        lambda o: StepLR(o, 2, 0.5),
        lambda o: ExponentialLR(o, 0.9),
        lambda o: MultiStepLR(o, [1, 4], 0.1),
        lambda o: CosineAnnealingLR(o, 9, eta_min=0.0),
        lambda o: SequentialLR(o, [ExponentialLR(o, 0.9), StepLR(o, 2, 0.5)], [3]),
    ],
)
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.filterwarnings("ignore:Detected call")
@pytest.mark.filterwarnings("ignore:The epoch parameter")  # SequentialLR's own, in torch 2.6
def test_the_other_scheduler_gives_the_same_rates_as_alone(make, multiplier):
    alone = make(optimizer(0.1 * multiplier))
    expected = [0.1 * multiplier, *collect_rates(alone, 8)]
    sgd = optimizer(0.1)
    seen = collect_rates(GradualWarmupScheduler(sgd, multiplier, 3, make(sgd)), 3 + 9)
    assert seen[3:] == pytest.approx(expected, abs=1e-15)


def test_parameter_groups_have_their_own_rates():
    sgd = optimizer(0.1, 0.3)
    scheduler = GradualWarmupScheduler(sgd, 1, 2, StepLR(sgd, 1, 0.5))
    for expected in ([0.05, 0.15], [0.1, 0.3], [0.1, 0.3], [0.05, 0.15]):
        scheduler.step()
        assert scheduler.get_last_lr() == pytest.approx(expected)


def test_reduce_on_plateau_after_the_warm_up():
    sgd = optimizer(0.1)
    scheduler = GradualWarmupScheduler(sgd, 1, 2, ReduceLROnPlateau(sgd, factor=0.5, patience=1))
    seen = []
    for _ in range(8):
        scheduler.step(metrics=1.0)
        seen.append(sgd.param_groups[0]["lr"])
    assert seen == pytest.approx([0.05, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    with pytest.raises(ValueError, match="metrics"):
        scheduler.step()


@pytest.mark.parametrize("stop", [1, 3, 4, 7])
def test_a_saved_state_can_be_resumed(tmp_path, stop):
    def make() -> GradualWarmupScheduler:
        sgd = optimizer(0.1, 0.2)
        return GradualWarmupScheduler(sgd, 1, 3, CosineAnnealingLR(sgd, 6, eta_min=0.01))

    whole = make()
    expected = collect_rates(whole, 9)
    first = make()
    collect_rates(first, stop)
    torch.save(first.state_dict(), tmp_path / "state.pth")
    second = make()
    second.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert second.get_last_lr() == first.get_last_lr()
    assert collect_rates(second, 9 - stop) == expected[stop:]


def test_step_to_an_epoch():
    sgd = optimizer(0.1)
    scheduler = GradualWarmupScheduler(sgd, 1, 2, StepLR(sgd, 1, 0.5))
    scheduler.step(5)
    assert sgd.param_groups[0]["lr"] == pytest.approx(0.025)
    with pytest.raises(ValueError, match="cannot go back"):
        scheduler.step(4)


def test_the_recipe_gives_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sgd = optimizer(0.1)
        scheduler = GradualWarmupScheduler(sgd, 1, 2, CosineAnnealingLR(sgd, 4))
        assert all(a != b for a, b in pairwise(collect_rates(scheduler, 2)))
        collect_rates(scheduler, 4)
        for _ in range(3):
            sgd.step()
            scheduler.step()


def test_tensor_rates_are_changed_in_place():
    rate = torch.tensor(0.1)
    sgd = SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    scheduler = GradualWarmupScheduler(sgd, 1, 2)
    scheduler.step()
    assert sgd.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.05)


@pytest.mark.parametrize(("multiplier", "total_epoch"), [(0.5, 3), (1, 0)])
def test_arguments_out_of_range_raise_an_error(multiplier, total_epoch):
    with pytest.raises(ValueError, match="at least 1"):
        GradualWarmupScheduler(optimizer(0.1), multiplier, total_epoch)


def test_a_scheduler_of_another_optimizer_raises_an_error():
    with pytest.raises(ValueError, match="another optimizer"):
        GradualWarmupScheduler(optimizer(0.1), 1, 3, StepLR(optimizer(0.1), 1))
