"""Noise of several kinds, and what happens to noisy pictures afterwards, as a degradation.

Pictures are resized, sharpened or smoothed, and saved as JPEG, in random order. The idea of the random order is that of
Zhang et al., "Practical blind image denoising via Swin-Conv-UNet and data synthesis" (2022). A difference: what
changes the picture itself (resizing, sharpening, smoothing) also changes the target. So a network learns to remove
noise and the traces of JPEG, and leaves the rest of the picture as it is.
"""

from collections.abc import Callable

import cv2
import numpy as np

from mprnet.data.synthetic.camera import compress_jpeg
from mprnet.data.synthetic.noise import gaussian_noise

# Share of the samples without noise. Half of these are JPEGs of high quality, which should also stay as they are.
UNTOUCHED = 0.25
# Share of the noisy samples with white Gaussian noise and one JPEG compression, the most frequent case.
_ONLY_SAVED = 0.35
_KERNELS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)

# A noisy image and its target, each (H, W, 3) uint8.
Pair = tuple[np.ndarray, np.ndarray]


def processed_noise(
    rng: np.random.Generator, clean: np.ndarray, untouched: float = UNTOUCHED
) -> tuple[np.ndarray, np.ndarray]:
    """Add noise of a random kind and process the picture as files are processed.

    Args:
        clean: (H, W, 3) uint8.
        untouched: probability that there is no noise, 0 to 1.

    Returns:
        The noisy image, and the target: ``clean`` after the same resizing, sharpening and smoothing. Both are
        (H, W, 3) uint8.
    """
    if rng.random() < untouched:
        if rng.random() < 0.5:
            clean = compress_jpeg(rng, clean, int(rng.integers(85, 99)))
        return clean, clean
    if rng.random() < _ONLY_SAVED:
        return _save((gaussian_noise(rng, clean, rng.uniform(2, 50)), clean), rng)
    steps: list[Callable[[Pair, np.random.Generator], Pair]] = [_add_noise]
    optional = ((_add_noise, 0.2), (_resize, 0.5), (_sharpen, 0.25), (_smooth, 0.25), (_save, 0.3))
    steps += [step for step, probability in optional if rng.random() < probability]
    pair = clean, clean
    for index in rng.permutation(len(steps)):
        pair = steps[index](pair, rng)
    if pair[0].shape != clean.shape:
        kernel = _random_kernel(rng)
        height, width = clean.shape[:2]
        pair = _to_both(pair, lambda image: cv2.resize(image, (width, height), interpolation=kernel))
    return _save(pair, rng) if rng.random() < 0.75 else pair


def grain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return noise of mean 0 and standard deviation 1, (height, width, 3) float32.

    It is white, or correlated over neighbouring pixels as film grain is. Its channels are independent, equal (grey
    noise), or something between.
    """
    noise: np.ndarray = rng.standard_normal((height, width, 3), dtype=np.float32)
    kind = rng.random()
    if kind < 0.6:
        share = np.float32(1 if kind < 0.25 else rng.uniform(0, 1))  # of the variance that the channels have in common
        noise = np.sqrt(1 - share) * noise + np.sqrt(share) * rng.standard_normal((height, width, 1), dtype=np.float32)
    if rng.random() < 0.4:
        kernel = cv2.getGaussianKernel(7, rng.uniform(0.35, 1.2), cv2.CV_32F)
        # Divided by this norm, the kernel keeps the variance of white noise.
        kernel = kernel / np.sqrt((kernel**2).sum())
        noise = cv2.sepFilter2D(noise, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT)
    return noise


def _add_noise(pair: Pair, rng: np.random.Generator) -> Pair:
    """Add Gaussian, shot or speckle noise, with a standard deviation at white of at most 40 grey levels."""
    noisy, target = pair
    # The standard deviation grows with this power of the light: Gaussian, shot (photons; Gaussian for many of them),
    # speckle.
    power = rng.choice([0.0, 0.5, 1.0], p=[0.6, 0.25, 0.15])
    deviation: np.ndarray = np.float32(rng.uniform(2, 40)) * (np.arange(256, dtype=np.float32) / 255) ** power
    changed = noisy + deviation[noisy] * grain(rng, *noisy.shape[:2])
    return np.rint(np.clip(changed, 0, 255)).astype(np.uint8), target


def _resize(pair: Pair, rng: np.random.Generator) -> Pair:
    """Resize both images; ``processed_noise`` resizes them back at the end."""
    factor = 2 ** rng.uniform(-1, 0.6)
    height, width = (max(1, round(factor * side)) for side in pair[0].shape[:2])
    kernel = _random_kernel(rng)
    return _to_both(pair, lambda image: cv2.resize(image, (width, height), interpolation=kernel))


def _sharpen(pair: Pair, rng: np.random.Generator) -> Pair:
    """Unsharp masking."""
    amount, radius = rng.uniform(0.2, 1.5), rng.uniform(0.5, 1.5)
    return _to_both(
        pair, lambda image: cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), radius), -amount, 0)
    )


def _smooth(pair: Pair, rng: np.random.Generator) -> Pair:
    """Blur, or smooth flat areas and keep edges, as cameras do to hide noise."""
    kind = rng.random()
    if kind < 0.5:
        radius = rng.uniform(0.3, 0.9)
        return _to_both(pair, lambda image: cv2.GaussianBlur(image, (0, 0), radius))
    if kind < 0.75:
        return _to_both(pair, lambda image: cv2.medianBlur(image, 3))
    range_ = rng.uniform(10, 60)
    return _to_both(pair, lambda image: cv2.bilateralFilter(image, 5, range_, 2))


def _save(pair: Pair, rng: np.random.Generator) -> Pair:
    """Compress the noisy image as JPEG."""
    return compress_jpeg(rng, pair[0], int(rng.integers(30, 96))), pair[1]


def _to_both(pair: Pair, operation: Callable[[np.ndarray], np.ndarray]) -> Pair:
    return operation(pair[0]), operation(pair[1])


def _random_kernel(rng: np.random.Generator) -> int:
    return int(rng.choice(_KERNELS))
