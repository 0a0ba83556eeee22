"""Classical restoration methods, to compare the bundled weights with.

Each method has several settings. The benchmark uses the one with the highest mean PSNR over the photographs. This is an
advantage over networks, which have no settings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet, richardson_lucy, wiener

_GAMMA = 2.2


@dataclass(frozen=True)
class Method:
    """A classical restoration method.

    Attributes:
        apply: a function (degraded, setting, known) that returns the restored image; images are (H, W, 3) float in
            [0, 1]. ``known`` is what the method gets to know of the degradation: the standard deviation of the noise
            (white is 1), or the kernel of the blur.
        settings: the settings to try.
    """

    name: str
    apply: Callable[[np.ndarray, Any, Any], np.ndarray]
    settings: tuple[Any, ...]


def _non_local_means(image: np.ndarray, strength: float, sigma: float) -> np.ndarray:
    return denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=max(strength * sigma, 1e-3), sigma=sigma, channel_axis=2
    )


def _wavelets(image: np.ndarray, setting: tuple[str, float], sigma: float) -> np.ndarray:
    method, strength = setting
    return denoise_wavelet(
        image, sigma=strength * max(sigma, 1e-3), method=method, convert2ycbcr=True, channel_axis=2, rescale_sigma=True
    )


def _total_variation(image: np.ndarray, strength: float, sigma: float) -> np.ndarray:
    return denoise_tv_chambolle(image, weight=max(strength * sigma, 1e-4), channel_axis=2)


def _unsharp_mask(image: np.ndarray, setting: tuple[float, float], _: Any) -> np.ndarray:
    radius, amount = setting
    return image + amount * (image - cv2.GaussianBlur(image, (0, 0), radius))


def _restore_channels(image: np.ndarray, kernel: np.ndarray, restore: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply ``restore`` to each channel in linear light. The image is padded by reflection, as wide as the kernel."""
    margin = kernel.shape[0]
    linear = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect") ** _GAMMA
    result = np.stack([restore(linear[:, :, channel]) for channel in range(3)], axis=2)
    return np.clip(result[margin:-margin, margin:-margin], 0, 1) ** (1 / _GAMMA)


def _wiener(image: np.ndarray, balance: float, kernel: np.ndarray) -> np.ndarray:
    return _restore_channels(image, kernel, lambda channel: wiener(channel, kernel, balance, clip=False))


def _richardson_lucy(image: np.ndarray, iterations: int, kernel: np.ndarray) -> np.ndarray:
    return _restore_channels(image, kernel, lambda channel: richardson_lucy(channel, kernel, iterations, clip=False))


def _median(image: np.ndarray, size: int, _: Any) -> np.ndarray:
    levels = np.rint(255 * image).astype(np.uint8)
    return cv2.medianBlur(levels, size) / 255.0


def _guided_filter(image: np.ndarray, setting: tuple[int, float], _: Any) -> np.ndarray:
    """Apply a guided filter (He et al., ECCV 2010), which keeps the edges of its guide.

    The guide is the minimum over three pixels of a row, in which few streaks are left.
    """
    radius, epsilon = setting
    guide = cv2.GaussianBlur(cv2.erode(image.min(axis=2), np.ones((1, 3))), (0, 0), 0.7)[:, :, None]

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1)).reshape(*x.shape[:2], -1)

    slope = (mean(guide * image) - mean(guide) * mean(image)) / (mean(guide**2) - mean(guide) ** 2 + epsilon)
    offset = mean(image) - slope * mean(guide)
    return mean(slope) * guide + mean(offset)


DENOISERS = (
    Method("non-local means", _non_local_means, (0.4, 0.6, 0.8, 1.0)),
    Method(
        "wavelets",
        _wavelets,
        (("BayesShrink", 0.8), ("BayesShrink", 1.0), ("BayesShrink", 1.3), ("VisuShrink", 0.3), ("VisuShrink", 0.5)),
    ),
    Method("total variation", _total_variation, (0.5, 0.75, 1.0, 1.3, 1.6)),
)
BLIND_DEBLURRERS = (
    Method("unsharp mask", _unsharp_mask, ((1, 0.3), (1, 0.7), (2, 0.3), (2, 0.7), (3, 0.5), (3, 1.0), (5, 0.5))),
)
DEBLURRERS = (
    *BLIND_DEBLURRERS,
    Method("Wiener, told the kernel", _wiener, (1e-3, 3e-3, 0.01, 0.03, 0.1)),
    Method("Richardson-Lucy, told the kernel", _richardson_lucy, (5, 10, 25, 50, 100)),
)
DERAINERS = (
    Method("median", _median, (3, 5)),
    Method("guided filter", _guided_filter, ((2, 1e-4), (2, 1e-3), (4, 1e-4), (4, 1e-3), (8, 1e-3))),
)
