"""Training and validation data, and that they stay apart when a run is resumed."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mprnet import UserError
from mprnet.data.paired import get_training_data, get_validation_data
from mprnet.data.pairs import Pair
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.training import datasets
from mprnet.training.datasets import make_data
from training.runs import Grey, Noise, tiny_settings


@pytest.fixture
def folders(tmp_path):
    """Twelve training pairs of six scenes and two validation pairs, of 16x16 pixels."""
    for part, count in (("train", 12), ("val", 2)):
        for side in ("input", "target"):
            (tmp_path / part / side).mkdir(parents=True)
            for number in range(count):
                image = np.full((16, 16, 3), number, np.uint8)
                cv2.imwrite(str(tmp_path / part / side / f"scene{number // 2}_{number}.png"), image)
    return tmp_path


def settings_for(folders, *overrides: object):
    folder_settings = ["TRAINING.TRAIN_DIR", str(folders / "train"), "TRAINING.VAL_DIR", str(folders / "val")]
    return tiny_settings(*folder_settings, "TRAINING.TRAIN_PS", 8, "TRAINING.SCENE", r"scene\d", *overrides)


def make(settings, split=None, training=get_training_data, validation=get_validation_data):
    return make_data(settings, training, validation, split)


def names(data) -> tuple[set[str], set[str]]:
    return set(data.training.names), {name for _, _, name in data.validation}


def test_pairs_come_from_the_folders_in_the_settings(folders):
    data = make(settings_for(folders))
    assert len(data.training) == 12
    assert names(data)[1] == {"scene0_0", "scene0_1"}
    assert data.training[1, 0][0].shape == (3, 8, 8)
    assert data.validation[1][0].shape == (3, 16, 16)
    assert (data.split, data.notes) == ({"held_out": []}, [])
    assert data.description == f"pairs of {folders / 'train'}"


def test_val_ps_is_the_size_of_a_centre_crop(folders):
    image = np.zeros((16, 16, 3), np.uint8)
    image[5:11, 5:11] = 255
    for side in ("input", "target"):
        cv2.imwrite(str(folders / "val" / side / "scene0_0.png"), image)
    for hold_out in (0.0, 0.1):
        data = make(settings_for(folders, "TRAINING.VAL_PS", 6, "TRAINING.HOLD_OUT", hold_out))
        assert data.validation[0][0].shape == (3, 6, 6)
    data = make(settings_for(folders, "TRAINING.VAL_PS", 6))
    assert all((part == 255).all() for part in data.validation[0][:2])
    assert make(settings_for(folders, "TRAINING.VAL_PS", 64)).validation[0][0].shape == (3, 16, 16)


def test_missing_folders_are_searched_in_else_in(folders):
    missing = ["TRAINING.TRAIN_DIR", "/nowhere/train", "TRAINING.VAL_DIR", "/nowhere/val"]
    data = make(settings_for(folders, *missing, "TRAINING.ELSE_IN", str(folders)))
    assert (len(data.training), len(data.validation)) == (12, 2)


def test_the_settings_reach_the_training_set(folders):
    options = ["TRAINING.SEED", 9, "AUGMENT.SATURATION", [0.5, 2.0], "TRAINING.ON_BROKEN", "skip"]
    training = make(settings_for(folders, *options)).training.data
    assert (training.patch, training.seed, training.saturation, training.skip_broken) == (8, 9, (0.5, 2.0), True)
    training = make(settings_for(folders)).training.data
    assert (training.seed, training.saturation, training.skip_broken) == (1234, (1.0, 1.0), False)


def test_hold_out_removes_whole_scenes_from_training(folders):
    data = make(settings_for(folders, "TRAINING.HOLD_OUT", 0.3))
    training, validation = names(data)
    assert (len(training), len(validation)) == (8, 4)
    assert not {name[:6] for name in training} & {name[:6] for name in validation}
    assert data.split == {"held_out": sorted(validation), "scene": r"scene\d"}


@pytest.mark.parametrize(
    "change", [["TRAINING.SEED", 78], ["TRAINING.HOLD_OUT", 0.6], ["TRAINING.SCENE", r"scene\d_\d+"]]
)
def test_a_resumed_run_keeps_its_split(folders, change):
    """With any of these changes, no picture moves from training to validation."""
    hold_out = ["TRAINING.HOLD_OUT", 0.3]
    first = make(settings_for(folders, *hold_out))
    assert names(make(settings_for(folders, *hold_out, *change))) != names(first)
    resumed = make(settings_for(folders, *hold_out, *change), first.split)
    assert names(resumed) == names(first)
    assert resumed.split == first.split
    assert resumed.notes == ["pairs held out: 4, of the scenes that this run has held out from its start"]
    assert resumed.validation.fingerprint() == first.validation.fingerprint()
    unchanged = make(settings_for(folders, *hold_out), first.split)
    assert unchanged.notes == []
    assert unchanged.validation.fingerprint() == first.validation.fingerprint()


def test_new_pictures_are_put_where_their_scene_is(folders):
    first = make(settings_for(folders, "TRAINING.HOLD_OUT", 0.3))
    new_name = f"{first.split['held_out'][0][:6]}_77"
    for side in ("input", "target"):
        cv2.imwrite(str(folders / "train" / side / f"{new_name}.png"), np.zeros((16, 16, 3), np.uint8))
    for side in ("input", "target"):
        cv2.imwrite(str(folders / "train" / side / "scene9_99.png"), np.zeros((16, 16, 3), np.uint8))
    resumed = make(settings_for(folders, "TRAINING.HOLD_OUT", 0.3), first.split)
    assert names(resumed) == (names(first)[0] | {"scene9_99"}, names(first)[1] | {new_name})
    resumed = make(settings_for(folders, "TRAINING.HOLD_OUT", 0.3, "TRAINING.SCENE", ".*"), first.split)
    assert names(resumed) == (names(first)[0] | {"scene9_99"}, names(first)[1] | {new_name})


def test_held_out_pairs_stay_in_the_split_while_they_are_missing_and_while_other_data_is_used(folders, tmp_path):
    hold_out = ["TRAINING.HOLD_OUT", 0.3]
    first = make(settings_for(folders, *hold_out))
    name = first.split["held_out"][0]
    moved = [(folders / "train" / side / f"{name}.png", folders / f"{side}.png") for side in ("input", "target")]
    for original, moved_path in moved:
        original.rename(moved_path)
    without_one = make(settings_for(folders, *hold_out), first.split)
    assert without_one.split == first.split
    assert any("of the 4 pairs held out, 1 are not in" in note for note in without_one.notes)
    for original, moved_path in moved:
        moved_path.rename(original)
    synthetic = make_synthetic(tmp_path, 5, first.split)
    assert synthetic.split == first.split | {"bank_seed": 5}
    resumed = make(settings_for(folders, *hold_out, "TRAINING.SEED", 78), synthetic.split)
    assert names(resumed) == names(first)


def test_a_new_input_of_a_held_out_target_is_held_out(folders):
    many = ["TRAINING.HOLD_OUT", 0.3, "TRAINING.PAIR_MANY_TO_ONE", True]
    first = make(settings_for(folders, *many))
    name = first.split["held_out"][0]
    cv2.imwrite(str(folders / "train" / "input" / f"{name}_1.png"), np.zeros((16, 16, 3), np.uint8))
    resumed = make(settings_for(folders, *many), first.split)
    assert names(resumed) == (names(first)[0], names(first)[1] | {f"{name}_1"})
    with pytest.raises(UserError, match="by order or many to one, not both"):
        make(settings_for(folders, *many, "TRAINING.PAIR_BY_ORDER", True))


def test_pairs_by_order(folders):
    (folders / "val" / "target" / "scene0_0.png").rename(folders / "val" / "target" / "z.png")
    data = make(settings_for(folders, "TRAINING.PAIR_BY_ORDER", True)).validation
    assert [pair.target.name for pair in data.data.pairs] == ["scene0_1.png", "z.png"]


def test_a_run_that_has_trained_on_all_pairs_cannot_hold_out_any(folders):
    first = make(settings_for(folders))
    hold_out = ["TRAINING.HOLD_OUT", 0.3]
    resumed = make(settings_for(folders, *hold_out), first.split)
    assert names(resumed) == names(first)
    assert "has trained on all pairs" in resumed.notes[0]
    assert resumed.split == {"held_out": []}
    with pytest.raises(UserError, match=r"has trained on all pairs.*set TRAINING.VAL_DIR"):
        make(settings_for(folders, *hold_out, "TRAINING.VAL_DIR", ""), first.split)


def test_hold_out_0_returns_the_pairs_to_training(folders):
    first = make(settings_for(folders, "TRAINING.HOLD_OUT", 0.3))
    resumed = make(settings_for(folders), first.split)
    assert len(resumed.training) == 12
    assert resumed.split == first.split | {"held_out": []}
    assert resumed.notes == ["from now on, this run also trains on the 4 pairs that it has held out so far"]


def test_a_folder_without_held_out_pairs_or_without_others_is_an_error(folders):
    with pytest.raises(UserError, match="none of the 1 pairs that this run has held out is in"):
        make(settings_for(folders, "TRAINING.HOLD_OUT", 0.3), {"held_out": ["elsewhere"]})
    all_names = [f"scene{number // 2}_{number}" for number in range(12)]
    with pytest.raises(UserError, match="there is nothing to train on"):
        make(settings_for(folders, "TRAINING.HOLD_OUT", 0.3), {"held_out": all_names})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["TRAINING.TRAIN_DIR", ""], "nothing to train on"),
        (["TRAINING.VAL_DIR", ""], "nothing to validate on: set TRAINING.VAL_DIR, or TRAINING.HOLD_OUT"),
    ],
)
def test_settings_without_data_are_an_error(folders, change, message):
    with pytest.raises(UserError, match=message):
        make(settings_for(folders, *change))


def test_data_sets_of_the_task(folders):
    data = make(settings_for(folders), training=lambda *_: Noise(), validation=lambda *_: Grey())
    assert torch.equal(data.training[2, 3][0], Noise()[2, 3][0])
    assert data.validation[0][2] == "grey"
    with pytest.raises(
        UserError, match=r"HOLD_OUT needs a data set with an attribute pairs, .* of type Noise without it"
    ):
        make(settings_for(folders, "TRAINING.HOLD_OUT", 0.3), training=lambda *_: Noise())


class Fixed(Noise):
    """Has ``pairs``, but does not read its items from them."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = [Pair(f"scene{n}", Path(f"input{n}"), Path(f"target{n}")) for n in range(10)]


def test_a_data_set_that_ignores_its_pairs_is_an_error(folders):
    with pytest.raises(UserError, match="the length of Fixed does not follow it"):
        make(settings_for(folders, "TRAINING.HOLD_OUT", 0.3), training=lambda *_: Fixed())


def make_synthetic(tmp_path, seed: int, split: dict[str, int] | None = None):
    small = ["SYNTHETIC.DEGRADATION", "noise", "SYNTHETIC.PICTURES", 2, "SYNTHETIC.PICTURE_SIZE", 32]
    small += ["SYNTHETIC.SAMPLES_PER_EPOCH", 5, "SYNTHETIC.VAL_PICTURES", 2, "TRAINING.TRAIN_PS", 16]
    small += ["SYNTHETIC.VAL_SIGMA", 5.0, "SYNTHETIC.BANK_DIR", str(tmp_path / "bank"), "TRAINING.SEED", seed]
    return make(tiny_settings(*small), split)


def test_all_generated_validation_pictures_are_degraded(tmp_path, monkeypatch):
    """Some of the training pictures are not."""
    seen_options = []
    make_degradations = datasets.make_degradations
    monkeypatch.setattr(
        datasets,
        "make_degradations",
        lambda *sigma, **options: seen_options.append(options) or make_degradations(*sigma, **options),
    )
    make_synthetic(tmp_path, 5)
    assert seen_options == [{}, {"untouched": False}]


def test_training_and_validation_use_different_generated_pictures(tmp_path):
    first = make_synthetic(tmp_path, 5)
    assert (len(first.training), len(first.validation), first.split) == (5, 2, {"bank_seed": 5})
    assert first.training[1, 0][0].shape == (3, 16, 16)
    assert first.validation[0][0].shape == (3, 32, 32)
    assert [name for _, _, name in first.validation] == ["sample_0", "sample_1"]
    assert first.description == "generated pictures (dead leaves), noise; Gaussian noise of sigma 0 to 55"
    for degraded, target, _ in first.validation:
        assert 3 < (degraded - target).std().item() * 255 < 6
        pixels = np.sort(np.rint(255 * target.numpy()).ravel())
        banks = [[np.sort(dead_leaves(seed, index, 32).ravel()) for index in range(2)] for seed in (5, 6)]
        assert [any(np.array_equal(pixels, picture) for picture in bank) for bank in banks] == [False, True]
    assert first.notes == []
    # A new run with seed 4 would validate on pictures that this run was trained on.
    resumed = make_synthetic(tmp_path, 4, first.split)
    assert np.array_equal(resumed.training.data.pictures, first.training.data.pictures)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(resumed.validation, first.validation, strict=True))
    assert resumed.split == {"bank_seed": 5}
    assert resumed.notes == ["the generated pictures are still those of seed 5, with which this run started"]
    assert not torch.equal(resumed.training[1, 0][0], first.training[1, 0][0])
