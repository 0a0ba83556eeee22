import cv2
import numpy as np
import pytest

from mprnet.data.synthetic import processed_noise as module
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.processed_noise import grain, processed_noise


def test_a_share_of_the_samples_has_no_noise_and_half_of_these_are_jpegs():
    clean = cv2.GaussianBlur(dead_leaves(1, 0, 32), (0, 0), 2)  # without the texture that JPEG loses
    pairs = [processed_noise(np.random.default_rng(seed), clean, untouched=0.5) for seed in range(300)]
    same = [degraded for degraded, target in pairs if np.array_equal(degraded, target)]
    assert 110 < len(same) < 190
    exact = sum(np.array_equal(degraded, clean) for degraded in same)
    assert 0.3 < exact / len(same) < 0.7
    assert max(np.abs(degraded.astype(int) - clean).mean() for degraded in same) < 10


def test_targets_have_no_noise():
    clean = np.full((24, 24, 3), (90, 140, 60), np.uint8)
    for seed in range(60):
        degraded, target = processed_noise(np.random.default_rng(seed), clean, untouched=0.0)
        assert np.abs(target.astype(int) - clean).max() <= 1
        assert np.ptp(degraded.astype(int), axis=(0, 1)).max() > 2


def test_resizing_sharpening_and_smoothing_change_the_target_and_jpeg_does_not():
    """Of the targets, most are the picture itself, some are softer and some are sharper."""
    clean = dead_leaves(1, 3, 48)
    targets = [processed_noise(np.random.default_rng(seed), clean, untouched=0.0)[1] for seed in range(200)]
    assert 90 < sum(np.array_equal(target, clean) for target in targets) < 160
    steps = np.array([np.abs(np.diff(target.astype(int), axis=1)).mean() for target in targets])
    own = np.abs(np.diff(clean.astype(int), axis=1)).mean()
    assert (steps < 0.95 * own).sum() > 10
    assert (steps > 1.05 * own).sum() > 5


def test_noisy_pictures_are_saved_as_jpeg_up_to_two_times(monkeypatch):
    counts, qualities = [], []

    def record(rng, image, quality):
        counts[-1] += 1
        qualities.append(quality)
        return image

    monkeypatch.setattr(module, "compress_jpeg", record)
    clean = np.full((16, 16, 3), 128, np.uint8)
    for seed in range(200):
        counts.append(0)
        processed_noise(np.random.default_rng(seed), clean, untouched=0.0)
    assert set(counts) == {0, 1, 2}
    assert counts.count(1) > 100
    assert min(qualities) >= 30
    assert max(qualities) <= 95
    assert np.percentile(qualities, 10) < 45
    assert np.percentile(qualities, 90) > 85


def test_grain_has_unit_variance_and_is_white_or_correlated():
    colours, neighbours = [], []
    for seed in range(80):
        noise = grain(np.random.default_rng(seed), 64, 64)
        assert noise.std() == pytest.approx(1, abs=0.12)
        colours.append(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1])
        neighbours.append(np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1])
    assert min(colours) < 0.1
    assert sum(0.2 < c < 0.8 for c in colours) > 5
    assert sum(c > 0.99 for c in colours) > 5
    assert 20 < sum(abs(n) < 0.07 for n in neighbours) < 70
    assert max(neighbours) > 0.5


@pytest.mark.parametrize(("power", "ratio"), [(0.0, 1.0), (0.5, 2.0), (1.0, 4.0)])
def test_shot_and_speckle_noise_grow_with_the_light(power, ratio):
    """From level 50 to level 200."""

    class FixedPower:
        def __init__(self) -> None:
            self.rng = np.random.default_rng(0)

        def choice(self, *_, **__):
            return power

        def __getattr__(self, name):
            return getattr(self.rng, name)

    dark, light = (np.full((80, 80, 3), level, np.uint8) for level in (50, 200))
    spread = [module._add_noise((image, image), FixedPower())[0].std() for image in (dark, light)]
    assert spread[1] / spread[0] == pytest.approx(ratio, rel=0.1)
