"""Checkpoints that are written while training goes on."""

import threading

import pytest
import torch

from mprnet import UserError
from mprnet.training import writer as module
from mprnet.training.state import BEST, load_latest
from mprnet.training.writer import CheckpointWriter


def make_content(value: float = 1.0) -> dict:
    return {
        "epoch": 3,
        "state_dict": {"a": torch.full((2,), value)},
        "optimizer": {"state": {0: {"exp_avg": torch.full((2,), value)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "history": [{"loss": 1.0}],
        "metadata": {},
    }


@pytest.fixture
def checkpoints(tmp_path):
    writer = CheckpointWriter(tmp_path)
    yield writer
    writer.close()


def fail_times(monkeypatch, times: int) -> list[int]:
    """Make the first ``times`` attempts to write fail, and return a list to which each attempt appends."""
    attempts, save = [], module.save_latest

    def fail(*arguments: object) -> None:
        attempts.append(1)
        if len(attempts) <= times:
            raise UserError("no space")
        save(*arguments)

    monkeypatch.setattr(module, "save_latest", fail)
    return attempts


def test_the_content_may_change_while_it_is_written(checkpoints, tmp_path, monkeypatch):
    """The write does not begin before the content has changed. So the call that asks for it does not wait for it."""
    begin, save = threading.Event(), module.save_latest
    monkeypatch.setattr(module, "save_latest", lambda *arguments: (begin.wait(), save(*arguments)))
    content = make_content()
    checkpoints.write(content)
    content["state_dict"]["a"].zero_()
    content["optimizer"]["state"][0]["exp_avg"].zero_()
    content["history"].append({"loss": 2.0})
    begin.set()
    checkpoints.wait()
    loaded = load_latest(tmp_path).content
    assert loaded["state_dict"]["a"].tolist() == [1, 1]
    assert loaded["optimizer"]["state"][0]["exp_avg"].tolist() == [1, 1]
    assert loaded["optimizer"]["param_groups"] == [{"betas": (0.9, 0.999)}]
    assert loaded["history"] == [{"loss": 1.0}]


def test_checkpoints_are_written_one_after_the_other(checkpoints, tmp_path):
    for value in (1.0, 2.0, 3.0):
        checkpoints.write(make_content(value), is_best=value == 2)
    checkpoints.wait()
    assert load_latest(tmp_path).content["state_dict"]["a"].tolist() == [3, 3]
    assert torch.load(tmp_path / BEST, weights_only=True)["state_dict"]["a"].tolist() == [2, 2]


def test_a_failed_write_is_tried_again(checkpoints, tmp_path, monkeypatch):
    attempts = fail_times(monkeypatch, 1)
    checkpoints.write(make_content(), is_best=True)
    checkpoints._executor.submit(lambda: None).result()  # this thread's turn comes after the write
    assert checkpoints.has_failed
    checkpoints.write(make_content(2.0))
    checkpoints.wait()
    assert not checkpoints.has_failed
    assert len(attempts) == 3
    assert torch.load(tmp_path / BEST, weights_only=True)["state_dict"]["a"].tolist() == [1, 1]


def test_an_error_is_raised_once_if_the_second_attempt_fails(checkpoints, monkeypatch):
    attempts = fail_times(monkeypatch, 2)
    checkpoints.write(make_content())
    with pytest.raises(UserError, match="no space"):
        checkpoints.wait()
    checkpoints.wait()
    assert not checkpoints.has_failed
    assert len(attempts) == 2


def test_a_damaged_latest_checkpoint_is_left_out_of_one_write(checkpoints, monkeypatch):
    damaged = []
    monkeypatch.setattr(module, "save_latest", lambda folder, content, is_damaged, is_best: damaged.append(is_damaged))
    checkpoints.latest_is_damaged = True
    for _ in range(2):
        checkpoints.write(make_content())
    checkpoints.wait()
    assert damaged == [True, False]


def test_the_latest_checkpoint_is_written_last(checkpoints, monkeypatch):
    """If the run is killed between two files, it resumes before the other ones, and writes them again."""
    written = []
    monkeypatch.setattr(module, "save_epoch", lambda *arguments: written.append("epoch"))
    monkeypatch.setattr(module, "save_latest", lambda *arguments: written.append("latest"))
    checkpoints.write(make_content(), is_epoch_file=True)
    checkpoints.wait()
    assert written == ["epoch", "latest"]
