import tracemalloc

import cv2
import numpy as np
import pytest
import scipy.ndimage
from conftest import ROOT
from golden import read_fact

from mprnet import metrics

PAIRS = read_fact("metrics/scores.json")


def read(name: str) -> np.ndarray:
    return cv2.imread(str(ROOT / "tests" / "facts" / "metrics" / name))[:, :, ::-1]


@pytest.mark.parametrize("name", PAIRS)
def test_scores_equal_those_of_the_published_scripts(name):
    facts = PAIRS[name]
    image, target = read(facts["image"]), read(facts["target"])
    assert metrics.psnr(image, target) == pytest.approx(facts["psnr_rgb"], abs=2e-5)
    assert metrics.ssim_volume(image, target) == pytest.approx(facts["ssim_rgb_volume"], abs=1e-9)
    image, target = metrics.luma(image), metrics.luma(target)
    assert metrics.psnr(image, target) == pytest.approx(facts["psnr_y"], abs=2e-5)
    assert metrics.ssim_wang2003(image, target) == pytest.approx(facts["ssim_y_wang2003"], abs=2e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_scores_do_not_depend_on_the_dtype(name):
    image, target = (read(PAIRS[name][side]) for side in ("image", "target"))
    for measure in (metrics.psnr, metrics.ssim_volume):
        single = measure(*(picture.astype(np.float32) / 255 for picture in (image, target)))
        assert single == pytest.approx(measure(image, target), abs=2e-5)
        wide = measure(*(picture.astype(np.uint16) * 257 for picture in (image, target)))
        assert wide == pytest.approx(measure(image, target), abs=1e-9)


def plain_ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """SSIM by its definition: a window with as many dimensions as the images, edges repeated."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = taps
    for _ in range(x.ndim - 1):
        window = np.multiply.outer(window, taps)
    window /= window.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        return scipy.ndimage.correlate(values, window, mode="nearest")

    x, y = x.astype(float), y.astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 2.55**2, 7.65**2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))


@pytest.mark.parametrize("shape", [(24, 31, 3), (3, 5, 3), (17, 12, 1), (12, 13, 5)])
def test_ssim_of_a_volume_equals_its_definition(shape):
    rng = np.random.default_rng(0)
    target = rng.integers(0, 256, shape, np.uint8)
    image = np.clip(target + rng.normal(0, 30, shape), 0, 255).astype(np.uint8)
    assert metrics.ssim_volume(image, target) == pytest.approx(plain_ssim(image, target).mean(), abs=1e-12)


@pytest.mark.parametrize("shape", [(24, 31), (11, 11), (11, 40)])
def test_ssim_of_one_channel_equals_its_definition(shape):
    rng = np.random.default_rng(0)
    target = rng.integers(0, 256, shape, np.uint8)
    image = np.clip(target + rng.normal(0, 30, shape), 0, 255).astype(np.uint8)
    inside = plain_ssim(image, target)[5:-5, 5:-5]
    assert metrics.ssim_wang2003(image, target) == pytest.approx(inside.mean(), abs=1e-12)


def test_luma_by_hand():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    assert metrics.luma(colours).tolist() == [[16, 235, 81, 145, 41, 32]]
    assert metrics.luma(colours).dtype == np.uint8


def test_psnr_by_hand():
    a = np.zeros((4, 4, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 255
    assert metrics.psnr(a, b) == pytest.approx(10 * np.log10(48))
    assert metrics.psnr(b, a) == pytest.approx(10 * np.log10(48))
    assert metrics.psnr(a / 255.0, b / 255.0) == pytest.approx(10 * np.log10(48))


def test_equal_images():
    image = read("coffee_gt.png")
    assert metrics.psnr(image, image) == float("inf")
    assert metrics.ssim_volume(image, image) == pytest.approx(1, abs=1e-12)
    assert metrics.ssim_wang2003(metrics.luma(image), metrics.luma(image)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim_wang2003, metrics.ssim_volume])
def test_different_shapes_or_dtypes_raise_an_error(measure):
    with pytest.raises(ValueError, match="one shape and type"):
        measure(np.zeros((14, 14)), np.zeros((14, 15)))
    with pytest.raises(ValueError, match="one shape and type"):
        measure(np.zeros((14, 14)), np.zeros((14, 14), np.uint8))


def test_unfit_shapes_raise_a_clear_error():
    with pytest.raises(ValueError, match="at least 11x11"):
        metrics.ssim_wang2003(np.zeros((10, 30)), np.zeros((10, 30)))
    with pytest.raises(ValueError, match="one channel"):
        metrics.ssim_wang2003(np.zeros((30, 30, 3)), np.zeros((30, 30, 3)))
    with pytest.raises(ValueError, match=r"\(H, W, C\)"):
        metrics.ssim_volume(np.zeros((30, 30)), np.zeros((30, 30)))
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))):
        with pytest.raises(ValueError, match="luma takes"):
            metrics.luma(wrong)


MEASURES = {
    "psnr": metrics.psnr,
    "ssim_wang2003": lambda a, b: metrics.ssim_wang2003(a[:, :, 0], b[:, :, 0]),
    "ssim_volume": metrics.ssim_volume,
    "align": metrics.align,
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int16, np.int64, np.uint32, np.complex64, object, "U1"])
def test_unknown_types_of_pixels_raise_a_clear_error(measure, dtype):
    image = np.ones((12, 12, 3)).astype(dtype)
    with pytest.raises(ValueError, match=f"images hold uint8, uint16 or floats .*, not {image.dtype}: convert them"):
        measure(image, image)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_outside_their_range_raise_a_clear_error(measure, dtype):
    """In the image or in the target, and in any place."""
    fit = np.random.default_rng(0).random((150, 150, 3)).astype(dtype)
    for value in (255, 1.002, -0.002, np.nan, np.inf, -np.inf):
        unfit = fit.copy()
        unfit[-1, -1, 0] = value
        for pair in ((unfit, fit), (fit, unfit)):
            with pytest.raises(ValueError, match=r"floats hold values in \[0, 1\], not from .*: divide them"):
                measure(*pair)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_may_be_a_little_outside_their_range(dtype):
    image = np.array([[[-0.0009, 1.0009, 0.5]]]).astype(dtype)
    assert metrics.psnr(image, np.zeros_like(image)) == pytest.approx(10 * np.log10(3 / 1.25), abs=0.01)


def test_anything_but_two_arrays_with_pixels_raises_a_clear_error():
    with pytest.raises(ValueError, match="compares NumPy arrays: convert the list first"):
        metrics.psnr([0.5], [0.5])
    with pytest.raises(ValueError, match=r"images with pixels, not of the shape \(0, 3\)"):
        metrics.psnr(np.zeros((0, 3)), np.zeros((0, 3)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_psnr_of_pictures_larger_than_a_chunk(dtype):
    rng = np.random.default_rng(0)
    shape = (700, 601, 3)  # 1.3 million values
    peak = 1 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    pictures = [(rng.random(shape, np.float32) * peak).astype(dtype) for _ in range(2)]
    error = np.mean((pictures[0].astype(np.float64) - pictures[1]) ** 2)
    assert metrics.psnr(*pictures) == pytest.approx(10 * np.log10(peak**2 / error), rel=1e-13)


def test_psnr_needs_little_memory():
    """The images have 12 million floats; a copy in float64 would take 96 MB."""
    pictures = [np.full((2000, 2000, 3), level, np.float32) for level in (0.25, 0.5)]
    tracemalloc.start()
    assert metrics.psnr(*pictures) == pytest.approx(12.0412, abs=1e-4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
