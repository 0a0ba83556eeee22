import os

import pytest
import torch

from mprnet import UserError
from mprnet.training import state
from mprnet.training.state import BEST, LATEST, archive, load_latest, save_epoch, save_latest


def make_content(epoch: int) -> dict:
    return {"epoch": epoch, "state_dict": {"a": torch.full((2,), float(epoch))}, "optimizer": {}}


def test_the_latest_is_loaded_or_the_previous_one_if_it_is_damaged(tmp_path):
    for epoch in (1, 2, 3):
        save_latest(tmp_path, make_content(epoch))
    assert load_latest(tmp_path).content["epoch"] == 3
    assert load_latest(tmp_path).path == tmp_path / LATEST
    (tmp_path / LATEST).write_bytes(b"damaged")
    found = load_latest(tmp_path)
    assert (found.content["epoch"], found.path.name) == (2, "model_latest_before.pth")


def test_a_damaged_checkpoint_does_not_replace_the_previous_one(tmp_path):
    for epoch in (1, 2):
        save_latest(tmp_path, make_content(epoch))
    (tmp_path / LATEST).write_bytes(b"damaged")
    save_latest(tmp_path, make_content(3), is_damaged=True)
    (tmp_path / LATEST).unlink()
    assert load_latest(tmp_path).content["epoch"] == 1


def test_without_links_the_checkpoint_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    for epoch in (1, 2):
        save_latest(tmp_path, make_content(epoch))
    (tmp_path / LATEST).unlink()
    assert load_latest(tmp_path).content["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_latest_before.pth"]


def test_a_link_that_a_killed_run_left_behind_does_not_matter(tmp_path):
    save_latest(tmp_path, make_content(1))
    (tmp_path / ".model_latest_before.pth.link").write_bytes(b"")
    before = (tmp_path / LATEST).stat().st_ino
    save_latest(tmp_path, make_content(2))
    assert (tmp_path / "model_latest_before.pth").stat().st_ino == before  # not a copy
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, "model_latest_before.pth"]


def test_without_a_usable_checkpoint_loading_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"there is no model_latest\.pth in .*TRAINING.RESUME False"):
        load_latest(tmp_path)
    (tmp_path / LATEST).write_bytes(b"damaged")
    weights = {"epoch": 1, "state_dict": {}}  # no optimizer state
    torch.save(weights, tmp_path / "model_latest_before.pth")
    message = (
        r"model_latest\.pth is damaged \(.*\); model_latest_before\.pth holds no training state\. "
        r"Start another run with another MODEL\.SESSION; TRAINING\.INIT_WEIGHTS can start it from"
    )
    with pytest.raises(UserError, match=message):
        load_latest(tmp_path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    save_latest(tmp_path, make_content(1))

    def raise_no_space(path, data):
        raise UserError("no space")

    monkeypatch.setattr(state, "write_atomically", raise_no_space)
    with pytest.raises(UserError, match="no space"):
        save_latest(tmp_path, make_content(2))
    assert load_latest(tmp_path).content["epoch"] == 1


def test_the_best_is_written_once_and_stays(tmp_path):
    save_latest(tmp_path, make_content(1))
    save_latest(tmp_path, make_content(2), is_best=True)
    assert os.path.samefile(tmp_path / BEST, tmp_path / LATEST)
    save_latest(tmp_path, make_content(3))
    assert torch.load(tmp_path / BEST, weights_only=True)["epoch"] == 2
    assert load_latest(tmp_path).content["epoch"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, LATEST, "model_latest_before.pth"]


def test_the_best_is_replaced_before_the_latest(tmp_path, monkeypatch):
    """Else a run that is killed between the two would resume after the validation, and the best would be lost."""
    save_latest(tmp_path, make_content(1), is_best=True)
    replace = os.replace

    def fail(source, target):
        if target == tmp_path / LATEST:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        save_latest(tmp_path, make_content(2), is_best=True)
    assert torch.load(tmp_path / BEST, weights_only=True)["epoch"] == 2
    assert load_latest(tmp_path).content["epoch"] == 1


def test_a_fallback_that_is_the_latest_already_leaves_no_link(tmp_path):
    save_latest(tmp_path, make_content(1))
    os.link(tmp_path / LATEST, tmp_path / "model_latest_before.pth")  # as if killed after this
    save_latest(tmp_path, make_content(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, "model_latest_before.pth"]


@pytest.mark.parametrize(
    ("keep", "left"), [(0, [1, 2, 3, 10, 12]), (1, [10, 12]), (3, [2, 3, 10, 12]), (9, [1, 2, 3, 10, 12])]
)
def test_the_newest_files_of_epochs_are_kept(tmp_path, keep, left):
    """The file of epoch 12 is of a run that went further, and is not touched."""
    (tmp_path / "model_epoch_best.pth").write_bytes(b"mine")
    (tmp_path / "model_epoch_12.pth").write_bytes(b"another")
    for epoch in (1, 2, 3):
        save_epoch(tmp_path, make_content(epoch) | {"metadata": {"task": "Mine"}})
    save_epoch(tmp_path, make_content(10) | {"metadata": {"task": "Mine"}}, keep)
    names = {f"model_epoch_{epoch}.pth" for epoch in left}
    assert {path.name for path in tmp_path.iterdir()} == names | {"model_epoch_best.pth"}
    content = torch.load(tmp_path / "model_epoch_10.pth", weights_only=True)
    assert set(content) == {"epoch", "state_dict", "metadata"}


def test_archived_files_get_a_free_name(tmp_path):
    names = []
    for text in ("one", "two", "three"):
        (tmp_path / "model_best.pth").write_text(text)
        names.append(archive(tmp_path / "model_best.pth", 12).name)
    assert names == [f"model_best_until_step_12{suffix}.pth" for suffix in ("", "_2", "_3")]
    assert [(tmp_path / name).read_text() for name in names] == ["one", "two", "three"]
    assert not (tmp_path / "model_best.pth").exists()
