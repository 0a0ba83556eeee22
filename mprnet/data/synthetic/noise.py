"""Noise: from a clean picture to the noisy one that a file would hold, and from light to what a sensor counts."""

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


def shot_read_noise(rng: np.random.Generator, raw: np.ndarray, shot: float, read: float) -> np.ndarray:
    """What a sensor measures: photons by Poisson's distribution, and the electronics' Gaussian noise.

    Args:
        raw: any shape, float, linear in light; 0 is black, 1 the sensor's white.
        shot: what one photon adds to ``raw``, greater than 0.
        read: variance of the electronics' noise.

    Returns:
        Same shape, float32, of mean ``raw`` and variance shot * raw + read; neither clipped nor rounded.
    """
    counted = rng.poisson(np.maximum(raw, 0) / shot).astype(np.float32) * np.float32(shot)
    return counted + np.float32(read**0.5) * rng.standard_normal(raw.shape, dtype=np.float32)


def random_shot_read(rng: np.random.Generator) -> tuple[float, float]:
    """A camera's ``shot`` and ``read`` at some ISO.

    The line through the logarithms is Brooks et al.'s ("Unprocessing Images for Learned Raw Denoising", CVPR 2019,
    section 3.1), fitted to DND's cameras.
    """
    log_shot = rng.uniform(np.log(0.0001), np.log(0.012))
    log_read = 2.18 * log_shot + 1.2 + 0.26 * rng.standard_normal()
    return float(np.exp(log_shot)), float(np.exp(log_read))
