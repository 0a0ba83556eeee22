"""Measures of fidelity to a reference."""

import numpy as np


def psnr(image: np.ndarray, target: np.ndarray) -> float:
    """Peak signal-to-noise ratio, 10 log10(peak^2 / mean squared error) over all pixels and channels.

    Args:
        image, target: arrays of one shape and dtype: uint8 (peak 255), uint16 (65535) or float in [0, 1] (peak 1).

    Returns:
        Decibels; infinity for equal images.

    Raises:
        ValueError: shapes or dtypes differ.
    """
    if image.shape != target.shape or image.dtype != target.dtype:
        raise ValueError(
            f"psnr compares images of one shape and type, not {image.shape} {image.dtype} with {target.shape} "
            f"{target.dtype}."
        )
    peak = float(np.iinfo(image.dtype).max) if np.issubdtype(image.dtype, np.integer) else 1.0
    error = float(np.mean(np.square(image.astype(np.float64) - target.astype(np.float64))))
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))
