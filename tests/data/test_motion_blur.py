import numpy as np
import pytest

from mprnet.data.synthetic import motion_blur as module
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.exposure import GAMMA, Motion, expose, expose_layers, to_grey_levels, to_linear
from mprnet.data.synthetic.motion_blur import SHAKES, SHARP, camera_shake, motion_blur


def motion(seed: int, length: float, size: int = 96, turn: float = 0.0) -> Motion:
    return Motion.random(np.random.default_rng(seed), length, 24, np.array([size / 2, size / 2]), turn)


def centre_of_mass(light: np.ndarray) -> np.ndarray:
    """Return x and y."""
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


@pytest.mark.parametrize("degrade", [camera_shake, motion_blur])
def test_the_share_of_pictures_without_motion(degrade):
    clean = dead_leaves(1, 0, 24)
    sharp = 0
    for seed in range(300):
        blurred, target = degrade(np.random.default_rng(seed), clean)
        sharp += np.array_equal(blurred, target)
    assert SHARP * 300 - 18 < sharp < SHARP * 300 + 25


@pytest.mark.parametrize("length", [0.5, 6.0, 20.0])
@pytest.mark.parametrize("turn", [0.0, 0.06])
def test_the_trail_of_a_point_is_centred_at_the_point(length, turn):
    """The centre of mass is within 0.3 pixels of the point, also away from the centre of rotation."""
    for seed in range(12):
        point = np.zeros((96, 96, 1), np.float32)
        point[40, 60] = 1
        trail = expose(point, motion(seed, length, turn=turn))[..., 0] if length else point
        assert trail.sum() == pytest.approx(1, rel=0.02)
        assert np.abs(centre_of_mass(trail) - [60, 40]).max() < 0.3


@pytest.mark.parametrize("length", [4.0, 20.0])
def test_paths_have_the_given_length(length):
    for seed in range(10):
        shifts = motion(seed, length).shifts
        assert np.hypot(*np.diff(shifts, axis=0).T).sum() == pytest.approx(length)
        assert np.abs(shifts.mean(axis=0)).max() < 1e-9


def test_camera_shake_is_the_same_everywhere_and_within_its_range(monkeypatch):
    """Two points have the same trail, up to noise. It is longer than a point, and not longer than the longest shake."""
    for share in ("SOFT", "NOISY", "JPEG"):
        monkeypatch.setattr(module, share, 0)
    points = np.zeros((64, 96, 3), np.uint8)
    points[32, [24, 72]] = 255
    for seed in range(20):
        blurred, target = camera_shake(np.random.default_rng(seed), points, sharp=0.0)
        assert target is points
        light = np.maximum(blurred.astype(int) - 12, 0)[..., 1]
        left, right = light[:, :48], light[:, 48:]
        assert np.abs(left - right).max() < 40
        assert np.ptp(np.nonzero(light[:, :48])[1]) <= 2 * SHAKES[1] + 2
        assert 0 < light.max() < 240


@pytest.mark.parametrize("degrade", [camera_shake, motion_blur])
@pytest.mark.parametrize("sharp", [0.0, 1.0])
def test_the_share_of_softened_targets(degrade, sharp, monkeypatch):
    """Samples without motion are softened, too."""
    monkeypatch.setattr(module, "_random_object", lambda rng, clean: (clean, np.zeros(clean.shape[:2], np.float32)))
    clean = dead_leaves(1, 0, 48)
    targets = [degrade(np.random.default_rng(seed), clean, sharp)[1] for seed in range(200)]
    assert np.mean([np.array_equal(target, clean) for target in targets]) == pytest.approx(1 - module.SOFT, abs=0.1)


def test_softened_pictures_with_and_without_fur(monkeypatch):
    """Softening lowers the contrast between neighbours; fur adds contrast to a flat picture, but no colour."""
    monkeypatch.setattr(module, "SOFT", 1)
    monkeypatch.setattr(module, "SHARPENED", 0)
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


def test_an_exposure_without_motion_is_the_scene():
    linear = np.random.default_rng(0).random((32, 32, 3), np.float32)
    assert np.abs(expose(linear, motion(0, 0.0)) - linear).max() < 1e-6


def test_an_object_moves_in_front_of_a_still_background():
    """Far from the object, the background is unchanged. Where the object is in all frames, it hides the background."""
    background = np.full((64, 64, 3), 0.2, np.float32)
    mask = np.zeros((64, 64), np.float32)
    mask[20:44, 20:44] = 1
    moving = np.full((64, 64, 3), 0.8, np.float32) * mask[:, :, None]
    exposed = expose_layers(background, motion(1, 0.0), moving, mask, motion(2, 8.0, size=64))
    assert np.allclose(exposed[:8], 0.2, atol=1e-6)
    assert np.allclose(exposed[30:34, 30:34], 0.8, atol=1e-5)
    assert exposed.min() >= 0.2 - 1e-6
    assert exposed.max() <= 0.8 + 1e-6
    assert exposed.mean() == pytest.approx(0.2 + 0.6 * mask.mean(), rel=2e-3)


def test_the_target_contains_the_moving_object(monkeypatch):
    """Some targets differ from the clean picture, but never everywhere."""
    monkeypatch.setattr(module, "SOFT", 0)
    clean = dead_leaves(1, 2, 96)
    changed = []
    for seed in range(40):
        target = motion_blur(np.random.default_rng(seed), clean)[1]
        changed.append((target != clean).any(axis=2).mean())
    assert 0.15 < np.mean(np.array(changed) > 0) < 0.65
    assert max(changed) < 0.9


def test_blurred_and_sharp_picture_are_aligned():
    """The best shift between them is 0 on average over samples."""
    clean = dead_leaves(1, 5, 128)
    shifts = []
    for seed in range(30):
        blurred, target = motion_blur(np.random.default_rng(seed), clean)
        spectrum = np.fft.fft2(blurred.mean(axis=2)) * np.conj(np.fft.fft2(target.mean(axis=2)))
        peak = np.unravel_index(np.argmax(np.fft.ifft2(spectrum).real), (128, 128))
        shifts.append((np.array(peak) + 64) % 128 - 64)
    assert np.abs(np.mean(shifts, axis=0)).max() < 1


@pytest.mark.parametrize("gamma", [1.0, GAMMA])
def test_to_grey_levels_inverts_to_linear(gamma):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.array_equal(to_grey_levels(to_linear(levels, gamma), gamma), levels)


def test_a_mean_of_light_is_brighter_than_a_mean_of_grey_levels():
    """A sensor counts the light of a bright half and a dark half."""
    halves = np.array([0, 200], np.uint8)
    means = [int(to_grey_levels(to_linear(halves, gamma).mean(keepdims=True), gamma)[0]) for gamma in (1.0, GAMMA)]
    assert means[0] == 100
    assert means[1] == round(200 * 0.5 ** (1 / 2.2))


@pytest.mark.parametrize("degrade", [camera_shake, motion_blur])
def test_the_share_of_blurred_pictures_with_jpeg_and_with_more_noise(degrade, monkeypatch):
    qualities, sigmas = [], []
    monkeypatch.setattr(module, "compress_jpeg", lambda rng, image, quality: qualities.append(quality) or image)
    monkeypatch.setattr(module, "gaussian_noise", lambda rng, image, sigma: sigmas.append(sigma) or image)
    clean = dead_leaves(1, 0, 24)
    for seed in range(200):
        degrade(np.random.default_rng(seed), clean, sharp=0.0)
    assert len(qualities) / 200 == pytest.approx(module.JPEG, abs=0.1)
    assert np.mean(np.array(sigmas) > 2) == pytest.approx(module.NOISY, abs=0.08)
    assert 70 <= min(qualities) <= max(qualities) < 98


def test_near_parts_of_a_slanted_plane_move_more_than_far_parts():
    """The trail at the centre has the length of the path; to the right, it is longer; to the left, shorter."""
    points = np.zeros((48, 97, 1), np.float32)
    points[24, [16, 48, 80]] = 1
    shifts = np.stack([np.linspace(-4, 4, 17), np.zeros(17)], axis=1)
    slanted = Motion(shifts, np.zeros(17), np.array([48.0, 24]), slant=np.array([0.02, 0]))
    trails = expose(points, slanted)[..., 0]
    lengths = [np.ptp(np.nonzero(trails[:, part].sum(axis=0) > 1e-3)[0]) for part in np.split(np.arange(96), 3)]
    assert lengths[0] < 6 < lengths[1] <= 10 < lengths[2]
    assert trails.sum() == pytest.approx(3, rel=0.02)


def test_some_scenes_have_depth(monkeypatch):
    """Some shakes move one part of the picture more than another; near, still objects move with the shake."""
    slants, ratios = [], []
    monkeypatch.setattr(module, "expose", lambda image, motion: slants.append(np.abs(motion.slant).max()) or image)

    def record(background, shake, foreground, mask, motion):
        shifts = np.abs(shake.shifts).max()
        if shifts and np.allclose(motion.shifts / np.abs(motion.shifts).max(), shake.shifts / shifts):
            ratios.append(np.abs(motion.shifts).max() / shifts)
        return background

    monkeypatch.setattr(module, "expose_layers", record)
    clean = dead_leaves(1, 0, 32)
    for seed in range(200):
        motion_blur(np.random.default_rng(seed), clean, sharp=0.0)
    assert 0.35 < np.mean(np.array(slants) > 0) < 0.65
    assert max(slants) * 32 <= 0.5
    assert len(ratios) > 8
    assert 1 <= min(ratios) < 2 < max(ratios) <= 3
