"""train.py --prepare: what it says, and when it refuses."""

import shutil
from collections import namedtuple

import cv2
import numpy as np
import pytest
from training.runs import Noise, tiny_settings

from mprnet import UserError
from mprnet.apps.prepare import prepare_training
from mprnet.data.paired import get_training_data

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def folder(tmp_path):
    """Three pairs of 1000x700 pixels. Each picture takes 2,100,000 bytes, 0.002 GiB."""
    for side in ("input", "target"):
        (tmp_path / "set" / side).mkdir(parents=True)
        for number in range(3):
            image = np.full((700, 1000, 3), number + 10 * (side == "input"), np.uint8)
            cv2.imwrite(str(tmp_path / "set" / side / f"{number}.png"), image)
    return tmp_path


def prepare(folder, *overrides: object, training=get_training_data) -> int:
    places = ["TRAINING.TRAIN_DIR", str(folder / "set"), "TRAINING.CACHE_DIR", str(folder / "a" / "cache")]
    return prepare_training(tiny_settings(*places, *overrides), training)


def test_the_space_and_the_results_are_printed(folder, capsys):
    assert prepare(folder) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert not err  # bars are only for terminals
    cache = folder / "a" / "cache"
    assert lines[0].startswith(f"6 pictures take 0.01 GiB in {cache}; 0.01 GiB are to be written, ")
    assert lines[1:] == [f"6 pictures are prepared in {cache}; 6 of them were decoded now"]
    assert prepare(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "; 0.00 GiB are to be written" in lines[0]
    assert lines[1].endswith("; 0 of them were decoded now")


def test_pairs_that_are_held_out_are_prepared_too(folder, capsys):
    """Which these are can differ from run to run."""
    prepare(folder, "TRAINING.HOLD_OUT", 0.3)
    assert "6 pictures are prepared" in capsys.readouterr().out


@pytest.fixture
def noise(folder):
    """The same pictures with noise, which tiles do not make smaller."""
    rng = np.random.default_rng(0)
    for path in (folder / "set").glob("*/*.png"):
        cv2.imwrite(str(path), rng.integers(0, 256, (700, 1000, 3), np.uint8))


def test_what_does_not_fit_on_the_disk_as_pixels_is_stored_as_tiles(folder, monkeypatch, capsys):
    """Also by the next call, which has less space, but nothing to write. With more space, it is stored as pixels."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 2**26 + 6 * 2_100_000))
    cache = folder / "a" / "cache"
    for decoded in (6, 0):
        assert prepare(folder) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == (
            "0.01 GiB as pixels, more than fits into the 0.07 GiB that are free (0.06 GiB of them are kept free): "
            "stored as compressed tiles, about 0.00 GiB"
        )
        assert lines[-1] == f"6 pictures are prepared in {cache}; {decoded} of them were decoded now"
        assert sorted(path.suffix for path in cache.iterdir()) == ["", ".json", *6 * [".tiles"]]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 2**30))
    assert prepare(folder) == 0
    assert "tiles" not in capsys.readouterr().out
    assert sorted(path.suffix for path in cache.iterdir()) == ["", ".json", *6 * [".rgb"]]


def test_the_space_of_tiles_is_estimated(folder, noise, monkeypatch, capsys):
    """Some pictures are flat, and others do not become smaller. The estimate is a tenth more."""
    monkeypatch.setattr("mprnet.apps.prepare._GIB", 10**6)
    for number in range(3):
        cv2.imwrite(str(folder / "set" / "input" / f"{number}.png"), np.full((700, 1000, 3), number, np.uint8))
    assert prepare(folder, "TRAINING.CACHE_GIB", 7.2) == 0
    out, err = capsys.readouterr()
    line = out.splitlines()[0]
    assert not err
    message = "12.61 GiB as pixels, more than TRAINING.CACHE_GIB 7.2: stored as compressed tiles, about "
    assert line.startswith(message)
    assert 6.3 < float(line[len(message) :].split()[0]) < 7.1
    used = sum(path.stat().st_size for path in (folder / "a" / "cache").glob("*.tiles"))
    assert 6.2e6 < used < 6.4e6
    prepare(folder, "TRAINING.CACHE_GIB", 7.2)
    line = capsys.readouterr().out.splitlines()[0]
    assert abs(float(line[len(message) :].split()[0]) - used / 1e6) < 0.05


def test_a_broken_picture_does_not_stop_the_estimate(folder, capsys):
    path = folder / "set" / "input" / "0.png"
    path.write_bytes(path.read_bytes()[:60])  # the header can be read
    assert prepare(folder, "TRAINING.CACHE_GIB", 0.005) == 1
    assert "stored as compressed tiles" in capsys.readouterr().out


def test_a_disk_that_is_too_small_is_an_error_before_anything_is_written(folder, noise, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 2**26))
    message = r"cache: 0.01 GiB of free space are missing for .* on another disk \(TRAINING.CACHE_DIR\)\.$"
    with pytest.raises(UserError, match=message):
        prepare(folder)
    assert "tiles" not in capsys.readouterr().out  # these do not fit either
    assert [path.name for path in (folder / "a" / "cache").iterdir()] == [".lock"]


def test_the_part_that_fits_is_named(folder, noise, monkeypatch):
    monkeypatch.setattr("mprnet.apps.prepare._GIB", 10**7)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 2**26 + 9 * 10**6))
    with pytest.raises(UserError, match=r", or prepare a part of the pictures \(TRAINING.CACHE_GIB 0.9\)\.$"):
        prepare(folder)
    assert prepare(folder, "TRAINING.CACHE_GIB", 0.9) == 0


def test_a_limit_prepares_a_part_and_says_so(folder, noise, capsys):
    assert prepare(folder, "TRAINING.CACHE_GIB", 0.005) == 0
    out = capsys.readouterr().out
    assert "2 pictures are prepared in" in out
    assert "4 more do not fit into TRAINING.CACHE_GIB 0.005: training decodes them" in out


@pytest.mark.parametrize(("on_broken", "status", "word"), [("stop", 1, "error"), ("skip", 0, "skipped")])
def test_a_broken_picture_does_not_stop_the_others(folder, capsys, on_broken, status, word):
    broken = folder / "set" / "input" / "0.png"
    broken.write_bytes(b"oops")
    assert prepare(folder, "TRAINING.ON_BROKEN", on_broken) == status
    out, err = capsys.readouterr()
    assert "5 pictures are prepared in" in out
    assert f"{word}: {broken}: not a picture" in err
    assert ("TRAINING.ON_BROKEN skip" in err) == (on_broken == "stop")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["TRAINING.CACHE_DIR", ""], "no folder for the prepared pictures: set TRAINING.CACHE_DIR"),
        (["TRAINING.TRAIN_DIR", ""], "nothing to train on: set TRAINING.TRAIN_DIR"),
        (["TRAINING.CACHE_DIR", "/dev/null/x"], "/dev/null/x: nothing can be written there"),
    ],
)
def test_settings_without_folders_are_an_error(folder, change, message):
    with pytest.raises(UserError, match=message):
        prepare(folder, *change)


def test_a_data_set_of_ones_own_is_an_error(folder):
    with pytest.raises(
        UserError, match=r"CACHE_DIR needs a data set .* object of type Noise: set TRAINING.CACHE_DIR ''"
    ):
        prepare(folder, training=lambda *_: Noise())


def test_generated_pictures_need_no_preparation(folder, capsys):
    assert prepare(folder, "SYNTHETIC.DEGRADATION", "noise") == 0
    assert "nothing to prepare" in capsys.readouterr().out


def test_two_programs_do_not_prepare_one_folder_at_the_same_time(folder):
    fcntl = pytest.importorskip("fcntl")
    (folder / "a" / "cache").mkdir(parents=True)
    with open(folder / "a" / "cache" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another program is at work"):
            prepare(folder)
