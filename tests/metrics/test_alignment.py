import cv2
import numpy as np
import pytest
import skimage.data
import skimage.metrics

from mprnet import metrics

TARGET = skimage.data.astronaut()
HEIGHT, WIDTH = TARGET.shape[:2]


def warp_target(homography: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """The image of a camera whose pixels map to the target's pixels by the homography."""
    smooth = cv2.GaussianBlur(TARGET, (0, 0), 1).astype(np.float32) / 255
    moved = cv2.warpPerspective(
        smooth, homography, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return np.clip(moved * gain, 0, 1)


@pytest.mark.parametrize("gain", [1.0, 0.7])
def test_a_known_homography_and_gain_are_recovered(gain):
    known = np.array([[1.004, 0.003, 3.2], [-0.002, 0.997, -2.1], [3e-6, -4e-6, 1]])
    smooth = cv2.GaussianBlur(TARGET, (0, 0), 1).astype(np.float32) / 255
    aligned = metrics.align(warp_target(known, gain), smooth)
    corners = np.array([[[20, 20]], [[WIDTH - 20, 20]], [[20, HEIGHT - 20]], [[WIDTH - 20, HEIGHT - 20]]], np.float32)
    found, expected = (cv2.perspectiveTransform(corners, h.astype(np.float32)) for h in (aligned.homography, known))
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert metrics.masked_psnr(aligned) > 30
    assert metrics.masked_psnr(apply_best_gain(aligned)) > 42


def apply_best_gain(aligned: metrics.Aligned) -> metrics.Aligned:
    """Apply the gain again: the protocol does it before it aligns, so displaced images become a little too dark."""
    gain = (aligned.image * aligned.target).sum() / (aligned.image**2).sum()
    return metrics.Aligned(aligned.image * gain, aligned.target, aligned.mask, aligned.homography)


def test_a_shifted_copy_scores_as_an_aligned_one():
    """The same blurred scene, once aligned with its target and once shifted."""
    blurred = cv2.GaussianBlur(TARGET, (0, 0), 1.5)
    target, still = TARGET[8:-8, 8:-8], blurred[8:-8, 8:-8]
    shifted = blurred[5:-11, 12:-4]
    straight, moved = metrics.align(still, target), metrics.align(shifted, target)
    np.testing.assert_allclose(moved.homography[:2, 2], [-4, 3], atol=0.2)
    # The moved copy lacks a strip, so the other copy is not compared there either.
    image, goal = (picture * moved.mask for picture in (straight.image, straight.target))
    straight = metrics.Aligned(image, goal, moved.mask, straight.homography)
    assert metrics.masked_psnr(moved) == pytest.approx(metrics.masked_psnr(straight), abs=1)
    moved, straight = apply_best_gain(moved), apply_best_gain(straight)
    assert metrics.masked_psnr(moved) == pytest.approx(metrics.masked_psnr(straight), abs=0.1)
    assert metrics.masked_psnr(moved) > metrics.psnr(shifted, target) + 5
    assert metrics.masked_ssim(moved) == pytest.approx(metrics.masked_ssim(straight), abs=0.01)


def test_masked_scores_equal_their_definition():
    known = np.array([[1, 0, 9.0], [0, 1, -7.0], [0, 0, 1]])
    aligned = metrics.align(warp_target(known), TARGET)
    assert 0 < (aligned.mask == 0).mean() < 0.1
    error = ((aligned.image.astype(float) - aligned.target) ** 2).sum() / aligned.mask.sum()
    assert metrics.masked_psnr(aligned) == pytest.approx(10 * np.log10(1 / error), abs=1e-6)
    _, values = skimage.metrics.structural_similarity(
        aligned.target.astype(float),
        aligned.image.astype(float),
        channel_axis=2,
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=1,
        full=True,
    )
    mask = aligned.mask[5:-5, 5:-5]
    per_channel = (values[5:-5, 5:-5] * mask).sum((0, 1)) / mask.sum((0, 1))
    assert metrics.masked_ssim(aligned) == pytest.approx(per_channel.mean(), abs=1e-6)


def test_an_image_equal_to_its_target():
    aligned = metrics.align(TARGET, TARGET)
    np.testing.assert_allclose(aligned.homography, np.eye(3), atol=1e-3)
    assert metrics.masked_psnr(aligned) > 60
    assert metrics.masked_ssim(aligned) > 0.9999


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((32, 32, 3), np.uint8), "black"),
        (np.full((32, 32, 3), 90, np.uint8), "nothing in common"),
        (np.zeros((16, 32, 3), np.uint8), "one shape"),
    ],
)
def test_images_that_cannot_be_aligned_raise_a_clear_error(image, sentence):
    with pytest.raises(ValueError, match=sentence):
        metrics.align(image, np.full((32, 32, 3), 60, np.uint8))


def test_integer_and_float_images_are_aligned_equally():
    """Also with sides of different length. Borders are reflected: black would spread into the last rows of the mask."""
    target = TARGET[:120, :200]
    image = cv2.GaussianBlur(TARGET, (0, 0), 1.5)[2:122, 3:203]
    integers, floats = metrics.align(image, target), metrics.align(image / 255.0, target / 255.0)
    np.testing.assert_allclose(integers.image, floats.image, atol=1e-5)
    wide = metrics.align(image.astype(np.uint16) * 257, target.astype(np.uint16) * 257)
    np.testing.assert_allclose(wide.image, floats.image, atol=1e-5)
    np.testing.assert_allclose(integers.target, target / 255.0 * integers.mask, atol=1e-6)
    assert integers.image.shape == integers.mask.shape == (120, 200, 3)
    smooth = cv2.GaussianBlur(TARGET, (0, 0), 1.5)[:120, :200] / 255.0
    inner = integers.mask[:, :, 0] > 0
    assert np.abs(integers.image - smooth)[inner].max() < 0.2


@pytest.mark.parametrize("size", [10, 11])
def test_ssim_needs_11_rows_and_columns(size):
    image = np.random.default_rng(0).random((size, 20, 3)).astype(np.float32)
    aligned = metrics.Aligned(image, image, np.ones_like(image), np.eye(3, dtype=np.float32))
    assert metrics.masked_psnr(aligned) == float("inf")
    if size == 11:
        assert metrics.masked_ssim(aligned) == pytest.approx(1)
        for measure in (metrics.masked_psnr, metrics.masked_ssim):
            with pytest.raises(ValueError, match="nothing in common"):
                measure(metrics.Aligned(image, image, np.zeros_like(image), aligned.homography))
    else:
        with pytest.raises(ValueError, match=r"at least 11x11 pixels, not \(10, 20\)"):
            metrics.masked_ssim(aligned)
