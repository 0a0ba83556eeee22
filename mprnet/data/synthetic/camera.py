"""Camera noise as a degradation: from a picture back to the light on the sensor, add noise, and develop again.

The method follows Brooks et al., "Unprocessing Images for Learned Raw Denoising" (CVPR 2019), and CycleISP (CVPR 2020).
Developing changes the noise: demosaicking spreads it to neighbouring pixels, the colour matrix spreads it to the other
channels, and the tone curve makes it strongest in the shadows.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.noise import random_shot_read, shot_read_noise
from mprnet.data.synthetic.tone_table import ROOTS, look_up

# The off-diagonal entries of matrices from camera colours to sRGB, about as of common cameras. The diagonal is chosen
# so that each row sums to 1 and greys stay grey. No entry is positive, so the inverse matrix maps every colour to light
# above 0.
_CROSSTALK = np.array([[0, -0.55, -0.15], [-0.25, 0, -0.35], [-0.02, -0.52, 0]])
# Malvar, He and Cutler, "High-quality linear interpolation for demosaicing" (ICASSP 2004), Figure 2, in eighths.
_GREEN = np.array([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]])
_SAME_ROW = np.array([[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]])
_DIAGONAL = np.array([[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]])


@dataclass(frozen=True)
class Camera:
    """A camera with the settings of one photograph."""

    gains: np.ndarray  # (3,) white balance, each at least 1
    matrix: np.ndarray  # (3, 3) from white-balanced camera colours to linear sRGB
    contrast: float  # of the tone curve: 0 is plain sRGB, 1 adds Brooks et al.'s smoothstep, below 0 lifts the shadows
    exposure: float  # the share of the sensor's range that white fills, at most 1

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Camera":
        crosstalk = np.minimum(rng.uniform(0.6, 1.1) * (_CROSSTALK + 0.1 * rng.standard_normal((3, 3))), 0) * (
            1 - np.eye(3)
        )
        matrix = crosstalk + np.diag(1 - crosstalk.sum(axis=1))
        gains = np.array([rng.uniform(1.2, 2.8), 1.0, rng.uniform(1.2, 2.8)])
        return cls(gains, matrix, contrast=rng.uniform(-0.8, 0.9), exposure=rng.uniform(0.5, 1.0))

    def undevelop(self, image: np.ndarray) -> np.ndarray:
        """Convert an sRGB image, (H, W, 3) uint8, to the light on the sensor, (H, W, 3) float32 in [0, 1].

        ``develop`` gives the image back up to one grey level.
        """
        light, tones = self.tone_curve()
        linear = np.interp(np.arange(256) / 255, tones, light).astype(np.float32)[image]
        balanced = cv2.transform(linear, np.linalg.inv(self.matrix).astype(np.float32))
        return np.clip(balanced * (self.exposure / self.gains).astype(np.float32), 0, 1)

    def develop(self, raw: np.ndarray) -> np.ndarray:
        """Convert the light on the sensor, (H, W, 3) float32, to an sRGB image, (H, W, 3) uint8; clipped, rounded."""
        light, tones = self.tone_curve()
        # Light above white is clipped: one channel of the sensor may be saturated there, and white would become pink.
        balanced = np.clip(raw * (self.gains / self.exposure).astype(np.float32), 0, 1)
        linear = np.clip(cv2.transform(balanced, self.matrix.astype(np.float32)), 0, 1)
        table = np.interp(ROOTS**2, light, tones)
        return look_up(np.rint(255 * table).astype(np.uint8), linear)

    def tone_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the tone curve: values of light, and the tone at each, both rising from 0 to 1."""
        light = np.linspace(0, 1, 1024) ** 3
        srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        return light, srgb + self.contrast * (3 * srgb**2 - 2 * srgb**3 - srgb)


def mosaic(raw: np.ndarray) -> np.ndarray:
    """Return the pixels of an image, (H, W, 3), that a sensor with a Bayer filter (RGGB) records: (H, W)."""
    bayer = raw[:, :, 1].copy()
    bayer[::2, ::2] = raw[::2, ::2, 0]
    bayer[1::2, 1::2] = raw[1::2, 1::2, 2]
    return bayer


def demosaick(bayer: np.ndarray) -> np.ndarray:
    """Convert (H, W) float32 of an RGGB filter to (H, W, 3), by Malvar, He and Cutler's linear filters."""
    # Reflection about the pixels of the border continues the pattern of the Bayer filter.
    green, row, column, diagonal = (
        cv2.filter2D(bayer, -1, (kernel / 8).astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
        for kernel in (_GREEN, _SAME_ROW, _SAME_ROW.T, _DIAGONAL)
    )
    image = np.stack([bayer] * 3, axis=2)
    for y, x, own, other in ((0, 0, 0, 2), (1, 1, 2, 0)):
        image[y::2, x::2, 1] = green[y::2, x::2]
        image[y::2, x::2, other] = diagonal[y::2, x::2]
        image[y::2, 1 - x :: 2, own] = row[y::2, 1 - x :: 2]
        image[1 - y :: 2, x::2, own] = column[1 - y :: 2, x::2]
    return image


def compress_jpeg(rng: np.random.Generator, image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image, (H, W, 3) uint8, after JPEG compression. The blocks have a random offset, as in a crop."""
    height, width = image.shape[:2]
    top, left = rng.integers(0, 16, 2).tolist()
    padded = cv2.copyMakeBorder(image, top, 0, left, 0, cv2.BORDER_REFLECT)
    colour = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if rng.random() < 0.4 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, colour]
    file = cv2.imencode(".jpg", padded[:, :, ::-1], options)[1]
    decoded = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(decoded[top : top + height, left : left + width, ::-1])


def camera_noise(rng: np.random.Generator, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add the noise of a random camera, and compress most of the images as JPEG.

    Args:
        clean: (H, W, 3) uint8, sRGB.

    Returns:
        The noisy image, and the target, which is ``clean`` developed by the same camera without noise. So they differ
        only in noise and compression. Both are (H, W, 3) uint8.
    """
    noisy, target = noisy_photograph(rng, clean, Camera.random(rng), *random_shot_read(rng))
    if rng.random() < 0.6:
        noisy = compress_jpeg(rng, noisy, int(rng.integers(50, 99)))
    return noisy, target


def noisy_photograph(
    rng: np.random.Generator, clean: np.ndarray, camera: Camera, shot: float, read: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image as ``camera`` takes it with noise, and without noise; each (H, W, 3) uint8.

    Args:
        clean: (H, W, 3) uint8, sRGB.
        shot, read: strength of the noise, see ``shot_read_noise``.
    """
    raw = camera.undevelop(clean)
    bayer = mosaic(raw)
    measured = np.minimum(shot_read_noise(rng, bayer, shot, read), 1)
    # Only the noise is demosaicked. This is possible because demosaicking is linear. Drawn edges are sharper than those
    # of any lens: demosaicking would add zippers and coloured dots along them, and a network would learn these as a
    # part of clean pictures.
    return camera.develop(raw + demosaick(measured - bayer)), camera.develop(raw)
