import math

import pytest

from mprnet.training.tally import Tally
from training.runs import ALONE


class Pair:
    """The first of two processes; the other one's sums are 10 and 4."""

    size, is_main = 2, True

    def all_reduce(self, *values: float) -> list[float]:
        return [value + other for value, other in zip(values, (10.0, 4.0), strict=False)]


class Second(Pair):
    is_main = False


def filled() -> Tally:
    tally = Tally()
    tally.add(3.0, 4, True)
    tally.add(1e9, 4, False)
    tally.add(2.0, 1, True)
    return tally


def test_the_mean_is_that_of_the_samples_of_sound_steps():
    tally = filled()
    assert (tally.loss, tally.samples, tally.skipped) == (5.0, 5.0, 1.0)
    assert tally.mean(ALONE) == 1.0
    assert tally.mean(Pair()) == 15 / 9
    assert math.isnan(Tally().mean(ALONE))  # every step was skipped: 0 would look perfect


def test_bad_steps_in_a_row_end_with_a_sound_one_and_not_with_the_epoch():
    tally = Tally()
    for expected in (1, 2):
        tally.add(0.0, 4, False)
        assert tally.bad_in_a_row == expected
    tally.begin()
    assert (tally.bad_in_a_row, tally.skipped) == (2, 0.0)
    tally.add(1.0, 4, True)
    assert tally.bad_in_a_row == 0


def test_what_the_bar_shows():
    assert filled().shown() == {"loss": "1.00000", "skipped": "1"}
    tally = Tally()
    assert tally.shown() == {"loss": "0.00000"}
    tally.add(1.5, 2, True)
    assert tally.shown() == {"loss": "0.75000"}


def test_the_main_process_keeps_the_sums_of_all():
    first, second = filled(), filled()
    first.gather(Pair())
    second.gather(Second())
    assert (first.loss, first.samples) == (15.0, 9.0)
    assert (second.loss, second.samples) == (0.0, 0.0)
    alone = filled()
    alone.gather(ALONE)
    assert (alone.loss, alone.samples) == (5.0, 5.0)


def test_a_state_goes_on_in_the_main_process_alone():
    state = filled().state()
    assert state == {"loss": 5.0, "samples": 5.0, "skipped": 1.0}
    first, second = Tally(), Tally()
    first.load_state(state, Pair())
    second.load_state(state, Second())
    assert first.state() == state
    assert second.state() == {"loss": 0.0, "samples": 0.0, "skipped": 1.0}
    tally = Tally()
    tally.load_state({}, ALONE)
    assert tally.state() == pytest.approx({"loss": 0.0, "samples": 0.0, "skipped": 0.0})
