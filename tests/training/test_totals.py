import math

import pytest

from mprnet.training.totals import EpochTotals
from training.runs import ONE_PROCESS


class First:
    """The first of two processes. The second one's sums are 10 and 4."""

    size, is_main = 2, True

    def all_reduce(self, *values: float) -> list[float]:
        return [value + other for value, other in zip(values, (10.0, 4.0), strict=False)]


class Second(First):
    is_main = False


def make_totals() -> EpochTotals:
    totals = EpochTotals()
    totals.add(3.0, 4, True)
    totals.add(1e9, 4, False)
    totals.add(2.0, 1, True)
    return totals


def test_the_mean_loss_is_over_the_samples_of_all_updates():
    totals = make_totals()
    assert (totals.loss, totals.samples, totals.skipped) == (5.0, 5.0, 1.0)
    assert totals.mean_loss(ONE_PROCESS) == 1.0
    assert totals.mean_loss(First()) == 15 / 9
    # If every step was skipped, 0 would look like a perfect loss.
    assert math.isnan(EpochTotals().mean_loss(ONE_PROCESS))


def test_an_update_resets_skipped_in_a_row_but_a_new_epoch_does_not():
    totals = EpochTotals()
    for expected in (1, 2):
        totals.add(0.0, 4, False)
        assert totals.skipped_in_a_row == expected
    totals.reset()
    assert (totals.skipped_in_a_row, totals.skipped) == (2, 0.0)
    totals.add(1.0, 4, True)
    assert totals.skipped_in_a_row == 0


def test_text_for_the_progress_bar():
    assert make_totals().as_text() == {"loss": "1.00000", "skipped": "1"}
    totals = EpochTotals()
    assert totals.as_text() == {"loss": "0.00000"}
    totals.add(1.5, 2, True)
    assert totals.as_text() == {"loss": "0.75000"}


def test_the_main_process_gets_the_sums_of_all_processes():
    first, second = make_totals(), make_totals()
    first.gather_on_main(First())
    second.gather_on_main(Second())
    assert (first.loss, first.samples) == (15.0, 9.0)
    assert (second.loss, second.samples) == (0.0, 0.0)
    alone = make_totals()
    alone.gather_on_main(ONE_PROCESS)
    assert (alone.loss, alone.samples) == (5.0, 5.0)


def test_only_the_main_process_loads_loss_and_samples():
    state = make_totals().state_dict()
    assert state == {"loss": 5.0, "samples": 5.0, "skipped": 1.0}
    first, second = EpochTotals(), EpochTotals()
    first.load_state_dict(state, First())
    second.load_state_dict(state, Second())
    assert first.state_dict() == state
    assert second.state_dict() == {"loss": 0.0, "samples": 0.0, "skipped": 1.0}
    totals = EpochTotals()
    totals.load_state_dict({}, ONE_PROCESS)
    assert totals.state_dict() == pytest.approx({"loss": 0.0, "samples": 0.0, "skipped": 0.0})
