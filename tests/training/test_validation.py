"""Validation: its PSNR values, its pictures, and when it happens."""

import math

import cv2
import numpy as np
import pytest
import torch

from mprnet import AblationMPRNet, MPRNet, UserError
from mprnet.inference import memory
from mprnet.training import validation
from mprnet.training.validation import is_validation_epoch, validate, validation_steps
from training.runs import ONE_PROCESS, tiny_settings


def make_network(value: float) -> MPRNet:
    """Return a network whose output is ``value`` in every pixel, for any input."""
    model = AblationMPRNet(4, 2, 3, num_cab=1, reduction=2, sam=False, csff=False, subnetworks=["orsnet"])

    def forward(image, stages=None, grid=None):
        return [torch.full_like(image, value)]

    model.forward = forward
    return model


class Broken(list):
    def __getitem__(self, index):
        if index == 1:
            raise UserError("1.png: broken")
        return super().__getitem__(index)


def make_pair(degraded: float, target: float, name: str = "a", height: int = 9, width: int = 13):
    return torch.full((3, height, width), degraded), torch.full((3, height, width), target), name


def mean_psnr(*differences: float) -> float:
    """Return the mean PSNR of images whose pixels all differ from their targets by these differences."""
    return sum(-20 * math.log10(abs(d)) for d in differences) / len(differences)


def run(pairs, tmp_path, value=0.5, save_images=False, skip_broken=False, world=ONE_PROCESS):
    return validate(make_network(value), pairs, world, tmp_path, save_images, skip_broken)


def test_the_result_is_the_mean_of_the_images_psnr(tmp_path):
    before, after = run([make_pair(0.2, 0.3), make_pair(0.5, 0.7)], tmp_path)
    assert before == pytest.approx(mean_psnr(0.1, 0.2), abs=1e-4)
    assert after == pytest.approx(mean_psnr(0.2, 0.2), abs=1e-4)


@pytest.mark.parametrize(("value", "clamped"), [(1.7, 1.0), (-0.4, 0.0)])
def test_outputs_are_clamped(tmp_path, value, clamped):
    assert run([make_pair(0.2, 0.3)], tmp_path, value)[1] == pytest.approx(mean_psnr(clamped - 0.3), abs=1e-4)


def test_an_image_without_error_counts_as_100_db(tmp_path):
    assert run([make_pair(0.5, 0.5)], tmp_path) == (100.0, 100.0)


def test_a_result_that_is_not_finite_makes_the_mean_nan(tmp_path):
    before, after = run([make_pair(0.2, 0.3)], tmp_path, value=math.nan)
    assert before == pytest.approx(20, abs=1e-4)
    assert math.isnan(after)


def test_too_little_memory_is_an_error(tmp_path, monkeypatch):
    def run_out(*arguments: object) -> float:
        raise MemoryError

    monkeypatch.setattr(validation, "psnr", run_out)
    with pytest.raises(UserError, match=r"not enough memory to validate a: set TRAINING\.VAL_PS"):
        run([make_pair(0.2, 0.3)], tmp_path)


def test_the_images_are_divided_among_the_processes(tmp_path):
    class Second:
        rank, size, is_main, device = 1, 2, False, torch.device("cpu")

        def all_reduce(self, *values):
            return [value + other for value, other in zip(values, (20.0, 30.0, 1.0), strict=True)]

    pairs = [make_pair(0.0, 1.0), make_pair(0.2, 0.3)]
    before, after = run(pairs, tmp_path, world=Second())
    assert before == pytest.approx((20 + 20) / 2, abs=1e-4)
    assert after == pytest.approx((30 + mean_psnr(0.2)) / 2, abs=1e-4)
    assert not list(tmp_path.iterdir())


def test_broken_pairs_are_an_error_or_are_skipped(tmp_path, capsys):
    pairs = Broken([make_pair(0.2, 0.3)] * 3)
    with pytest.raises(UserError, match=r"1\.png: broken"):
        run(pairs, tmp_path)
    assert run(pairs, tmp_path, skip_broken=True)[0] == pytest.approx(20, abs=1e-4)
    assert "skipped: 1.png: broken" in capsys.readouterr().err
    pairs = Broken([make_pair(0.2, 0.3)] * 2)
    pairs.pop(0)
    with pytest.raises(UserError, match="none of the validation pairs can be read"):
        run(type("AllBroken", (Broken,), {"__getitem__": lambda self, index: Broken.__getitem__(self, 1)})(pairs),
            tmp_path, skip_broken=True)  # fmt: skip


def test_validation_png_and_with_save_images_all_results(tmp_path):
    run([make_pair(0.2, 0.8, f"name{n}") for n in range(6)], tmp_path, save_images=True)
    sheet = cv2.imread(str(tmp_path / "validation.png"))
    assert sheet.shape == (4 * (9 + 4), 3 * (13 + 4), 3)  # four rows of three images, each with its margin
    row = sheet[4, [4, 17 + 4, 34 + 4, 16], 0]
    assert row.tolist() == [51, 128, 204, 255]
    assert sorted(path.name for path in (tmp_path / "validation").iterdir()) == [f"name{n}.png" for n in range(6)]
    assert np.array_equal(cv2.imread(str(tmp_path / "validation" / "name5.png")), np.full((9, 13, 3), 128))


def test_images_that_do_not_fit_in_memory_are_restored_in_tiles(tmp_path, tiny, monkeypatch):
    """The tiles are as large as possible, and PSNR is that of whole images."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(*torch.rand(2, 3, 400, 600, generator=generator), "a")]
    whole = validate(tiny, pairs, ONE_PROCESS, tmp_path, False)
    sizes = []
    tiny.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(inputs[0].shape[2:])))
    monkeypatch.setattr(memory, "free_memory", lambda device, limit=None: 2**27 + 2**26)
    monkeypatch.setattr(memory, "trim", lambda: None)
    tiles = validate(tiny, pairs, ONE_PROCESS, tmp_path, False)
    assert tiles == pytest.approx(whole, abs=1e-3)
    assert (400, 600) not in sizes
    assert {max(size) for size in sizes} >= {320}


def test_which_epochs_are_validated():
    training = tiny_settings("TRAINING.VAL_AFTER_EVERY", 3).TRAINING
    assert [epoch for epoch in range(1, 10) if is_validation_epoch(training, epoch)] == [3, 6, 9]
    training.VAL_EPOCHS = [1, 4]
    assert [epoch for epoch in range(1, 10) if is_validation_epoch(training, epoch)] == [1, 4]
    training.VAL_ALL_FROM = 7
    assert [epoch for epoch in range(1, 10) if is_validation_epoch(training, epoch)] == [1, 4, 7, 8, 9]


def test_validation_steps_within_an_epoch():
    training = tiny_settings("TRAINING.VAL_AFTER_EVERY", 2, "TRAINING.VAL_TIMES", 3).TRAINING
    assert validation_steps(training, 2, 9) == {3, 6}
    assert validation_steps(training, 1, 9) == set()
    assert validation_steps(training, 2, 1) == set()
    training.VAL_TIMES = 1
    assert validation_steps(training, 2, 9) == set()


def test_inputs_are_clamped(tmp_path):
    assert run([make_pair(1.4, 0.9)], tmp_path)[0] == pytest.approx(mean_psnr(0.1), abs=1e-4)


def test_validation_png_shows_the_middle_of_large_images(tmp_path):
    degraded, target = torch.zeros(2, 3, 200, 220)
    target[:, 96:104, 106:114] = 1  # eight pixels in the very middle
    run([(degraded, target, "a")], tmp_path)
    sheet = cv2.imread(str(tmp_path / "validation.png"))
    assert sheet.shape == (192 + 4, 3 * (192 + 4), 3)
    assert (sheet[92:100, 2 * 196 + 92 : 2 * 196 + 100] == 255).all()
    assert sheet[:192, 2 * 196 : 2 * 196 + 192].sum() == 255 * 3 * 64
