"""Runs on prepared pictures (TRAINING.CACHE_DIR)."""

import cv2
import numpy as np
import pytest
import torch

from mprnet import UserError
from mprnet.apps.prepare import prepare_training
from mprnet.data.paired import get_training_data, get_validation_data
from mprnet.training import prepared
from mprnet.training.datasets import make_data
from training.runs import Noise, tiny_settings


@pytest.fixture
def folder(tmp_path):
    """Six training pairs and a validation pair of 16x16 pixels."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 1)):
        for side in ("input", "target"):
            (tmp_path / part / side).mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 256, (16, 16, 3), np.uint8)
                cv2.imwrite(str(tmp_path / part / side / f"{number}.png"), image)
    return tmp_path


def settings_for(folder, *overrides: object):
    folders = ["TRAINING.TRAIN_DIR", str(folder / "train"), "TRAINING.VAL_DIR", str(folder / "val")]
    return tiny_settings(*folders, "TRAINING.TRAIN_PS", 8, *overrides)


def make(folder, *overrides: object, training=get_training_data):
    return make_data(settings_for(folder, *overrides), training, get_validation_data)


@pytest.fixture
def cached(folder) -> list[object]:
    """Settings with a cache that is prepared."""
    cached = ["TRAINING.CACHE_DIR", str(folder / "cache")]
    prepare_training(settings_for(folder, *cached), get_training_data)
    return cached


@pytest.mark.parametrize("hold_out", [0.0, 0.3])
def test_samples_are_the_same_and_a_note_says_where_they_are_from(folder, cached, hold_out, monkeypatch):
    options = ["TRAINING.HOLD_OUT", hold_out]
    decoded, prepared = make(folder, *options), make(folder, *options, *cached)
    count = len(decoded.training)
    assert count == len(prepared.training) == (4 if hold_out else 6)
    assert [*decoded.notes, f"{2 * count} pictures are read prepared from {folder / 'cache'}"] == prepared.notes
    expected = [decoded.training[1, index] for index in range(count)]
    monkeypatch.setattr("mprnet.data.reading.read_file", None)  # nothing is decoded any more
    for index in range(count):
        assert all(torch.equal(a, b) for a, b in zip(prepared.training[1, index], expected[index], strict=True))


def test_samples_from_tiles_are_the_same_too(folder, monkeypatch):
    for path in folder.glob("train/*/*.png"):
        cv2.imwrite(str(path), np.tile(np.arange(0, 240, 10, dtype=np.uint8)[:, None], (1, 48, 3)).reshape(24, 48, 3))
    cached = ["TRAINING.CACHE_DIR", str(folder / "cache"), "TRAINING.CACHE_GIB", 1e-5]  # less than the pixels take
    prepare_training(settings_for(folder, *cached), get_training_data)
    decoded, prepared = make(folder), make(folder, *cached)
    assert prepared.notes == [
        *decoded.notes,
        f"12 pictures are read prepared from {folder / 'cache'}, as compressed tiles",
    ]
    expected = [decoded.training[1, index] for index in range(6)]
    monkeypatch.setattr("mprnet.data.reading.read_file", None)
    for index in range(6):
        assert all(torch.equal(a, b) for a, b in zip(prepared.training[1, index], expected[index], strict=True))


def test_a_new_or_changed_picture_is_an_error(folder, cached, capsys):
    for side in ("input", "target"):
        cv2.imwrite(str(folder / "train" / side / "new.png"), np.zeros((16, 16, 3), np.uint8))
    message = (
        r"2 of the 14 training pictures are not prepared in .*cache, or have changed since \(the first: .*new\.png\)"
    )
    with pytest.raises(UserError, match=message):
        make(folder, *cached)
    assert not capsys.readouterr().err  # bars are only for terminals
    (folder / "cache" / "index.json").unlink()
    with pytest.raises(UserError, match=r"14 of the 14 .* run train.py --prepare with the same settings, or set"):
        make(folder, *cached)


def test_a_broken_picture_is_skipped_as_without_a_cache(folder, capsys):
    (folder / "train" / "input" / "2.png").write_bytes(b"oops")
    options = ["TRAINING.CACHE_DIR", str(folder / "cache"), "TRAINING.ON_BROKEN", "skip"]
    prepare_training(settings_for(folder, *options), get_training_data)
    decoded, prepared = make(folder, *options[2:]), make(folder, *options)
    assert prepared.notes == [f"11 pictures are read prepared from {folder / 'cache'}"]
    capsys.readouterr()
    samples = [data.training[1, 2] for data in (decoded, prepared)]
    assert all(torch.equal(a, b) for a, b in zip(*samples, strict=True))
    assert capsys.readouterr().err.count("skipped: ") == 2


def test_a_note_says_how_many_pictures_are_decoded(folder):
    options = ["TRAINING.CACHE_DIR", str(folder / "cache"), "TRAINING.CACHE_GIB", 4 * 4096 / 2**30]
    prepare_training(settings_for(folder, *options), get_training_data)
    (note,) = make(folder, *options).notes
    assert note.startswith("4 pictures are read prepared from ")
    assert note.endswith("cache; 8 others are decoded (TRAINING.CACHE_GIB)")


def test_a_data_set_of_ones_own_is_an_error(folder, cached):
    with pytest.raises(UserError, match=r"CACHE_DIR needs a data set that reads .* of type Noise"):
        make(folder, *cached, training=lambda *_: Noise())


def test_the_cache_belongs_to_the_folder_that_was_found(folder, cached):
    """TRAINING.ELSE_IN: the data set is somewhere else on this machine."""
    elsewhere = settings_for(folder, *cached, "TRAINING.TRAIN_DIR", "/nowhere/train", "TRAINING.ELSE_IN", str(folder))
    assert prepared.load_cache(elsewhere).source == folder / "train"
    assert make_data(elsewhere, get_training_data, get_validation_data).notes[0].startswith("12 pictures are read")
