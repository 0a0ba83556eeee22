"""Training crops and validation pictures."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset

from mprnet import UserError
from mprnet.data.augment import saturate, symmetry
from mprnet.data.folders import resolve_folder
from mprnet.data.paired import (
    PairedPictures,
    get_test_data,
    get_training_data,
    get_validation_data,
    pad_to,
)
from mprnet.data.pairs import Pair
from mprnet.data.scenes import find_scene, split_by_scene
from mprnet.data.tensors import as_float


def coordinates_image(height: int, width: int, offset: int = 0) -> np.ndarray:
    """An image whose channels are each pixel's row, its column, and ``offset``."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.dstack([rows, columns, np.full((height, width), offset)]).astype(np.uint8)


def write_rgb(path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[:, :, ::-1])


@pytest.fixture
def folder(tmp_path):
    """Three pairs of 20x30 pixels; the blue channel is 100 in inputs and 200 in targets."""
    for index in range(3):
        write_rgb(tmp_path / "input" / f"{index}.png", coordinates_image(20, 30, 100))
        write_rgb(tmp_path / "target" / f"{index}.png", coordinates_image(20, 30, 200))
    return tmp_path


def to_bytes(image: torch.Tensor) -> np.ndarray:
    return (255 * image).round().numpy().astype(np.uint8)


def test_input_and_target_get_the_same_crop_and_symmetry(folder):
    """All positions and all symmetries occur, the same for both."""
    data = get_training_data(folder, {"patch_size": 8, "seed": 3})
    whole = coordinates_image(20, 30)
    positions, seen = set(), Counter()
    for epoch in range(400):
        degraded, target = (to_bytes(image) for image in data[epoch, epoch % 3])
        assert np.array_equal(degraded[:2], target[:2])
        assert (degraded[2] == 100).all()
        assert (target[2] == 200).all()
        top, left = int(degraded[0].min()), int(degraded[1].min())
        crop = whole[top : top + 8, left : left + 8]
        numbers = [w for w in range(8) if np.array_equal(symmetry(crop, w)[:, :, :2], degraded[:2].transpose(1, 2, 0))]
        assert len(numbers) == 1
        positions.add((top, left))
        seen[numbers[0]] += 1
    assert {top for top, _ in positions} == set(range(13))
    assert {left for _, left in positions} == set(range(23))
    assert set(seen) == set(range(8))
    assert min(seen.values()) > 25  # of 50 on average


def test_items_depend_only_on_seed_epoch_and_index(folder):
    first, second, other = (get_training_data(folder, {"patch_size": 8, "seed": seed}) for seed in (3, 3, 4))
    second[5, 1]
    assert torch.equal(first[2, 1][0], second[2, 1][0])
    for different in (first[3, 1], first[2, 2], other[2, 1]):
        assert not torch.equal(first[2, 1][0], different[0])


def test_without_an_epoch_pytorchs_generator_draws_it(folder):
    data = ConcatDataset([get_training_data(folder, {"patch_size": 8})] * 2)
    torch.manual_seed(0)
    first = data[4][0]
    assert not torch.equal(data[4][0], first)
    torch.manual_seed(0)
    assert torch.equal(data[4][0], first)
    assert len(data) == 6


def test_samples_are_the_items_as_bytes_unless_their_saturation_is_multiplied(folder):
    plain = get_training_data(folder, {"patch_size": 8})
    jittered = get_training_data(folder, {"patch_size": 8, "saturation": (0.5, 1.5)})
    for data, expected in ((plain, {torch.uint8}), (jittered, {torch.uint8, torch.float32})):
        found = set()
        for epoch in range(20):
            sample = data.read_sample((epoch, 1))
            found.add(sample[0].dtype)
            assert sample[0].dtype == sample[1].dtype
            assert all(torch.equal(as_float(a), b) for a, b in zip(sample, data[epoch, 1], strict=True))
        assert found == expected


def test_a_third_of_the_samples_get_another_saturation(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(60, 190, (8, 8, 3), np.uint8) for _ in range(2)]
    for side, image in zip(("input", "target"), images, strict=True):
        write_rgb(tmp_path / side / "0.png", image)
    data = get_training_data(tmp_path, {"patch_size": 8, "saturation": (0.5, 1.5)})
    plain = get_training_data(tmp_path, {"patch_size": 8})
    changed, factors = 0, []
    for epoch in range(300):
        sides = list(zip(data[epoch, 0], plain[epoch, 0], strict=True))
        if torch.equal(*sides[0]):
            assert torch.equal(*sides[1])
            continue
        changed += 1
        jittered, original = (image.permute(1, 2, 0).numpy() for image in sides[0])
        grey = original @ np.array([0.299, 0.587, 0.114], np.float32)
        far = np.abs(original - grey[..., None]) > 0.1
        factor = np.median(((jittered - grey[..., None]) / (original - grey[..., None]))[far])
        factors.append(factor)
        for image, before in sides:
            expected = saturate(before.permute(1, 2, 0).numpy(), factor)
            np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected, atol=2e-3)
    assert 70 < changed < 130
    assert 0.5 <= min(factors) < 0.6
    assert 1.4 < max(factors) <= 1.5


def test_small_pictures_are_padded_by_reflection(tmp_path):
    for side in ("input", "target"):
        write_rgb(tmp_path / side / "0.png", coordinates_image(5, 12))
    (degraded, _) = get_training_data(tmp_path, {"patch_size": 8})[1, 0]
    rows = sorted(int(value) for value in np.unique(to_bytes(degraded)[0]))
    assert rows == [0, 1, 2, 3, 4]
    assert degraded.shape == (3, 8, 8)
    padded = pad_to(coordinates_image(5, 12), 8)
    assert padded[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert padded.shape == (8, 12, 3)
    assert pad_to(coordinates_image(1, 1), 3)[:, :, 0].tolist() == [[0] * 3] * 3
    assert pad_to(coordinates_image(2, 9), 7)[:, 3, 0].tolist() == [0, 1, 0, 1, 0, 1, 0]
    same = coordinates_image(9, 9)
    assert pad_to(same, 9) is same


def test_broken_pairs_raise_an_error_or_are_skipped(folder, capsys):
    (folder / "input" / "1.png").write_text("no picture")
    with pytest.raises(UserError, match=r"1\.png"):
        get_training_data(folder, {"patch_size": 8})[1, 1]
    data = get_training_data(folder, {"patch_size": 8, "skip_broken": True})
    assert data[1, 1][0].shape == (3, 8, 8)
    assert "skipped: " in capsys.readouterr().err
    for index in (0, 2):
        (folder / "input" / f"{index}.png").write_text("no picture")
    with pytest.raises(UserError, match="none of the pairs can be read"):
        data[1, 2]


def test_pairs_of_different_sizes_raise_a_clear_error(folder):
    write_rgb(folder / "target" / "1.png", coordinates_image(20, 31))
    with pytest.raises(UserError, match=r"1\.png are of different sizes, 30x20 and 31x20"):
        get_training_data(folder, {"patch_size": 8})[1, 1]


@pytest.mark.parametrize(
    ("patch", "rows", "columns"), [(0, (0, 20), (0, 30)), (8, (6, 14), (11, 19)), (24, (0, 20), (3, 27))]
)
def test_validation_returns_whole_pictures_or_their_centres(folder, patch, rows, columns):
    data = get_validation_data(folder, {"patch_size": patch})
    assert len(data) == 3
    degraded, target, name = data[2]
    assert name == "2"
    expected = coordinates_image(20, 30)[slice(*rows), slice(*columns)].transpose(2, 0, 1)
    assert np.array_equal(to_bytes(degraded)[:2], expected[:2])
    assert np.array_equal(to_bytes(target)[:2], expected[:2])
    assert (int(to_bytes(degraded)[2, 0, 0]), int(to_bytes(target)[2, 0, 0])) == (100, 200)


def test_an_odd_border_is_smaller_at_the_top_left(tmp_path):
    for side in ("input", "target"):
        write_rgb(tmp_path / side / "0.png", coordinates_image(7, 7))
    degraded = to_bytes(get_validation_data(tmp_path, {"patch_size": 4})[0][0])
    assert (degraded[0].min(), degraded[0].max()) == (1, 4)


def test_test_data_has_no_targets(folder):
    data = get_test_data(folder / "input")
    assert (len(data), data[1][1]) == (3, "1")
    assert np.array_equal(to_bytes(data[1][0]).transpose(1, 2, 0), coordinates_image(20, 30, 100))


def test_orphans_are_printed_and_listed(folder, capsys):
    (folder / "target" / "1.png").unlink()
    for data in (get_training_data(folder, {"patch_size": 8}), get_validation_data(folder, {})):
        assert [pair.name for pair in data.pairs] == ["0", "2"]
        assert data.orphans == [folder / "input" / "1.png"]
    assert capsys.readouterr().err.count("note: 1 pictures have no partner") == 2
    assert PairedPictures(data.pairs, 8, 0).orphans == []


def test_resolve_folder_looks_at_the_path_and_then_elsewhere(tmp_path):
    for name in ("a/train", "b/train", "b/test/X"):
        (tmp_path / name).mkdir(parents=True)
    assert resolve_folder(tmp_path / "a/train", tmp_path / "b") == tmp_path / "a/train"
    assert resolve_folder(tmp_path / "c/train", tmp_path / "b") == tmp_path / "b/train"
    assert resolve_folder(tmp_path / "c/test/X", tmp_path / "b") == tmp_path / "b/test/X"
    assert resolve_folder(tmp_path / "c/none", tmp_path / "b") == tmp_path / "c/none"
    assert resolve_folder(tmp_path / "c/train", "") == tmp_path / "c/train"


def pairs_named(*names: str) -> list[Pair]:
    return [Pair(name, Path("input", name), Path("target", name)) for name in names]


def test_whole_scenes_with_about_the_given_part_are_held_out():
    pairs = pairs_named(*(f"s{scene}_{number}" for scene in range(10) for number in range(4)))
    for part, count in ((0.01, 4), (0.1, 4), (0.11, 8), (0.5, 20), (0.99, 36)):
        train, held_out = split_by_scene(pairs, part, r"s\d", seed=1)
        assert (len(train), len(held_out)) == (40 - count, count)
        assert sorted(p.name for p in train + held_out) == sorted(p.name for p in pairs)
        assert not {p.name[:2] for p in train} & {p.name[:2] for p in held_out}
    draws = {tuple(p.name for p in split_by_scene(pairs, 0.3, r"s\d", seed)[1]) for seed in range(5)}
    assert len(draws) > 1


def test_scenes_that_share_a_target_are_joined():
    """A1 and B1 share a target. So scenes A and B are on the same side, whichever is held out."""
    pairs = [Pair(name, Path(name), Path(f"target{name[1]}")) for name in ("A1", "B1", "C3", "D4")]
    pairs.append(Pair("B2", Path("B2"), Path("target2")))
    for seed in range(6):
        sides = [{pair.name for pair in side} for side in split_by_scene(pairs, 0.2, "[A-D]", seed)]
        assert any({"A1", "B1", "B2"} <= side for side in sides)


def test_two_scenes_are_enough():
    train, held_out = split_by_scene(pairs_named("s0_0", "s1_0"), 0.1, r"s\d", 0)
    assert (len(train), len(held_out)) == (1, 1)


@pytest.mark.parametrize(
    ("scene", "sentence"),
    [("x", r"TRAINING.SCENE 'x' does not match the name s0_0"), ("s", "needs at least two scenes")],
)
def test_unknown_or_too_few_scenes_raise_a_clear_error(scene, sentence):
    with pytest.raises(UserError, match=sentence):
        split_by_scene(pairs_named("s0_0", "s1_0"), 0.1, scene, 0)


@pytest.mark.parametrize(
    ("scene", "name"), [(r"\w+?_", "one1_"), (r"(\w+?)_", "one1"), (r"(x)|one(\d)", "1"), (".*", "one1_3")]
)
def test_a_scene_is_the_match_or_its_first_matching_group(scene, name):
    assert find_scene(*pairs_named("one1_3"), scene) == name


def test_resolve_folder_prefers_two_matching_names(tmp_path):
    for name in ("b/test/X", "b/X"):
        (tmp_path / name).mkdir(parents=True)
    assert resolve_folder(tmp_path / "c/test/X", tmp_path / "b") == tmp_path / "b/test/X"


def test_held_out_pairs_do_not_depend_on_the_order():
    pairs = pairs_named(*(f"s{scene}_{number}" for scene in range(10) for number in range(2)))
    first, second = ({pair.name for pair in split_by_scene(order, 0.3, r"s\d", 4)[1]} for order in (pairs, pairs[::-1]))
    assert first == second
    assert [pair.name for pair in split_by_scene(pairs, 0.3, r"s\d", 4)[1]] == sorted(first)
    with pytest.raises(UserError, match="does not match the name"):
        split_by_scene(pairs, 0.3, r"\d", 4)  # the expression matches inside the name, but not at its start
