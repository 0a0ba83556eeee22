import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

from mprnet.data.augment import random_crop, symmetry
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.degradations import NAMES, Degradation, make_degradations
from mprnet.data.synthetic.noise import gaussian_noise, random_shot_read, shot_read_noise
from mprnet.data.synthetic.pairs import SyntheticPairs, load_picture_bank


def test_a_picture_depends_only_on_seed_and_index():
    first = dead_leaves(3, 7, 64)
    np.random.default_rng(0).random(9)
    assert np.array_equal(first, dead_leaves(3, 7, 64))
    assert not np.array_equal(first, dead_leaves(3, 8, 64))
    assert not np.array_equal(first, dead_leaves(4, 7, 64))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8


def test_pictures_have_the_spectrum_of_photographs():
    """The amplitude is about proportional to 1 / frequency: slope -0.7 to -1.9 (photographs: about -0.9 to -1.5)."""
    size = 128
    spectra = [np.abs(np.fft.fft2(dead_leaves(1, i, size).mean(axis=2))) for i in range(12)]
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    bands = 2.0 ** np.arange(-6, -1.5, 0.5)
    mean = [np.mean([s[(radius >= b) & (radius < b * 2**0.5)].mean() for s in spectra]) for b in bands]
    slope = np.polyfit(np.log(bands), np.log(mean), 1)[0]
    assert -1.9 < slope < -0.7


@pytest.mark.parametrize("sigma", [0.0, 5.0, 30.0])
def test_noise_has_the_given_sigma_and_is_rounded(sigma):
    clean = np.full((200, 200, 3), 128, np.uint8)
    noisy = gaussian_noise(np.random.default_rng(1), clean, sigma)
    assert noisy.dtype == np.uint8
    assert np.std(noisy.astype(float)) == pytest.approx(sigma, abs=0.1)


def test_noise_is_clipped():
    white = np.full((50, 50, 3), 250, np.uint8)
    assert gaussian_noise(np.random.default_rng(1), white, 50).max() == 255


def test_the_eight_symmetries_are_different():
    image = np.arange(12).reshape(2, 2, 3)
    assert len({symmetry(image, k).tobytes() for k in range(8)}) == 8
    assert np.array_equal(symmetry(image, 0), image)


def test_cameras_have_weak_to_strong_noise():
    """The strength of shot noise is uniform in its logarithm. Read noise grows faster than shot noise."""
    rng = np.random.default_rng(0)
    shot, read = np.log([random_shot_read(rng) for _ in range(2000)]).T
    assert np.log(0.0002) < shot.min() < np.log(0.00022)
    assert np.log(0.027) < shot.max() < np.log(0.03)
    assert np.median(shot) == pytest.approx((np.log(0.0002) + np.log(0.03)) / 2, abs=0.15)
    slope, offset = np.polyfit(shot, read, 1)
    assert slope == pytest.approx(2.18, abs=0.05)
    assert offset == pytest.approx(1.2, abs=0.3)
    assert np.std(read - slope * shot - offset) == pytest.approx(0.26, abs=0.02)


def test_crops_have_every_position():
    rng = np.random.default_rng(0)
    crops = [random_crop(rng, 10, 12, 8) for _ in range(300)]
    assert {rows.start for rows, _ in crops} == {0, 1, 2}
    assert {columns.start for _, columns in crops} == {0, 1, 2, 3, 4}


def test_a_picture_bank_is_drawn_once(tmp_path, capfd):
    bank = load_picture_bank(tmp_path, seed=2, count=3, size=32, workers=2)
    assert bank.shape == (3, 32, 32, 3)
    assert np.array_equal(bank[1], dead_leaves(2, 1, 32))
    (file,) = tmp_path.iterdir()
    assert capfd.readouterr().err == f"drawing 3 pictures, once, into {file}\n"
    written = file.stat().st_mtime_ns
    load_picture_bank(tmp_path, seed=2, count=3, size=32, workers=2)
    assert capfd.readouterr().err == ""
    assert file.stat().st_mtime_ns == written


def test_other_processes_wait_for_the_picture_bank(tmp_path):
    with ThreadPoolExecutor(1) as another:
        waiting = another.submit(load_picture_bank, tmp_path, seed=2, count=3, size=32, workers=0)
        bank = load_picture_bank(tmp_path, seed=2, count=3, size=32, workers=1)
        assert np.array_equal(waiting.result(timeout=60), bank)


def test_items_depend_only_on_seed_epoch_and_index():
    pictures = np.stack([dead_leaves(1, i, 48) for i in range(2)])
    make = lambda seed: SyntheticPairs(pictures, make_degradations("noise", (20, 20)), 9, 32, seed)  # noqa: E731
    first, second = make(1), make(1)
    second[3, 5]
    for a, b in zip(first[2, 4], second[2, 4], strict=True):
        assert a.shape == (3, 32, 32)
        assert a.equal(b)
    assert not first[2, 4][0].equal(first[3, 4][0])
    assert not first[2, 4][0].equal(make(2)[2, 4][0])
    degraded, clean = first[1, 1]
    assert [image.dtype for image in first.read_sample((1, 1))] == [torch.uint8] * 2
    assert (255 * degraded).round().equal(255 * degraded)
    assert 10 < 255 * (degraded - clean).std() < 21


def test_shot_and_read_noise_have_the_variance_of_the_model():
    """The variance is shot * raw + read, and the mean is the signal."""
    shot, read = 0.01, 4e-4
    for raw in (0.0, 0.02, 0.3, 0.9):
        counted = shot_read_noise(np.random.default_rng(1), np.full((400, 400), raw, np.float32), shot, read)
        assert counted.mean() == pytest.approx(raw, abs=1e-3)
        assert counted.var() == pytest.approx(shot * raw + read, rel=0.03)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (8, 8), (33, 20)])
def test_every_degradation_works_at_any_size(name, shape):
    (degradation,) = make_degradations(name, (0, 55))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        clean = rng.integers(0, 256, (*shape, 3), np.uint8)
        for image in degradation.apply(rng, clean):
            assert image.shape == clean.shape
            assert image.dtype == np.uint8


def _sample(name: str, key: tuple[int, int]) -> list[np.ndarray]:
    pictures = np.stack([dead_leaves(1, i, 64) for i in range(2)])
    pair = SyntheticPairs(pictures, make_degradations(name, (0, 55)), 9, 32, 5)[key]
    return [tensor.numpy() for tensor in pair[:2]]


@pytest.mark.parametrize("name", [*NAMES, "noise, camera_noise"])
def test_samples_are_the_same_in_another_process(name):
    keys = [(1, 2), (7, 0), (7, 8)]
    with ProcessPoolExecutor(1) as pool:
        from_other_process = list(pool.map(partial(_sample, name), keys))
    for key, expected in zip(keys, from_other_process, strict=True):
        result = _sample(name, key)
        assert result[0].shape == result[1].shape == (3, 32, 32)
        assert np.array_equal(result, expected)


def test_all_degradations_are_drawn_equally_often():
    marks = [Degradation(lambda rng, clean, mark=mark: (np.full_like(clean, mark), clean)) for mark in (3, 4, 5)]
    pairs = SyntheticPairs(dead_leaves(1, 0, 32)[None], marks, 60, 32, 0)
    drawn = [round(255 * pairs[0, i][0].max().item()) for i in range(60)]
    assert {mark: 10 < drawn.count(mark) < 30 for mark in set(drawn)} == {3: True, 4: True, 5: True}


def test_degradations_get_a_margin_around_the_crop():
    """The margin is cut off after the degradation."""
    shapes = []

    def record_shape(rng, clean):
        shapes.append(clean.shape)
        return clean, clean

    pictures = np.stack([dead_leaves(1, 0, 64)])
    assert SyntheticPairs(pictures, [Degradation(record_shape, margin=8)], 1, 32, 0)[0, 0][0].shape == (3, 32, 32)
    assert SyntheticPairs(pictures, [Degradation(record_shape, margin=8)], 1, 56, 0)[0, 0][0].shape == (3, 56, 56)
    assert shapes == [(48, 48, 3), (64, 64, 3)]


def test_data_sets_can_be_pickled_without_the_pictures_of_a_bank(tmp_path):
    """Processes that are not forked get a pickled data set. It has the file name of a bank, not its pixels."""
    bank = load_picture_bank(tmp_path, seed=2, count=8, size=64, workers=1)
    for pictures in (bank, bank[4:], np.array(bank)):
        data = SyntheticPairs(pictures, make_degradations(", ".join(NAMES), (0, 55)), 4, 16, seed=5)
        sent = pickle.dumps(data)
        assert len(sent) < 5000 or pictures is not bank
        for key in [(1, 0), (1, 3), (2, 1)]:
            for a, b in zip(data[key], pickle.loads(sent)[key], strict=True):
                assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["processed_noise", "rain", "camera_shake", "motion_blur"])
def test_with_untouched_false_every_image_is_degraded(name):
    picture = np.full((64, 64, 3), 100, np.uint8)
    picture[::2, ::3] = 30
    (degradation,) = make_degradations(name, (0, 55), untouched=False)
    for seed in range(40):
        degraded, target = degradation.apply(np.random.default_rng(seed), picture)
        assert not np.array_equal(degraded, target)
