import numpy as np
import pytest

from mprnet.data.synthetic import rain as rain_module
from mprnet.data.synthetic import streaks as streaks_module
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.man_made import add_posts
from mprnet.data.synthetic.rain import DRY, POSTS, add_streaks, rain
from mprnet.data.synthetic.streaks import STYLES, Layer, draw_jagged, draw_streaks, random_streaks, smear_drops


def test_the_share_of_pictures_without_rain():
    clean = dead_leaves(1, 0, 32)
    dry = with_posts = 0
    for seed in range(400):
        rainy, target = rain(np.random.default_rng(seed), clean)
        with_posts += not np.array_equal(target, clean)
        dry += np.array_equal(rainy, target)
    # In so small a picture, light rain may have no streak.
    assert DRY * 400 - 25 < dry < DRY * 400 + 60
    # Some posts are outside of it.
    assert POSTS * 400 - 55 < with_posts < POSTS * 400 + 25


def test_posts_stand_upright_in_the_target():
    """They are about vertical, and everything else stays as it was."""
    clean = np.full((96, 96, 3), 100, np.uint8)
    down, across, covered = [], [], []
    for seed in range(60):
        changed = np.abs(add_posts(np.random.default_rng(seed), clean).astype(float) - 100).mean(axis=2)
        down.append(np.abs(np.diff(changed, axis=0)).mean())
        across.append(np.abs(np.diff(changed, axis=1)).mean())
        covered.append((changed > 2).mean())
    assert (clean == 100).all()
    assert np.mean(across) > 2.5 * np.mean(down)
    assert 0.03 < np.mean(covered) < 0.4


@pytest.mark.parametrize("mode", ["sum", "screen"])
def test_streaks_that_add_light_never_darken(mode):
    rng = np.random.default_rng(2)
    scene = dead_leaves(1, 1, 64) / np.float32(255)
    for heaviness in (0.0, 0.5, 1.0):
        light = random_streaks(rng, 64, 64, heaviness)
        assert light.min() >= 0
        wet = add_streaks(scene, light[:, :, None], mode)
        assert (wet >= scene - 1e-6).all()
        assert wet.max() <= 1


def test_streaks_that_hide_the_scene_have_the_colour_of_the_sky():
    """Where a streak is opaque, nothing of the scene remains, be it darker or brighter."""
    scene = np.array([[[0.0, 0.5, 1.0]]], np.float32)
    sky = np.array([0.7, 0.7, 0.8], np.float32)
    light = np.array([[[1.5]]], np.float32)
    assert np.allclose(add_streaks(scene, light, "blend", sky), sky)
    assert np.allclose(add_streaks(scene, 0.25 * light / 1.5, "blend", sky), scene + 0.25 * (sky - scene))
    assert np.array_equal(add_streaks(scene, 0 * light, "blend", sky), scene)


@pytest.mark.parametrize("style", STYLES)
def test_heavier_rain_is_brighter_and_covers_more(style):
    means, covered = [], []
    for heaviness in (0.0, 0.5, 1.0):
        layers = [random_streaks(np.random.default_rng(k), 96, 96, heaviness, style) for k in range(40)]
        means.append(np.mean(layers))
        covered.append(np.mean([(layer > 0.05).mean() for layer in layers]))
    assert means[0] < means[1] < means[2]
    assert covered[0] < 0.3
    assert covered[2] > 0.35


def test_streaks_have_the_direction_of_the_layer():
    """Neighbours along the direction are similar, those across it are not."""
    for kind in (draw_streaks, smear_drops, draw_jagged):
        layer = Layer(angle=0, length=24, width=0.5, density=0.004, brightness=0.6, spread=0)
        light = kind(np.random.default_rng(0), 128, 128, layer)
        down = np.corrcoef(light[8:].ravel(), light[:-8].ravel())[0, 1]
        across = np.corrcoef(light[:, 8:].ravel(), light[:, :-8].ravel())[0, 1]
        assert down > 0.35 > across + 0.2
        assert 0.3 < light.max() <= 1


def test_jagged_streaks_are_not_antialiased():
    """Each streak has one of a few values. In a slanted one, the value jumps from 0 to it between neighbours."""
    layer = Layer(angle=0.4, length=24, width=0.5, density=0.003, brightness=0.6, spread=0)
    jagged, soft = (draw(np.random.default_rng(0), 96, 96, layer) for draw in (draw_jagged, draw_streaks))
    assert len(np.unique(jagged)) <= 1 + streaks_module._SHADES
    assert len(np.unique(soft)) > 50
    assert jagged.max() == pytest.approx(0.6, abs=0.01)


def test_a_layer_covers_as_much_as_its_density_says():
    layer = Layer(angle=0.1, length=20, width=0.5, density=0.2 / 20, brightness=0.6, spread=0)
    covered = (draw_jagged(np.random.default_rng(0), 192, 192, layer) > 0).mean()
    assert covered == pytest.approx(1 - np.exp(-0.2), abs=0.05)


def test_mist_lightens_the_dark_and_flattens_the_contrast():
    scene = np.zeros((64, 64, 3), np.float32)
    scene[::2] = 0.6
    for seed in range(10):
        misty = rain_module._add_mist(np.random.default_rng(seed), scene, 0.3)
        assert misty[1::2].min() > 0.08
        contrast = misty[::2] - misty[1::2]
        assert 0.2 < contrast.min() <= contrast.max() < 0.55


def test_some_rainy_pictures_were_compressed_as_jpeg(monkeypatch):
    """Without rain and mist, what the camera does is left: most pictures are unchanged, about a third is not."""
    monkeypatch.setattr(rain_module, "random_streaks", lambda rng, h, w, *_: np.zeros((h, w), np.float32))
    monkeypatch.setattr(rain_module, "_add_mist", lambda rng, scene, strength: scene)
    monkeypatch.setattr(rain_module, "POSTS", 0)
    clean, compressed = dead_leaves(1, 0, 48), []
    original = rain_module.compress_jpeg
    monkeypatch.setattr(rain_module, "compress_jpeg", lambda *a: compressed.append(a[2]) or original(*a))
    changed = 0
    for seed in range(200):
        rainy, target = rain(np.random.default_rng(seed), clean, dry=0.0)
        assert np.array_equal(target, clean)
        changed += not np.array_equal(rainy, clean)
    assert 0.2 < changed / 200 < 0.55
    assert 0.1 < len(compressed) / 200 < 0.35
    assert min(compressed) < 70 < 85 < max(compressed) <= 96


def test_blurring_keeps_the_sum_and_the_centre_of_a_drop():
    drop = np.zeros((61, 61), np.float32)
    drop[30, 30] = 1
    smeared = streaks_module._blur_along(drop, 0.3, 20)
    assert smeared.sum() == pytest.approx(1, rel=1e-3)
    y, x = np.mgrid[:61, :61]
    assert (smeared * y).sum() == pytest.approx(30, abs=0.1)
    assert (smeared * x).sum() == pytest.approx(30, abs=0.1)
    rows = np.flatnonzero(smeared.sum(axis=1) > 0.01)
    assert 17 <= np.ptp(rows) <= 24
