"""Validation: its PSNR values, its pictures, and when it happens."""

import json
import math
import os
import signal

import cv2
import numpy as np
import pytest
import torch

from mprnet import AblationMPRNet, MPRNet, Restorer, UserError, metrics
from mprnet.data.paired import WholePairs
from mprnet.data.pairs import Pair
from mprnet.data.png import write_png
from mprnet.inference import memory
from mprnet.training.measures import choose_measures
from mprnet.training.results import Sample
from mprnet.training.samples import ValidationPairs
from mprnet.training.stopping import StopSignals
from mprnet.training.validation import Validator, group_by_size, is_validation_epoch, validation_steps
from training.runs import ONE_PROCESS, run_processes, tiny_network, tiny_settings


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


def validate(
    model, pairs, tmp_path, *overrides, world=ONE_PROCESS, measures=("rgb",), workers=0, signals=None
) -> dict[str, float] | None:
    training = tiny_settings(*overrides).TRAINING
    validator = Validator(ValidationPairs(pairs), measures, training, tmp_path, world, workers)
    try:
        return validator.validate(model, signals or StopSignals())
    finally:
        validator.close()


def run(pairs, tmp_path, value=0.5, save_images=False, skip_broken=False) -> tuple[float, float]:
    """Return the RGB PSNRs of the degraded images and of the results, whose pixels are all ``value``."""
    overrides = ["TRAINING.SAVE_IMAGES", save_images, "TRAINING.ON_BROKEN", "skip" if skip_broken else "stop"]
    psnrs = validate(make_network(value), pairs, tmp_path, *overrides)
    assert psnrs is not None
    assert set(psnrs) == {"input_psnr", "psnr"}
    return psnrs["input_psnr"], psnrs["psnr"]


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
    def run_out(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Restorer, "__call__", run_out)
    with pytest.raises(UserError, match=r"not enough memory to validate a: set TRAINING\.VAL_PS"):
        run([make_pair(0.2, 0.3)], tmp_path)


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
    whole = validate(tiny, pairs, tmp_path)
    sizes = []
    tiny.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(inputs[0].shape[2:])))
    monkeypatch.setattr(memory, "free_memory", lambda device, limit=None: 2**27 + 2**26)
    monkeypatch.setattr(memory, "trim", lambda: None)
    tiles = validate(tiny, pairs, tmp_path)
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


@pytest.mark.parametrize(
    ("own", "best_by", "chosen"),
    [
        ("rgb", "rgb", ["rgb"]),
        ("luma", "rgb", ["rgb", "luma"]),
        ("rgb", "luma", ["rgb", "luma"]),
        ("aligned", "rgb", ["rgb"]),
    ],
)
def test_which_measures_are_reported(own, best_by, chosen):
    assert choose_measures(own, best_by) == chosen


def test_luma_is_measured_as_in_the_benchmarks(tmp_path):
    """Images are rounded to 8 bits before their luma is computed."""
    generator = torch.Generator().manual_seed(0)
    degraded, target = torch.randint(0, 256, (2, 3, 12, 20), generator=generator).byte()
    psnrs = validate(make_network(0.305), [(degraded, target, "a")], tmp_path, measures=("rgb", "luma"))
    luma = [metrics.luma(image.permute(1, 2, 0).numpy()) for image in (degraded, torch.full_like(target, 78), target)]
    assert psnrs["input_luma_psnr"] == pytest.approx(metrics.psnr(luma[0], luma[2]), abs=1e-9)
    assert psnrs["luma_psnr"] == pytest.approx(metrics.psnr(luma[1], luma[2]), abs=1e-9)  # 0.305 of 255 is 77.8
    assert psnrs["psnr"] != pytest.approx(psnrs["luma_psnr"], abs=1e-3)


def record_shapes(model) -> list[tuple[int, ...]]:
    """Return a list to which each run of the network appends the shape of its batch."""
    shapes: list[tuple[int, ...]] = []

    def record(module, inputs, output) -> None:
        if inputs[0].device.type != "meta":  # runs without values only estimate the memory
            shapes.append(tuple(inputs[0].shape))

    model.register_forward_hook(record)
    return shapes


def make_random_pairs(*sizes: tuple[int, int]) -> list[tuple[torch.Tensor, torch.Tensor, str]]:
    generator = torch.Generator().manual_seed(0)
    return [(*torch.rand(2, 3, *size, generator=generator), f"n{n}") for n, size in enumerate(sizes)]


def test_pairs_of_one_size_are_restored_together_with_the_same_results(tmp_path, tiny, monkeypatch):
    """Also the pictures are the same, and validation.png shows the first pairs."""
    pairs = make_random_pairs((16, 24), (24, 16), *[(16, 24)] * 5, (24, 16))
    options = {"measures": ("rgb", "luma")}
    one_by_one = validate(tiny, pairs, tmp_path / "one", "TRAINING.SAVE_IMAGES", True, **options)
    shapes = record_shapes(tiny)
    monkeypatch.setattr(Restorer, "batch_size", lambda self, height, width: 3)
    together = validate(tiny, pairs, tmp_path / "many", "TRAINING.SAVE_IMAGES", True, **options)
    assert shapes == [(3, 3, 16, 24), (3, 3, 16, 24), (2, 3, 24, 16)]
    assert together == pytest.approx(one_by_one, abs=1e-4)
    for name in ("validation.png", *(f"validation/n{n}.png" for n in range(8))):
        images = [cv2.imread(str(tmp_path / folder / name)).astype(int) for folder in ("one", "many")]
        assert np.abs(images[0] - images[1]).max() <= 1, name


def test_an_image_that_is_not_finite_does_not_take_the_others_of_its_batch_along(tmp_path, monkeypatch):
    model = tiny_network()
    model.forward = lambda image, stages=None, grid=None: [torch.where(image > 0.8, math.nan, image)]
    monkeypatch.setattr(Restorer, "batch_size", lambda self, height, width: 3)
    pairs = [make_pair(level, 0.5, f"n{n}") for n, level in enumerate((0.3, 0.9, 0.4))]
    psnrs = validate(model, pairs, tmp_path, "TRAINING.SAVE_IMAGES", True)
    assert math.isnan(psnrs["psnr"])
    assert psnrs["input_psnr"] == pytest.approx(mean_psnr(0.2, 0.4, 0.1), abs=1e-4)
    assert sorted(path.name for path in (tmp_path / "validation").iterdir()) == ["n0.png", "n2.png"]


def test_pairs_wait_for_others_of_their_size():
    def group(*sizes: int, batch_size: int) -> list[list[int]]:
        samples = [Sample(n, *torch.zeros(2, 3, 8, side), "a") for n, side in enumerate(sizes)]
        return [[sample.number for sample in batch] for batch in group_by_size(samples, lambda *size: batch_size)]

    assert group(8, 16, 8, 8, 16, batch_size=2) == [[0, 2], [1, 4], [3]]
    assert group(8, 16, 8, batch_size=1) == [[0], [1], [2]]
    assert group(8, 16, 16, 24, batch_size=3) == [[0], [1, 2], [3]]  # what is left at the end
    assert group(batch_size=2) == []
    assert max(map(len, group(*[8] * 40, batch_size=16))) == 16
    # So many wait at the most: with more, the largest group goes.
    assert group(7, 8, 8, *range(9, 50), batch_size=9)[0] == [1, 2]


@pytest.fixture
def files(tmp_path) -> WholePairs:
    """Six pairs of PNG files; the target of the second is damaged."""
    pairs = []
    for n, (degraded, target, name) in enumerate(make_random_pairs(*[(16, 16)] * 6)):
        paths = [tmp_path / side / f"{name}.png" for side in ("input", "target")]
        for image, path in zip((degraded, target), paths, strict=True):
            write_png(path, (255 * image).byte().permute(1, 2, 0).numpy())
        if n == 1:
            paths[1].write_bytes(b"damaged")
        pairs.append(Pair(name, *paths))
    return WholePairs(pairs)


def test_workers_read_the_pairs_and_stay_until_the_end(tmp_path, tiny, files, capsys, list_children):
    alone = validate(tiny, files, tmp_path, "TRAINING.ON_BROKEN", "skip")
    assert capsys.readouterr().err.count("n1.png") == 1
    training = tiny_settings("TRAINING.ON_BROKEN", "skip").TRAINING
    validator = Validator(ValidationPairs(files), ["rgb"], training, tmp_path, ONE_PROCESS, 2)
    assert validator.validate(tiny, StopSignals()) == alone
    children = list_children()
    assert len(children) == 2
    assert validator.validate(tiny, StopSignals()) == alone
    assert list_children() == children
    validator.close()
    assert not list_children()
    assert capsys.readouterr().err.count("skipped: ") == 2


def test_a_pair_that_a_worker_cannot_read_is_an_error_with_its_name(tmp_path, tiny, files):
    with pytest.raises(UserError, match=r"^[^\n]*n1\.png[^\n]*$"):
        validate(tiny, files, tmp_path, workers=1)


class Deadly(Broken):
    def __getitem__(self, index):
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return list.__getitem__(self, index)


def test_a_worker_that_is_killed_is_an_error(tmp_path, tiny):
    with pytest.raises(UserError, match=r"was killed, .*: lower TRAINING.WORKERS \(it is 1\)"):
        validate(tiny, Deadly([make_pair(0.2, 0.3)] * 3), tmp_path, workers=1)


class Signalling(list):
    """Sends a signal to this process when the n-th pair is read."""

    number = 2

    def __getitem__(self, index):
        if index == self.number:
            signal.raise_signal(signal.SIGTERM)
        return super().__getitem__(index)


def test_a_signal_stops_the_validation_before_the_next_image(tmp_path, tiny):
    shapes = record_shapes(tiny)
    with StopSignals() as signals:
        assert validate(tiny, Signalling([make_pair(0.2, 0.3)] * 9), tmp_path, signals=signals) is None
    assert len(shapes) == 2
    with StopSignals() as signals:
        signals.number = signal.SIGTERM
        assert validate(tiny, [make_pair(0.2, 0.3)], tmp_path, signals=signals) is None
    assert not (tmp_path / "validation.png").exists()


class BrokenAt(list):
    def __getitem__(self, index):
        if index == 3:
            raise UserError("3.png: broken")
        return super().__getitem__(index)


def validate_together(world, folder) -> None:
    """Validate in several processes. Then again: one cannot read a pair; one gets a signal."""
    pairs = make_random_pairs(*[(16, 16)] * 3, (24, 16), (16, 24))
    network, mine = tiny_network(), folder / f"rank{world.rank}"
    found = {"psnrs": validate(network, pairs, mine, world=world, measures=("rgb", "luma"))}
    try:
        validate(network, BrokenAt(pairs), mine, world=world)
    except UserError as error:
        found["broken"] = str(error)
    with StopSignals() as signals:
        found["stopped"] = validate(network, Signalling(pairs), mine, world=world, signals=signals)
    found["own signal"] = signals.number is not None
    (folder / f"{world.rank}.json").write_text(json.dumps(found))


@pytest.mark.processes
def test_several_processes_share_the_pairs_and_stop_together(tmp_path):
    assert run_processes(2, tmp_path, validate_together, tmp_path) == [0, 0]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    pairs = make_random_pairs(*[(16, 16)] * 3, (24, 16), (16, 24))
    expected = validate(tiny_network(), pairs, tmp_path, measures=("rgb", "luma"))
    assert first["psnrs"] == second["psnrs"] == pytest.approx(expected, abs=1e-9)
    assert second["broken"] == "3.png: broken"
    assert first["broken"] == "process 1 of this run: 3.png: broken"
    assert first["stopped"] is second["stopped"] is None
    assert [first["own signal"], second["own signal"]] == [True, False]
    assert (tmp_path / "rank0" / "validation.png").exists()
    assert not (tmp_path / "rank1").exists()
