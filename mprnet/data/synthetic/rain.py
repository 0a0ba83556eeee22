"""Rain as a degradation: layers of streaks at several distances, and the mist of what is farther away.

Light rain is sparse, thin and of one direction, as in Rain100L; heavy rain is dense, long and of several directions, as
in Rain100H (Yang et al., "Deep joint rain detection and removal", CVPR 2017).
"""

from dataclasses import dataclass

import cv2
import numpy as np

DRY = 0.15  # part of the samples that it does not rain in
HEAVINESS = (0.5, 0.8)  # of a beta distribution: both ends, which is where the benchmarks are, and the light one more
_SHADES = 6  # different brightnesses within a layer
_SHIFT = 4  # coordinates are handed to OpenCV in sixteenths of a pixel


@dataclass(frozen=True)
class _Layer:
    """Drops at one distance."""

    angle: float  # of the fall, radians from straight down
    length: float  # of the streaks, pixels
    width: float  # standard deviation across, pixels
    density: float  # streaks per pixel
    brightness: float  # of the brightest; 1 is white
    spread: float  # of directions and lengths within the layer

    @classmethod
    def random(cls, rng: np.random.Generator, heaviness: float, angle: float) -> "_Layer":
        """A layer of rain between light (0) and heavy (1), about in the direction ``angle``."""
        near = 2 ** rng.uniform(-1, 1)  # drops at half the distance look twice as large and are a quarter as many
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
    """A picture in the rain, or now and then as it is.

    Args:
        clean: (H, W, 3) uint8.
        dry: how often it is left as it is, 0 to 1.

    Returns:
        The rainy picture, same shape, uint8, and ``clean``.
    """
    if rng.random() < dry:
        return clean, clean
    heaviness = rng.beta(*HEAVINESS)
    scene: np.ndarray = clean / np.float32(255)
    if rng.random() < 0.3 * heaviness:
        scene = _mist(rng, scene, rng.uniform(0.05, 0.35))
    light = streaks(rng, clean.shape[0], clean.shape[1], heaviness)
    tint = (1 + 0.03 * rng.standard_normal(3)).astype(np.float32)
    rainy = add_streaks(scene, light[:, :, None] * np.minimum(tint, 1), screen=rng.random() < 0.5)
    return np.rint(255 * rainy).astype(np.uint8), clean


def streaks(rng: np.random.Generator, height: int, width: int, heaviness: float) -> np.ndarray:
    """The light of all layers of rain between light (0) and heavy (1), (height, width) float32, at least 0."""
    light: np.ndarray = np.zeros((height, width), np.float32)
    # Mostly straight down, at times driven by wind.
    angle = rng.uniform(-1, 1) if rng.random() < 0.25 else 0.3 * rng.standard_normal()
    for _ in range(1 + int(rng.binomial(4, 0.15 + 0.5 * heaviness))):
        layer = _Layer.random(rng, heaviness, angle)
        light += (_drawn if rng.random() < 0.5 else _smeared)(rng, height, width, layer)
    if rng.random() < 0.5 and min(height, width) > 1:
        # Rain is seen better here than there: by the light, and as gusts pass.
        coarse = rng.uniform(0.3, 1.0, (4, 4)).astype(np.float32)
        light *= cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return light


def add_streaks(scene: np.ndarray, light: np.ndarray, screen: bool) -> np.ndarray:
    """``light`` added to ``scene``, both (H, W, 3) float32; in [0, 1]. Never darker than ``scene``.

    Args:
        screen: what is bright already gains less (1 - (1 - scene) (1 - light)), instead of being clipped.
    """
    if screen:
        return 1 - (1 - scene) * (1 - np.clip(light, 0, 1))
    return np.clip(scene + light, 0, 1)


def _drawn(rng: np.random.Generator, height: int, width: int, layer: _Layer) -> np.ndarray:
    """Streak for streak, each of its own length, direction and brightness, with fading ends."""
    margin = int(layer.length)
    count = min(1 + int(rng.poisson(layer.density * (height + 2 * margin) * (width + 2 * margin))), 2000)
    middle = rng.random((count, 2)) * [width + 2 * margin, height + 2 * margin]
    angle = layer.angle + layer.spread * rng.standard_normal(count)
    reach = layer.length / 2 * np.exp(5 * layer.spread * rng.standard_normal(count))
    half = reach[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    ends = np.stack([middle - half, middle + half], axis=1) - margin
    points = np.rint(ends * 2**_SHIFT).astype(np.int32)
    ink = np.zeros((height, width), np.uint8)
    # Each shade is drawn at once; the brighter ones on top.
    for shade, group in enumerate(np.array_split(points, _SHADES), 1):
        value = 255 * layer.brightness * (0.25 + 0.75 * shade / _SHADES)
        cv2.polylines(ink, list(group), False, min(value, 255), max(1, round(2 * layer.width)), cv2.LINE_AA, _SHIFT)
    soft = cv2.GaussianBlur(ink, (0, 0), 0.5)
    faded: np.ndarray = _along(soft, layer.angle, 0.2 * layer.length) / np.float32(255)
    return faded


def _smeared(rng: np.random.Generator, height: int, width: int, layer: _Layer) -> np.ndarray:
    """Points, some brighter than others, smeared along the fall."""
    margin = int(np.ceil(layer.length / 2)) + 1
    shape = (height + 2 * margin, width + 2 * margin)
    count = int(rng.poisson(layer.density * shape[0] * shape[1]))
    drops = np.zeros(shape, np.float32)
    drops[rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = rng.uniform(0.2, 1, count)
    wide = cv2.GaussianBlur(drops, (0, 0), layer.width)
    # What remains of a drop of 1 in the middle of its streak.
    peak = 1 / (np.sqrt(2 * np.pi) * layer.width * layer.length)
    light = _along(wide, layer.angle, layer.length) * np.float32(layer.brightness / peak)
    return np.clip(light[margin : margin + height, margin : margin + width], 0, 1)


def _along(image: np.ndarray, angle: float, length: float) -> np.ndarray:
    """Mean over ``length`` pixels in the direction ``angle``, centred, float32; steps that double make it quick."""
    result: np.ndarray = image.astype(np.float32)
    number = max(1, int(np.log2(max(length, 1))) + 1)
    step = length / 2**number
    for k in range(number):
        # Half a step to either side: 2^number places in all, evenly spaced over the length.
        dx, dy = np.array([np.sin(angle), np.cos(angle)]) * step * 2**k / 2
        there, back = (
            cv2.warpAffine(
                result,
                np.array([[1, 0, sign * dx], [0, 1, sign * dy]]),
                result.shape[::-1],
                borderMode=cv2.BORDER_REFLECT,
            )
            for sign in (1, -1)
        )
        result = 0.5 * (there + back)
    return result


def _mist(rng: np.random.Generator, scene: np.ndarray, strength: float) -> np.ndarray:
    """Towards one pale grey by ``strength``, here more and there less; (H, W, 3) float32 in [0, 1]."""
    height, width = scene.shape[:2]
    coarse = (strength * rng.uniform(0.6, 1.4, (3, 3))).astype(np.float32)
    share = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)[:, :, None]
    return scene + share * (np.float32(rng.uniform(0.65, 0.95)) - scene)
