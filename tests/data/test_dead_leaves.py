import numpy as np
import pytest

from mprnet.data.synthetic import man_made, textures
from mprnet.data.synthetic.dead_leaves import _fill_leaf, _roughen, _Style
from mprnet.data.synthetic.palette import Palette


def test_most_leaves_are_rough_and_some_are_smooth():
    """A leaf is rough if neighbouring gradients differ by grey levels, as in most places of photographs."""
    roughness = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        style = _Style.random(rng, 64)
        for _ in range(6):
            leaf = 255 * _fill_leaf(rng, style, np.full(3, 0.5), 30, 48, 48)
            roughness.append(np.median(np.abs(np.diff(leaf.mean(axis=2), axis=1, n=2))))
    assert 0.2 < np.mean(np.array(roughness) < 0.3) < 0.6
    assert 3 < np.percentile(roughness, 75) < 20


@pytest.mark.parametrize("kind", [kind for _, kind in textures._KINDS])
def test_textures_are_centred_and_have_contrast_everywhere(kind):
    for seed in range(4):
        texture = kind(np.random.default_rng(seed), 96)
        assert texture.shape == (96, 96)
        assert texture.dtype == np.float32
        assert abs(texture.mean()) < 0.5
        assert 0.3 < texture.std() < 2
        quarters = texture.reshape(2, 48, 2, 48).std(axis=(1, 3))
        assert quarters.min() > 0.05
        assert np.array_equal(texture, kind(np.random.default_rng(seed), 96))


def test_relief_is_rough_at_the_smallest_scale():
    """Neighbouring pixels differ more than in soft noise."""
    texture = textures.relief(np.random.default_rng(0), 128)
    assert np.diff(texture, axis=0).std() > 0.3 * texture.std()


def test_the_kinds_of_textures_have_shares_that_add_up_to_one():
    assert sum(share for share, _ in textures._KINDS) == pytest.approx(1)


@pytest.mark.parametrize("draw", [man_made._draw_text, man_made._draw_grid])
def test_text_and_grids_have_few_colours_and_stay_on_the_canvas(draw):
    drawn = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        palette = Palette(np.array([[0.9, 0.2, 0.4]]), spread=0.0)
        canvas = np.full((96, 96, 3), 0.5, np.float32)
        draw(rng, canvas, palette)
        assert np.isfinite(canvas).all()
        drawn += 0.001 < (canvas != 0.5).mean() < 0.9
    assert drawn >= 6


def test_a_grid_repeats_one_shape():
    """The picture of the columns is periodic: it has a strong peak in its autocorrelation beside the middle."""
    best = 0.0
    for seed in range(12):
        canvas = np.zeros((128, 128, 3), np.float32)
        man_made._draw_grid(np.random.default_rng(seed), canvas, Palette(np.ones((1, 3)), spread=0.0))
        profile = canvas[..., 0].sum(axis=0) - canvas[..., 0].sum(axis=0).mean()
        correlation = np.correlate(profile, profile, "full")[127:] / max((profile**2).sum(), 1e-6)
        first_dip = int(np.argmax(correlation < 0))
        best = max(best, correlation[first_dip:].max())
    assert best > 0.4


def test_ragged_outlines_keep_the_points_of_the_smooth_ones():
    outline = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    ragged = _roughen(np.random.default_rng(0), outline)
    assert len(ragged) >= 16
    assert np.array_equal(ragged[:: len(ragged) // 4], outline)
    assert 0.05 < np.abs(np.diff(ragged, axis=0)).max() < 1.5
