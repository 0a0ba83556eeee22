"""White Gaussian noise of pictures, and shot and read noise of sensors."""

import numpy as np


def gaussian_noise(rng: np.random.Generator, clean: np.ndarray, sigma: float) -> np.ndarray:
    """Add white Gaussian noise, then clip and round to 8 bits, as saving to a file does.

    Args:
        clean: any shape, uint8.
        sigma: standard deviation in grey levels (white is 255).

    Returns:
        Same shape, uint8.
    """
    noisy = clean + np.float32(sigma) * rng.standard_normal(clean.shape, dtype=np.float32)
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


def shot_read_noise(rng: np.random.Generator, raw: np.ndarray, shot: float, read: float) -> np.ndarray:
    """Add the noise of a sensor: photons (Poisson distribution) and electronics (Gaussian distribution).

    Args:
        raw: linear light, any shape, float; 0 is black, 1 is the sensor's white.
        shot: how much one photon adds to ``raw``, greater than 0.
        read: variance of the noise of the electronics.

    Returns:
        Same shape, float32, with mean ``raw`` and variance shot * raw + read; not clipped and not rounded.
    """
    counted = rng.poisson(np.maximum(raw, 0) / shot).astype(np.float32) * np.float32(shot)
    return counted + np.float32(read**0.5) * rng.standard_normal(raw.shape, dtype=np.float32)


def random_shot_read(rng: np.random.Generator) -> tuple[float, float]:
    """Return a camera's ``shot``, 0.0002 to 0.03, and ``read`` (see ``shot_read_noise``) at a random ISO setting.

    Their logarithms lie about on the line that Brooks et al. ("Unprocessing Images for Learned Raw Denoising", CVPR
    2019, section 3.1) fitted to DND's cameras.
    """
    log_shot = rng.uniform(np.log(0.0002), np.log(0.03))
    log_read = 2.18 * log_shot + 1.2 + 0.26 * rng.standard_normal()
    return float(np.exp(log_shot)), float(np.exp(log_read))
