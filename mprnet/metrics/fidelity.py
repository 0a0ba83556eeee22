"""Measures of fidelity to a reference, as the paper's tables have them."""

import cv2
import numpy as np

# Wang et al. 2004: a window of 11 Gaussian taps, and what keeps the quotient from instability.
_RADIUS, _SIGMA, _K1, _K2 = 5, 1.5, 0.01, 0.03
# Values that are compared at a time: large pictures leave no room for copies in float64.
_CHUNK = 2**18
_OFFSETS = np.arange(-_RADIUS, _RADIUS + 1)
_WINDOW = np.exp(-(_OFFSETS**2) / (2 * _SIGMA**2))
_WINDOW /= _WINDOW.sum()


def psnr(image: np.ndarray, target: np.ndarray) -> float:
    """Peak signal-to-noise ratio, 10 log10(peak^2 / mean squared error) over all pixels and channels.

    Tables 3 and 5 take it of RGB images, Table 2 of their ``luma``.

    Args:
        image, target: arrays of one shape and dtype: uint8 (peak 255), uint16 (65535) or float in [0, 1] (peak 1).

    Returns:
        Decibels; infinity for equal images.

    Raises:
        ValueError: shapes or dtypes differ.
    """
    _compare(image, target, "psnr")
    first, second = image.ravel(), target.ravel()
    total = 0.0
    for start in range(0, first.size, _CHUNK):
        a, b = (values[start : start + _CHUNK] for values in (first, second))
        is_8_bit = a.dtype == np.uint8  # the sums of squares are whole numbers then, and so are exact
        difference = cv2.absdiff(a, b).ravel().astype(np.float64) if is_8_bit else a.astype(np.float64) - b
        total += float(difference @ difference)
    error = total / first.size
    return float("inf") if error == 0 else float(10 * np.log10(_peak(image) ** 2 / error))


def luma(rgb: np.ndarray) -> np.ndarray:
    """The Y of MATLAB's ``rgb2ycbcr``, which Table 2 is measured on.

    round(16 + (65.481 R + 128.553 G + 24.966 B) / 255), halves upwards.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (H, W) uint8, from 16 to 235.

    Raises:
        ValueError: another shape or dtype.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"luma takes (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}.")
    # In thousandths, as whole numbers: exact, and halves are rounded up.
    red, green, blue = (rgb[:, :, channel].astype(np.int32) for channel in range(3))
    return (16 + (65481 * red + 128553 * green + 24966 * blue + 127500) // 255000).astype(np.uint8)


def ssim_wang2003(image: np.ndarray, target: np.ndarray) -> float:
    """Structural similarity of one channel as in the first published code (Wang et al.); Table 2 takes it of ``luma``.

    An 11x11 Gaussian window of sigma 1.5 at every place where it fits, the mean over these.

    Args:
        image, target: (H, W), at least 11x11, of one dtype: uint8, uint16 or float in [0, 1].

    Raises:
        ValueError: shapes or dtypes differ, more than one channel, or smaller than the window.
    """
    _compare(image, target, "ssim_wang2003")
    if image.ndim != 2 or min(image.shape) < 2 * _RADIUS + 1:
        raise ValueError(f"ssim_wang2003 takes one channel of at least 11x11 pixels, not {image.shape}.")
    return float(inside(ssim_map(image[:, :, None], target[:, :, None])).mean())


def ssim_volume(image: np.ndarray, target: np.ndarray) -> float:
    """Structural similarity as MATLAB's ``ssim`` gives it for an RGB array, which it takes for a volume.

    Tables 3 and 5 have it.     A Gaussian window of 11 taps, sigma 1.5, lies along rows, columns and channels, edges
    repeated; the mean over everything.

    Args:
        image, target: (H, W, C) of one dtype: uint8, uint16 or float in [0, 1].

    Raises:
        ValueError: shapes or dtypes differ, or not three axes.
    """
    _compare(image, target, "ssim_volume")
    if image.ndim != 3:
        raise ValueError(f"ssim_volume takes (H, W, C), not {image.shape}.")
    return float(ssim_map(image, target, _along_channels(image.shape[2])).mean())


def ssim_map(image: np.ndarray, target: np.ndarray, mixing: np.ndarray | None = None) -> np.ndarray:
    """Structural similarity at every pixel of every channel.

    Args:
        image, target: (H, W, C), of one dtype; edges are repeated outwards.
        mixing: (C, C), what the window does along the channels; None: each channel is by itself.

    Returns:
        (H, W, C) float64.
    """
    c1, c2 = ((k * _peak(image)) ** 2 for k in (_K1, _K2))
    x, y = image.astype(np.float64), target.astype(np.float64)
    mean_x, mean_y = _filter(x, mixing), _filter(y, mixing)
    product = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    covariance = _filter(x * y, mixing) - product
    # The variances occur as their sum alone, so that one filtering gives both.
    variances = _filter(x * x + y * y, mixing) - squares
    return (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))


def inside(values: np.ndarray) -> np.ndarray:
    """Without the border where the window does not fit."""
    return values[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _filter(x: np.ndarray, mixing: np.ndarray | None) -> np.ndarray:
    if mixing is not None:
        x = x @ mixing.T
    return cv2.sepFilter2D(x, cv2.CV_64F, _WINDOW, _WINDOW, borderType=cv2.BORDER_REPLICATE).reshape(x.shape)


def _along_channels(channels: int) -> np.ndarray:
    """The window along so few channels, their first and last repeated outwards, as a matrix."""
    matrix = np.zeros((channels, channels))
    for channel in range(channels):
        np.add.at(matrix[channel], np.clip(channel + _OFFSETS, 0, channels - 1), _WINDOW)
    return matrix


def _peak(image: np.ndarray) -> float:
    return float(np.iinfo(image.dtype).max) if np.issubdtype(image.dtype, np.integer) else 1.0


def _compare(image: np.ndarray, target: np.ndarray, what: str) -> None:
    if image.shape != target.shape or image.dtype != target.dtype:
        raise ValueError(
            f"{what} compares images of one shape and type, not {image.shape} {image.dtype} with {target.shape} "
            f"{target.dtype}."
        )
