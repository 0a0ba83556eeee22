"""Rain as a degradation: layers of streaks at several distances, and mist.

Light rain has few and thin streaks of one direction, as in Rain100L. Heavy rain has many long streaks of several
directions, as in Rain100H (Yang et al., "Deep joint rain detection and removal", CVPR 2017).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.drawing import FRACTION_BITS, to_fixed_point

DRY = 0.15  # share of the samples without rain
# The heaviness of rain, 0 to 1, has this beta distribution. Light and heavy rain are more frequent than rain between
# them, because the benchmarks have these two. Light rain is the most frequent.
HEAVINESS = (0.5, 0.8)
_SHADES = 6  # different brightnesses within a layer


@dataclass(frozen=True)
class _Layer:
    """Streaks of drops at one distance."""

    angle: float  # direction of the streaks, in radians from straight down
    length: float  # of the streaks, in pixels
    width: float  # standard deviation across a streak, in pixels
    density: float  # streaks per pixel
    brightness: float  # of the brightest streak; 1 is white
    spread: float  # variation of directions and lengths within the layer

    @classmethod
    def random(cls, rng: np.random.Generator, heaviness: float, angle: float) -> "_Layer":
        """Return a layer of rain between light (0) and heavy (1), with about the direction ``angle``."""
        # At half the distance, drops look twice as large, and a quarter as many are in view.
        near = 2 ** rng.uniform(-1, 1)
        width = near**0.7 * rng.uniform(0.35, 0.65 + 0.3 * heaviness)
        return cls(
            angle=angle + (0.03 + 0.25 * heaviness) * rng.standard_normal(),
            length=max(near * rng.uniform(9, 26 + 18 * heaviness), 15 * width),
            width=width,
            density=near**-2 * 2 ** rng.uniform(-10.5 + 2.0 * heaviness, -8.5 + 1.8 * heaviness),
            brightness=near**0.3 * rng.uniform(0.12 + 0.15 * heaviness, 0.6 + 0.3 * heaviness),
            spread=rng.uniform(0, 0.06),
        )


def rain(rng: np.random.Generator, clean: np.ndarray, dry: float = DRY) -> tuple[np.ndarray, np.ndarray]:
    """Add random rain to an image.

    Args:
        clean: (H, W, 3) uint8.
        dry: probability of no rain, 0 to 1.

    Returns:
        The rainy image, (H, W, 3) uint8, and ``clean``.
    """
    if rng.random() < dry:
        return clean, clean
    heaviness = rng.beta(*HEAVINESS)
    scene: np.ndarray = clean / np.float32(255)
    if rng.random() < 0.3 * heaviness:
        scene = _add_mist(rng, scene, rng.uniform(0.05, 0.35))
    light = random_streaks(rng, clean.shape[0], clean.shape[1], heaviness)
    tint = (1 + 0.03 * rng.standard_normal(3)).astype(np.float32)
    rainy = add_streaks(scene, light[:, :, None] * np.minimum(tint, 1), screen=rng.random() < 0.5)
    return np.rint(255 * rainy).astype(np.uint8), clean


def random_streaks(rng: np.random.Generator, height: int, width: int, heaviness: float) -> np.ndarray:
    """Return the light of all layers of rain, (height, width) float32, at least 0.

    Args:
        heaviness: 0 (light) to 1 (heavy).
    """
    light: np.ndarray = np.zeros((height, width), np.float32)
    # Mostly straight down, sometimes driven by wind.
    angle = rng.uniform(-1, 1) if rng.random() < 0.25 else 0.3 * rng.standard_normal()
    for _ in range(1 + int(rng.binomial(4, 0.15 + 0.5 * heaviness))):
        layer = _Layer.random(rng, heaviness, angle)
        light += (_draw_streaks if rng.random() < 0.5 else _smear_drops)(rng, height, width, layer)
    if rng.random() < 0.5 and min(height, width) > 1:
        # Illumination and gusts of wind make rain more visible in some places than in others.
        coarse = rng.uniform(0.3, 1.0, (4, 4)).astype(np.float32)
        light *= cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return light


def add_streaks(scene: np.ndarray, light: np.ndarray, screen: bool) -> np.ndarray:
    """Return ``scene`` plus ``light``, both (H, W, 3) float32, in [0, 1]. No pixel becomes darker.

    Args:
        screen: True: 1 - (1 - scene) (1 - light), which adds less where the scene is bright. False: the sum, clipped.
    """
    if screen:
        return 1 - (1 - scene) * (1 - np.clip(light, 0, 1))
    return np.clip(scene + light, 0, 1)


def _draw_streaks(rng: np.random.Generator, height: int, width: int, layer: _Layer) -> np.ndarray:
    """Draw each streak with its own length, direction and brightness, and with fading ends; (height, width) float32."""
    margin = int(layer.length)
    count = min(1 + int(rng.poisson(layer.density * (height + 2 * margin) * (width + 2 * margin))), 2000)
    middle = rng.random((count, 2)) * [width + 2 * margin, height + 2 * margin]
    angle = layer.angle + layer.spread * rng.standard_normal(count)
    half_length = layer.length / 2 * np.exp(5 * layer.spread * rng.standard_normal(count))
    half = half_length[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    ends = np.stack([middle - half, middle + half], axis=1) - margin
    canvas = np.zeros((height, width), np.uint8)
    thickness = max(1, round(2 * layer.width))
    # All streaks of one shade are drawn by one call; the brighter ones are drawn later, on top.
    for shade, group in enumerate(np.array_split(to_fixed_point(ends), _SHADES), 1):
        value = 255 * layer.brightness * (0.25 + 0.75 * shade / _SHADES)
        cv2.polylines(canvas, list(group), False, min(value, 255), thickness, cv2.LINE_AA, FRACTION_BITS)
    soft = cv2.GaussianBlur(canvas, (0, 0), 0.5)
    faded: np.ndarray = _blur_along(soft, layer.angle, 0.2 * layer.length) / np.float32(255)
    return faded


def _smear_drops(rng: np.random.Generator, height: int, width: int, layer: _Layer) -> np.ndarray:
    """Draw drops of different brightness as points, and blur them along the streaks; (height, width) float32."""
    margin = int(np.ceil(layer.length / 2)) + 1
    shape = (height + 2 * margin, width + 2 * margin)
    count = int(rng.poisson(layer.density * shape[0] * shape[1]))
    drops = np.zeros(shape, np.float32)
    drops[rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = rng.uniform(0.2, 1, count)
    wide = cv2.GaussianBlur(drops, (0, 0), layer.width)
    # The value in the middle of the streak of a drop of 1.
    peak = 1 / (np.sqrt(2 * np.pi) * layer.width * layer.length)
    light = _blur_along(wide, layer.angle, layer.length) * np.float32(layer.brightness / peak)
    return np.clip(light[margin : margin + height, margin : margin + width], 0, 1)


def _blur_along(image: np.ndarray, angle: float, length: float) -> np.ndarray:
    """Return the centred mean over ``length`` pixels in the direction ``angle``, float32.

    It is fast because the step doubles: n means of two give the mean of 2^n positions.
    """
    result: np.ndarray = image.astype(np.float32)
    number = max(1, int(np.log2(max(length, 1))) + 1)
    step = length / 2**number
    for k in range(number):
        # Half a step to both sides: 2^number positions in all, evenly spaced over the length.
        dx, dy = np.array([np.sin(angle), np.cos(angle)]) * step * 2**k / 2
        forward, backward = (
            cv2.warpAffine(
                result,
                np.array([[1, 0, sign * dx], [0, 1, sign * dy]]),
                result.shape[::-1],
                borderMode=cv2.BORDER_REFLECT,
            )
            for sign in (1, -1)
        )
        result = 0.5 * (forward + backward)
    return result


def _add_mist(rng: np.random.Generator, scene: np.ndarray, strength: float) -> np.ndarray:
    """Blend ``scene``, (H, W, 3) float32 in [0, 1], with a pale grey of weight ``strength``, which varies slowly."""
    height, width = scene.shape[:2]
    coarse = (strength * rng.uniform(0.6, 1.4, (3, 3))).astype(np.float32)
    weight = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)[:, :, None]
    return scene + weight * (np.float32(rng.uniform(0.65, 0.95)) - scene)
