import numpy as np
import pytest

from mprnet.data.synthetic import rain as rain_module
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.rain import DRY, add_streaks, rain, random_streaks


def test_the_share_of_pictures_without_rain():
    clean = dead_leaves(1, 0, 32)
    dry = 0
    for seed in range(400):
        rainy, target = rain(np.random.default_rng(seed), clean)
        assert np.array_equal(target, clean)
        dry += np.array_equal(rainy, clean)
    # In so small a picture, light rain may have no streak.
    assert DRY * 400 - 25 < dry < DRY * 400 + 60


@pytest.mark.parametrize("screen", [True, False])
def test_streaks_never_darken(screen):
    rng = np.random.default_rng(2)
    scene = dead_leaves(1, 1, 64) / np.float32(255)
    for heaviness in (0.0, 0.5, 1.0):
        light = random_streaks(rng, 64, 64, heaviness)
        assert light.min() >= 0
        wet = add_streaks(scene, light[:, :, None], screen)
        assert (wet >= scene - 1e-6).all()
        assert wet.max() <= 1


def test_heavier_rain_is_brighter_and_covers_more():
    means, covered = [], []
    for heaviness in (0.0, 0.5, 1.0):
        layers = [random_streaks(np.random.default_rng(k), 96, 96, heaviness) for k in range(30)]
        means.append(np.mean(layers))
        covered.append(np.mean([(layer > 0.05).mean() for layer in layers]))
    assert means[0] < means[1] < means[2]
    assert covered[0] < 0.15
    assert covered[2] > 0.35


def test_streaks_have_the_direction_of_the_layer():
    """Neighbours along the direction are similar, those across it are not."""
    for kind in (rain_module._draw_streaks, rain_module._smear_drops):
        layer = rain_module._Layer(angle=0, length=24, width=0.5, density=0.004, brightness=0.6, spread=0)
        light = kind(np.random.default_rng(0), 128, 128, layer)
        down = np.corrcoef(light[8:].ravel(), light[:-8].ravel())[0, 1]
        across = np.corrcoef(light[:, 8:].ravel(), light[:, :-8].ravel())[0, 1]
        assert down > 0.35 > across + 0.2
        assert 0.3 < light.max() <= 1


def test_blurring_keeps_the_sum_and_the_centre_of_a_drop():
    drop = np.zeros((61, 61), np.float32)
    drop[30, 30] = 1
    smeared = rain_module._blur_along(drop, 0.3, 20)
    assert smeared.sum() == pytest.approx(1, rel=1e-3)
    y, x = np.mgrid[:61, :61]
    assert (smeared * y).sum() == pytest.approx(30, abs=0.1)
    assert (smeared * x).sum() == pytest.approx(30, abs=0.1)
    rows = np.flatnonzero(smeared.sum(axis=1) > 0.01)
    assert 17 <= np.ptp(rows) <= 24
