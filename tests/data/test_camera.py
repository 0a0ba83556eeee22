import numpy as np
import pytest

from mprnet.data.synthetic.camera import Camera, camera_noise, compress_jpeg, demosaick, mosaic
from mprnet.data.synthetic.dead_leaves import dead_leaves


def linear_gradient(size: int = 64) -> np.ndarray:
    """A linear gradient of light, (size, size, 3) float32."""
    y, x = np.mgrid[:size, :size] / size
    return np.stack([0.1 + 0.5 * x, 0.7 - 0.4 * y, 0.2 + 0.3 * x + 0.2 * y], axis=2).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_develop_inverts_undevelop(seed):
    """For every colour, up to one grey level: random cameras do not clip colours."""
    camera = Camera.random(np.random.default_rng(seed))
    levels = np.arange(0, 256, 15)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3).astype(np.uint8)
    raw = camera.undevelop(colours)
    assert 0 <= raw.min() <= raw.max() <= 1
    assert np.abs(camera.develop(raw).astype(int) - colours).max() <= 1
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert np.abs(camera.develop(camera.undevelop(greys)).astype(int) - greys).max() <= 1


def test_some_tone_curves_lift_the_shadows_and_some_darken_them():
    """sRGB's tone of 0.05 is 0.248."""
    cameras = [Camera.random(np.random.default_rng(seed)) for seed in range(40)]
    tones = [float(np.interp(0.05, *camera.tone_curve())) for camera in cameras]
    assert min(tones) < 0.2
    assert max(tones) > 0.29
    assert all((np.diff(camera.tone_curve()[1]) > 0).all() for camera in cameras)


def test_demosaicking_a_linear_gradient_is_exact():
    """Malvar's filters are exact for linear images, except at the border, where reflection changes the gradient."""
    light = linear_gradient()
    result = demosaick(mosaic(light))
    assert np.abs(result - light)[3:-3, 3:-3].max() < 1e-5
    assert np.abs(result - light).max() < 0.05


def test_the_mosaic_is_rggb():
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    assert np.array_equal(mosaic(image), [[0, 4], [7, 11]])


def test_light_is_clipped_at_white_and_black():
    camera = Camera.random(np.random.default_rng(0))
    assert (camera.develop(np.full((2, 2, 3), 5, np.float32)) == 255).all()
    assert (camera.develop(np.full((2, 2, 3), -1, np.float32)) == 0).all()


def test_camera_noise_is_stronger_in_shadows_and_correlated():
    """White Gaussian noise is neither. These are means over many cameras."""
    dark, light = (np.full((64, 64, 3), level, np.uint8) for level in (40, 230))
    spread, neighbours = [], []
    for seed in range(30):
        noises = []
        for clean in (dark, light):
            noisy, target = camera_noise(np.random.default_rng(seed), clean)
            noises.append(noisy[4:-4, 4:-4].astype(float) - target[4:-4, 4:-4])
        spread.append([noise.std() for noise in noises])
        neighbours.append(np.corrcoef(noises[0][:, 1:, 0].ravel(), noises[0][:, :-1, 0].ravel())[0, 1])
    assert np.mean(spread, axis=0)[0] > 1.2 * np.mean(spread, axis=0)[1]
    assert np.nanmean(neighbours) > 0.2


def test_the_target_has_no_noise():
    """The target of a flat picture is the picture up to one grey level."""
    clean = np.full((32, 32, 3), (90, 140, 60), np.uint8)
    for seed in range(10):
        noisy, target = camera_noise(np.random.default_rng(seed), clean)
        assert np.abs(target.astype(int) - clean).max() <= 1
        assert noisy.std(axis=(0, 1)).max() > 0


def test_the_target_is_the_picture_within_a_grey_level():
    clean = dead_leaves(1, 3, 96)
    target = camera_noise(np.random.default_rng(3), clean)[1]
    assert np.abs(target.astype(int) - clean).max() <= 1


def test_jpeg_changes_pixels_but_not_the_size():
    clean = dead_leaves(1, 0, 50)
    differences = [
        np.abs(compress_jpeg(np.random.default_rng(1), clean, q).astype(int) - clean).mean() for q in (70, 98)
    ]
    assert differences[0] > differences[1] > 0
    assert compress_jpeg(np.random.default_rng(1), clean[:31, :17], 90).shape == (31, 17, 3)
