"""PSNR and SSIM, as in the paper's tables."""

import cv2
import numpy as np

# Wang et al. 2004: a Gaussian window of 2 * 5 + 1 taps, and two constants that keep the quotient stable.
_RADIUS, _SIGMA, _K1, _K2 = 5, 1.5, 0.01, 0.03
# How many values are compared at a time: with a large picture, memory is too small for copies in float64.
_CHUNK = 2**16
_OFFSETS = np.arange(-_RADIUS, _RADIUS + 1)
_WINDOW = np.exp(-(_OFFSETS**2) / (2 * _SIGMA**2))
_WINDOW /= _WINDOW.sum()
# Images with fewer rows or columns have no ``ssim_wang2003`` and no ``masked_ssim``.
WINDOW_SIZE = len(_WINDOW)
# The kinds of pixels, as NumPy's letter and bytes for each value: uint8, uint16, and floats of 16, 32 and 64 bits.
_INTEGERS, _FLOATS = {("u", 1), ("u", 2)}, {("f", 2), ("f", 4), ("f", 8)}
# How far floats may be outside [0, 1].
_TOLERANCE = 1e-3


def psnr(image: np.ndarray, target: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio: 10 log10(peak^2 / mean squared error over all pixels and channels).

    In Tables 3 and 5 it is that of RGB images, in Table 2 that of their ``luma``.

    Args:
        image, target: arrays of one shape and dtype: uint8 (peak 255), uint16 (65535) or float in [0, 1] (peak 1).

    Returns:
        PSNR in decibels; infinity for equal images.

    Raises:
        ValueError: shapes or dtypes differ, there are no pixels, another dtype, or floats outside [0, 1] by more than
            0.001.
    """
    _check_alike(image, target, "psnr")
    first, second = image.ravel(), target.ravel()
    total = 0.0
    for start in range(0, first.size, _CHUNK):
        a, b = (values[start : start + _CHUNK] for values in (first, second))
        if a.dtype == np.uint8:  # then sums of squares are integers, and exact
            difference = cv2.absdiff(a, b).ravel().astype(np.float64)
        else:
            if a.dtype == np.float16:  # NumPy is slow with it
                a, b = a.astype(np.float32), b.astype(np.float32)
            _check_range(a, b)  # here, where the values are in the processor's cache
            difference = a.astype(np.float64) - b
        total += float(difference @ difference)
    error = total / first.size
    return float("inf") if error == 0 else float(10 * np.log10(_peak(image) ** 2 / error))


def luma(rgb: np.ndarray) -> np.ndarray:
    """Return the channel Y of MATLAB's ``rgb2ycbcr``, which Table 2 compares.

    Y = round(16 + (65.481 R + 128.553 G + 24.966 B) / 255); halves are rounded up.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (H, W) uint8, from 16 to 235.

    Raises:
        ValueError: ``rgb`` has another shape or dtype.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"luma takes (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}.")
    # In integers, as thousandths: this is exact, and halves are rounded up.
    red, green, blue = (rgb[:, :, channel].astype(np.int32) for channel in range(3))
    return (16 + (65481 * red + 128553 * green + 24966 * blue + 127500) // 255000).astype(np.uint8)


def ssim_wang2003(image: np.ndarray, target: np.ndarray) -> float:
    """Return the structural similarity of one channel, as in the first published code (Wang et al.).

    It is the mean over all positions at which the window, 11x11 Gaussian of sigma 1.5, lies inside the image. In Table
    2 it is that of ``luma``.

    Args:
        image, target: (H, W), at least 11x11, of one dtype: uint8, uint16 or float in [0, 1].

    Raises:
        ValueError: as ``psnr``; or the images have several channels or are smaller than the window.
    """
    _check_alike(image, target, "ssim_wang2003")
    if image.ndim != 2 or min(image.shape) < WINDOW_SIZE:
        raise ValueError(f"ssim_wang2003 takes one channel of at least 11x11 pixels, not {image.shape}.")
    _check_range(image, target)
    return float(crop_border(ssim_map(image[:, :, None], target[:, :, None])).mean())


def ssim_volume(image: np.ndarray, target: np.ndarray) -> float:
    """Return the structural similarity of two RGB images, as MATLAB's ``ssim`` gives it, which treats them as volumes.

    The Gaussian window of sigma 1.5 has 11 taps along rows, columns and channels. Edges are repeated. The result is the
    mean over all pixels and channels. Tables 3 and 5 show it.

    Args:
        image, target: (H, W, C) of one dtype: uint8, uint16 or float in [0, 1].

    Raises:
        ValueError: as ``psnr``; or the arrays do not have three axes.
    """
    _check_alike(image, target, "ssim_volume")
    if image.ndim != 3:
        raise ValueError(f"ssim_volume takes (H, W, C), not {image.shape}.")
    _check_range(image, target)
    return float(ssim_map(image, target, _along_channels(image.shape[2])).mean())


def ssim_map(image: np.ndarray, target: np.ndarray, mixing: np.ndarray | None = None) -> np.ndarray:
    """Return the structural similarity at every pixel of every channel.

    Args:
        image, target: (H, W, C), of one dtype: uint8, uint16 or float in [0, 1]. Edges are repeated.
        mixing: (C, C), the window along the channels, as a matrix. None: each channel is compared separately.

    Returns:
        (H, W, C) float64.
    """
    c1, c2 = ((k * _peak(image)) ** 2 for k in (_K1, _K2))
    x, y = image.astype(np.float64), target.astype(np.float64)
    mean_x, mean_y = _filter(x, mixing), _filter(y, mixing)
    product = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    covariance = _filter(x * y, mixing) - product
    # Only the sum of the two variances is needed, which takes one filtering.
    variances = _filter(x * x + y * y, mixing) - squares
    return (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))


def crop_border(values: np.ndarray) -> np.ndarray:
    """Return (H, W, ...) without the border, where the window is not inside the image."""
    return values[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _filter(x: np.ndarray, mixing: np.ndarray | None) -> np.ndarray:
    if mixing is not None:
        x = x @ mixing.T
    return cv2.sepFilter2D(x, cv2.CV_64F, _WINDOW, _WINDOW, borderType=cv2.BORDER_REPLICATE).reshape(x.shape)


def _along_channels(channels: int) -> np.ndarray:
    """Return the window along the channels as a matrix, (C, C); the first and the last channel are repeated."""
    matrix = np.zeros((channels, channels))
    for channel in range(channels):
        np.add.at(matrix[channel], np.clip(channel + _OFFSETS, 0, channels - 1), _WINDOW)
    return matrix


def _peak(image: np.ndarray) -> float:
    return float(np.iinfo(image.dtype).max) if np.issubdtype(image.dtype, np.integer) else 1.0


def scale(image: np.ndarray) -> np.ndarray:
    """Return an image as float32 in [0, 1].

    Raises:
        ValueError: the image is neither uint8 nor uint16, nor floats in [0, 1].
    """
    _check_kind(image)
    _check_range(image)
    return image.astype(np.float32) / np.float32(_peak(image))


def _check_alike(image: np.ndarray, target: np.ndarray, name: str) -> None:
    """Check what does not depend on the values of the pixels."""
    for array in (image, target):
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} compares NumPy arrays: convert the {type(array).__name__} first.")
    if not image.size:
        raise ValueError(f"{name} compares images with pixels, not of the shape {image.shape}.")
    if image.shape != target.shape or image.dtype != target.dtype:
        raise ValueError(
            f"{name} compares images of one shape and type, not {image.shape} {image.dtype} with {target.shape} "
            f"{target.dtype}."
        )
    _check_kind(image)


def _check_kind(image: np.ndarray) -> None:
    if (image.dtype.kind, image.dtype.itemsize) not in _INTEGERS | _FLOATS:
        raise ValueError(
            f"images hold uint8, uint16 or floats in [0, 1], not {image.dtype}: convert them to one of these, with "
            "values that fit."
        )


def _check_range(*images: np.ndarray) -> None:
    """Check the values of images of floats."""
    for image in images:
        if image.dtype.kind != "f":
            continue
        low, high = image.min(), image.max()
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # also if there is a NaN
            raise ValueError(
                f"images of floats hold values in [0, 1], not from {low:g} to {high:g}: divide them by their largest "
                "possible value, or clip them."
            )
