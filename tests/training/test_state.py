import os

import pytest
import torch

from mprnet import UserError
from mprnet.training import state
from mprnet.training.state import LATEST, keep_until, load_latest, save_checkpoint, save_latest


def content(epoch: int) -> dict:
    return {"epoch": epoch, "state_dict": {"a": torch.full((2,), float(epoch))}, "optimizer": {}}


def test_the_latest_is_loaded_and_the_one_before_if_it_is_damaged(tmp_path):
    for epoch in (1, 2, 3):
        save_latest(tmp_path, content(epoch))
    assert load_latest(tmp_path).content["epoch"] == 3
    assert load_latest(tmp_path).path == tmp_path / LATEST
    (tmp_path / LATEST).write_bytes(b"damaged")
    found = load_latest(tmp_path)
    assert (found.content["epoch"], found.path.name) == (2, "model_latest_before.pth")


def test_a_damaged_latest_does_not_push_the_whole_one_out(tmp_path):
    for epoch in (1, 2):
        save_latest(tmp_path, content(epoch))
    (tmp_path / LATEST).write_bytes(b"damaged")
    save_latest(tmp_path, content(3), damaged=True)
    (tmp_path / LATEST).unlink()
    assert load_latest(tmp_path).content["epoch"] == 1


def test_where_there_are_no_links_it_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    for epoch in (1, 2):
        save_latest(tmp_path, content(epoch))
    (tmp_path / LATEST).unlink()
    assert load_latest(tmp_path).content["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_latest_before.pth"]


def test_nothing_to_go_on_from_gets_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"there is no model_latest\.pth in .*TRAINING.RESUME False"):
        load_latest(tmp_path)
    (tmp_path / LATEST).write_bytes(b"damaged")
    save_checkpoint(tmp_path / "model_latest_before.pth", {"epoch": 1, "state_dict": {}})  # as for demo.py
    sentence = r"model_latest\.pth is damaged \(.*\); model_latest_before\.pth holds no training state"
    with pytest.raises(UserError, match=sentence):
        load_latest(tmp_path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / LATEST
    save_checkpoint(path, content(1))

    def full(path, data):
        raise UserError("no space")

    monkeypatch.setattr(state, "write_atomically", full)
    with pytest.raises(UserError, match="no space"):
        save_checkpoint(path, content(2))
    assert load_latest(tmp_path).content["epoch"] == 1


def test_what_is_kept_gets_a_name_that_is_free(tmp_path):
    names = []
    for text in ("one", "two", "three"):
        (tmp_path / "model_best.pth").write_text(text)
        names.append(keep_until(tmp_path / "model_best.pth", 12).name)
    assert names == [f"model_best_until_step_12{suffix}.pth" for suffix in ("", "_2", "_3")]
    assert [(tmp_path / name).read_text() for name in names] == ["one", "two", "three"]
    assert not (tmp_path / "model_best.pth").exists()
