import numpy as np
import pytest

from mprnet.data.synthetic import motion_blur as module
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.motion_blur import (
    SHAKES,
    SHARP,
    Motion,
    camera_shake,
    expose,
    expose_layers,
    motion_blur,
)


def motion(seed: int, length: float, size: int = 96, turn: float = 0.0) -> Motion:
    return Motion.random(np.random.default_rng(seed), length, 24, np.array([size / 2, size / 2]), turn)


def centre_of_mass(light: np.ndarray) -> np.ndarray:
    """x and y."""
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


@pytest.mark.parametrize("degrade", [camera_shake, motion_blur])
def test_sharp_pictures_come_out_sharp_and_about_as_often_as_said(degrade):
    clean = dead_leaves(1, 0, 24)
    sharp = 0
    for seed in range(300):
        blurred, target = degrade(np.random.default_rng(seed), clean)
        sharp += np.array_equal(blurred, target)
    assert SHARP * 300 - 18 < sharp < SHARP * 300 + 25


@pytest.mark.parametrize("length", [0.5, 6.0, 20.0])
@pytest.mark.parametrize("turn", [0.0, 0.06])
def test_a_points_trail_lies_around_the_point(length, turn):
    """Centre of mass within 0.3 pixels of the sharp picture's, off the turn's centre too."""
    for seed in range(12):
        point = np.zeros((96, 96, 1), np.float32)
        point[40, 60] = 1
        trail = expose(point, motion(seed, length, turn=turn))[..., 0] if length else point
        assert trail.sum() == pytest.approx(1, rel=0.02)
        assert np.abs(centre_of_mass(trail) - [60, 40]).max() < 0.3


@pytest.mark.parametrize("length", [4.0, 20.0])
def test_ways_are_as_long_as_said(length):
    for seed in range(10):
        shifts = motion(seed, length).shifts
        assert np.hypot(*np.diff(shifts, axis=0).T).sum() == pytest.approx(length)
        assert np.abs(shifts.mean(axis=0)).max() < 1e-9


def test_a_camera_shakes_within_its_range_and_the_same_everywhere(monkeypatch):
    """Two points leave the same trail, up to noise, no longer than the longest shake's and not a point any more."""
    monkeypatch.setattr(module, "SOFT", 0)
    points = np.zeros((64, 96, 3), np.uint8)
    points[32, [24, 72]] = 255
    for seed in range(20):
        blurred, target = camera_shake(np.random.default_rng(seed), points, sharp=0.0)
        assert target is points
        light = np.maximum(blurred.astype(int) - 12, 0)[..., 1]
        left, right = light[:, :48], light[:, 48:]
        assert np.abs(left - right).max() < 40
        assert np.ptp(np.nonzero(light[:, :48])[1]) <= SHAKES[1] + 2
        assert 0 < light.max() < 240


@pytest.mark.parametrize("degrade", [camera_shake, motion_blur])
@pytest.mark.parametrize("sharp", [0.0, 1.0])
def test_targets_are_softened_as_often_as_said(degrade, sharp, monkeypatch):
    """Of the samples that nothing moves in too."""
    monkeypatch.setattr(module, "_random_object", lambda rng, clean: (clean, np.zeros(clean.shape[:2], np.float32)))
    clean = dead_leaves(1, 0, 48)
    targets = [degrade(np.random.default_rng(seed), clean, sharp)[1] for seed in range(200)]
    assert np.mean([np.array_equal(target, clean) for target in targets]) == pytest.approx(1 - module.SOFT, abs=0.1)


def test_what_is_soft_has_fur_or_none(monkeypatch):
    """Softened alone, a picture loses contrast from pixel to pixel; fur brings some, without colour, to a flat one."""
    monkeypatch.setattr(module, "SOFT", 1)
    picture, flat = dead_leaves(1, 0, 48), np.full((48, 48, 3), (90, 120, 150), np.uint8)
    for seed in range(20):
        monkeypatch.setattr(module, "FUR", 0)
        soft = camera_shake(np.random.default_rng(seed), picture, sharp=1.0)[1]
        assert np.diff(soft.astype(float), axis=1).std() < np.diff(picture.astype(float), axis=1).std()
        assert np.array_equal(camera_shake(np.random.default_rng(seed), flat, sharp=1.0)[1], flat)
        monkeypatch.setattr(module, "FUR", 1)
        furry = camera_shake(np.random.default_rng(seed), flat, sharp=1.0)[1].astype(float)
        assert 0.5 < furry.std(axis=(0, 1)).max() < 60
        assert np.abs(furry / flat.astype(float) - (furry / flat.astype(float))[:, :, :1]).max() < 0.02
        assert np.abs(furry.mean(axis=(0, 1)) / flat[0, 0] - 1).max() < 0.2


def test_light_is_conserved_away_from_borders():
    linear = np.zeros((96, 96, 3), np.float32)
    linear[32:64, 32:64] = np.random.default_rng(0).random((32, 32, 3), np.float32)
    for seed in range(6):
        exposed = expose(linear, motion(seed, 16, turn=0.05))
        assert exposed.sum() == pytest.approx(linear.sum(), rel=2e-3)


def test_without_motion_an_exposure_is_the_scene():
    linear = np.random.default_rng(0).random((32, 32, 3), np.float32)
    assert np.abs(expose(linear, motion(0, 0.0)) - linear).max() < 1e-6


def test_a_thing_moves_before_a_ground_that_stays():
    """Far from the thing the ground is untouched; what it hides all the time stays hidden."""
    ground = np.full((64, 64, 3), 0.2, np.float32)
    mask = np.zeros((64, 64), np.float32)
    mask[20:44, 20:44] = 1
    thing = np.full((64, 64, 3), 0.8, np.float32) * mask[:, :, None]
    exposed = expose_layers(ground, motion(1, 0.0), thing, mask, motion(2, 8.0, size=64))
    assert np.allclose(exposed[:8], 0.2, atol=1e-6)
    assert np.allclose(exposed[30:34, 30:34], 0.8, atol=1e-5)
    assert exposed.min() >= 0.2 - 1e-6
    assert exposed.max() <= 0.8 + 1e-6
    assert exposed.mean() == pytest.approx(0.2 + 0.6 * mask.mean(), rel=2e-3)


def test_the_target_holds_the_thing_that_moves(monkeypatch):
    """Somewhere the target is not the clean picture, and where it is, it is so exactly."""
    monkeypatch.setattr(module, "SOFT", 0)
    clean = dead_leaves(1, 2, 96)
    changed = []
    for seed in range(40):
        target = motion_blur(np.random.default_rng(seed), clean)[1]
        changed.append((target != clean).any(axis=2).mean())
    assert 0.15 < np.mean(np.array(changed) > 0) < 0.65
    assert max(changed) < 0.9


def test_blurred_and_sharp_picture_lie_on_one_another():
    """On average over samples, the best shift between them is none."""
    clean = dead_leaves(1, 5, 128)
    shifts = []
    for seed in range(30):
        blurred, target = motion_blur(np.random.default_rng(seed), clean)
        spectrum = np.fft.fft2(blurred.mean(axis=2)) * np.conj(np.fft.fft2(target.mean(axis=2)))
        peak = np.unravel_index(np.argmax(np.fft.ifft2(spectrum).real), (128, 128))
        shifts.append((np.array(peak) + 64) % 128 - 64)
    assert np.abs(np.mean(shifts, axis=0)).max() < 1


def test_encoding_undoes_linear_light():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.array_equal(module.to_grey_levels(module.to_linear(levels)), levels)
