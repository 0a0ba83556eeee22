"""A camera's way from light to a picture file, and back; noise is added where it arises, in between.

After Brooks et al., "Unprocessing Images for Learned Raw Denoising" (CVPR 2019), and CycleISP (CVPR 2020): a picture is
taken back to what the sensor saw, noise is added there, and the result is developed again. Demosaicking then spreads
the noise over neighbours, the colour matrix over channels, and the tone curve makes it strongest in the shadows.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.noise import random_shot_read, shot_read_noise

# Camera to sRGB after white balance, as of common cameras: what a channel loses to the others. Rows of the whole matrix
# add up to 1, so that greys stay grey; none of these being positive, its inverse takes every colour to light above 0.
_CROSSTALK = np.array([[0, -0.55, -0.15], [-0.25, 0, -0.35], [-0.02, -0.52, 0]])
_LEVELS = 4096
# Malvar, He and Cutler, "High-quality linear interpolation for demosaicing" (ICASSP 2004), Figure 2; eighths.
_GREEN = np.array([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]])
_SAME_ROW = np.array([[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]])
_DIAGONAL = np.array([[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]])


@dataclass(frozen=True)
class Camera:
    """One camera under one light, set to one exposure."""

    gains: np.ndarray  # (3,) white balance, at least 1
    matrix: np.ndarray  # (3, 3) balanced camera colours to linear sRGB
    contrast: float  # of the tone curve, 0 (plain sRGB) to 1 (Brooks et al.'s smoothstep)
    exposure: float  # part of the sensor's range that a white picture fills, at most 1

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Camera":
        others = np.minimum(rng.uniform(0.6, 1.1) * (_CROSSTALK + 0.1 * rng.standard_normal((3, 3))), 0) * (
            1 - np.eye(3)
        )
        matrix = others + np.diag(1 - others.sum(axis=1))
        gains = np.array([rng.uniform(1.4, 2.4), 1.0, rng.uniform(1.4, 2.4)])
        return cls(gains, matrix, contrast=rng.uniform(0, 0.9), exposure=rng.uniform(0.5, 1.0))

    def undevelop(self, image: np.ndarray) -> np.ndarray:
        """An sRGB picture (H, W, 3) uint8 to the light on the sensor, (H, W, 3) float32 in [0, 1].

        ``develop`` undoes it within a grey level.
        """
        light, tones = self.tone_curve()
        linear = np.interp(np.arange(256) / 255, tones, light).astype(np.float32)[image]
        balanced = cv2.transform(linear, np.linalg.inv(self.matrix).astype(np.float32))
        return np.clip(balanced * (self.exposure / self.gains).astype(np.float32), 0, 1)

    def develop(self, raw: np.ndarray) -> np.ndarray:
        """The light on the sensor, (H, W, 3) float32, to an sRGB picture, (H, W, 3) uint8; clipped and rounded."""
        light, tones = self.tone_curve()
        # White is where the first channel may saturate: brighter light would be pink.
        balanced = np.clip(raw * (self.gains / self.exposure).astype(np.float32), 0, 1)
        linear = np.clip(cv2.transform(balanced, self.matrix.astype(np.float32)), 0, 1)
        # The curve is steep in the shadows, so the table is over the square root.
        table = np.interp(np.linspace(0, 1, _LEVELS) ** 2, light, tones)
        place = np.rint(np.sqrt(linear) * (_LEVELS - 1)).astype(np.int32)
        return np.rint(255 * table).astype(np.uint8)[place]

    def tone_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Light, and the tone that the picture has there, each rising from 0 to 1."""
        light = np.linspace(0, 1, 1024) ** 3
        srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        return light, srgb + self.contrast * (3 * srgb**2 - 2 * srgb**3 - srgb)


def mosaic(raw: np.ndarray) -> np.ndarray:
    """What a sensor with a Bayer filter (RGGB) keeps of (H, W, 3): (H, W)."""
    bayer = raw[:, :, 1].copy()
    bayer[::2, ::2] = raw[::2, ::2, 0]
    bayer[1::2, 1::2] = raw[1::2, 1::2, 2]
    return bayer


def demosaick(bayer: np.ndarray) -> np.ndarray:
    """(H, W) float32 under an RGGB filter to (H, W, 3), by Malvar, He and Cutler's linear filters."""
    # Reflection about the border's pixel goes on with the filter's pattern.
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


def jpeg(rng: np.random.Generator, image: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 as JPEG of that quality gives it back; its blocks begin anywhere, as in a crop."""
    height, width = image.shape[:2]
    top, left = rng.integers(0, 16, 2).tolist()
    framed = cv2.copyMakeBorder(image, top, 0, left, 0, cv2.BORDER_REFLECT)
    colour = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if rng.random() < 0.4 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, colour]
    file = cv2.imencode(".jpg", framed[:, :, ::-1], options)[1]
    decoded = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(decoded[top : top + height, left : left + width, ::-1])


def camera_noise(rng: np.random.Generator, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture as a random camera takes it in little light, half of the time as JPEG; and without noise and JPEG.

    Args:
        clean: (H, W, 3) uint8, sRGB.

    Returns:
        The noisy picture and the clean one, which has been through the same camera, so that noise is all that is to be
        removed; same shape, uint8.
    """
    noisy, target = noisy_photograph(rng, clean, Camera.random(rng), *random_shot_read(rng))
    if rng.random() < 0.5:
        noisy = jpeg(rng, noisy, int(rng.integers(70, 99)))
    return noisy, target


def noisy_photograph(
    rng: np.random.Generator, clean: np.ndarray, camera: Camera, shot: float, read: float
) -> tuple[np.ndarray, np.ndarray]:
    """A picture as ``camera`` takes it with noise of ``shot`` and ``read`` (see shot_read_noise); and without noise.

    Args:
        clean: (H, W, 3) uint8, sRGB.

    Returns:
        Each of the same shape, uint8.
    """
    raw = camera.undevelop(clean)
    bayer = mosaic(raw)
    counted = np.minimum(shot_read_noise(rng, bayer, shot, read), 1)
    # Demosaicking is linear, so what it makes of the noise can be had without what it makes of drawn edges: those are
    # sharper than any lens's, and the zips and coloured dots along them would be learned as part of clean pictures.
    return camera.develop(raw + demosaick(counted - bayer)), camera.develop(raw)
