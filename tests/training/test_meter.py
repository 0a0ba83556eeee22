"""The averages over steps that the log shows. The clock stands still unless a test moves it."""

import math
from datetime import datetime

import pytest
import torch

from mprnet.inference.distributed import World
from mprnet.training import meter as module
from mprnet.training.meter import COLUMNS, StepMeter, peak_memory
from mprnet.training.step import StepResult
from training.runs import ONE_PROCESS


class Clock:
    now = 50.0  # seconds


class Day(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime(2026, 3, 1, 23, 0)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(module, "datetime", Day)
    return clock


def make_step(loss: float, norm: float = 1.0, is_updated: bool = True) -> StepResult:
    return StepResult(loss if is_updated else 0.0, is_updated, norm)


def test_averages_over_the_steps_since_the_last_row(clock):
    meter = StepMeter(ONE_PROCESS)
    for loss, norm in ((8.0, 1.0), (2.0, 3.0)):
        with meter.wait():
            clock.now += 1
        clock.now += 3
        meter.add(make_step(loss, norm), 4)
    row = meter.read(steps_left=900)
    assert {key: row[key] for key in COLUMNS[:4]} == {
        "recent_loss": 1.25, "grad_norm": 2.0, "samples_per_second": 1.0, "data_wait": 0.25
    }  # fmt: skip
    assert row["end"] == "2026-03-02 00:00"  # 900 steps of 4 s
    clock.now += 2
    meter.add(make_step(4.0, 5.0), 4)
    row = meter.read(steps_left=0)
    assert {key: row[key] for key in COLUMNS[:4]} == {
        "recent_loss": 1.0, "grad_norm": 5.0, "samples_per_second": 2.0, "data_wait": 0.0
    }  # fmt: skip
    assert row["end"] == "2026-03-01 23:00"


def test_the_time_before_a_restart_does_not_count_but_for_the_end(clock):
    meter = StepMeter(ONE_PROCESS)
    meter.add(make_step(100.0), 4)
    clock.now += 1000  # a validation
    meter.restart()
    clock.now += 2
    meter.add(make_step(4.0), 4)
    row = meter.read(steps_left=10)
    assert (row["recent_loss"], row["samples_per_second"]) == (1.0, 2.0)
    assert row["end"] == "2026-03-02 00:23"  # 10 steps of 501 s


def test_skipped_steps_take_time_but_have_no_loss(clock):
    meter = StepMeter(ONE_PROCESS)
    clock.now += 4
    meter.add(make_step(8.0, 2.0), 4)
    meter.add(make_step(0.0, math.inf, is_updated=False), 4)
    row = meter.read(1)
    assert (row["recent_loss"], row["grad_norm"], row["samples_per_second"]) == (2.0, 2.0, 2.0)
    meter.add(make_step(0.0, math.nan, is_updated=False), 4)
    row = meter.read(1)
    assert math.isnan(row["recent_loss"])
    assert math.isnan(row["grad_norm"])


def test_without_steps_only_the_memory_is_known():
    assert set(StepMeter(ONE_PROCESS).read(5)) <= {"memory_gib"}


def test_samples_and_losses_of_all_processes_count(clock, monkeypatch):
    """The other process waits for data half of the time, and has twice as many samples."""
    monkeypatch.setattr(
        World, "all_reduce", lambda self, loss, updated, samples, wait: [3 * loss, 3 * updated, 3 * samples, wait + 2]
    )
    meter = StepMeter(World(0, 2, torch.device("cpu")))
    clock.now += 4
    meter.add(make_step(4.0), 4)
    row = meter.read(1)
    assert (row["recent_loss"], row["samples_per_second"], row["data_wait"]) == (1.0, 3.0, 0.25)


def test_the_peak_of_memory_grows_with_a_large_tensor():
    before = peak_memory(torch.device("cpu"))
    torch.zeros(int(before) + 2**26, dtype=torch.uint8).fill_(1)
    assert peak_memory(torch.device("cpu")) >= before + 2**26


def test_the_peak_of_a_gpu_is_that_of_its_tensors(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 * 2**30)
    assert peak_memory(torch.device("cuda", 0)) == 7 * 2**30
    assert StepMeter(World(0, 1, torch.device("cuda", 0))).read(0) == {"memory_gib": 7.0}


def test_the_peak_is_unknown_without_the_module_resource(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert peak_memory(torch.device("cpu")) is None
