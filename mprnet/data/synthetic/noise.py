"""Noise as a degradation: from a clean picture to the noisy one that a file would hold."""

import numpy as np


def gaussian_noise(rng: np.random.Generator, clean: np.ndarray, sigma: float) -> np.ndarray:
    """Add white Gaussian noise, then clip and round as saving to an 8-bit file does.

    Args:
        clean: any shape, uint8.
        sigma: standard deviation in grey levels, 0 to 255.

    Returns:
        Same shape, uint8.
    """
    noisy = clean + np.float32(sigma) * rng.standard_normal(clean.shape, dtype=np.float32)
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
