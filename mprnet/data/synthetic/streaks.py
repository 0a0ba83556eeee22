"""The light of rain: layers of streaks of drops at several distances."""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.drawing import FRACTION_BITS, to_fixed_point

# Mixed: soft streaks, from sparse and thin to dense and long. Jagged: hard streaks with stairs, as in Rain100H (Yang et
# al., "Deep joint rain detection and removal", CVPR 2017). Fine: many short, thin and faint streaks, as in photographs.
STYLES = ("mixed", "jagged", "fine")
_SHADES = 6  # different brightnesses within a layer
_MOST = 2000  # streaks in a layer


@dataclass(frozen=True)
class Layer:
    """Streaks of drops at one distance."""

    angle: float  # direction of the streaks, in radians from straight down
    length: float  # of the streaks, in pixels
    width: float  # standard deviation across a streak, in pixels
    density: float  # streaks per pixel
    brightness: float  # of the brightest streak; 1 is white
    spread: float  # variation of directions and lengths within the layer
    blur: float = 0.0  # standard deviation, in pixels, of drops out of focus

    @classmethod
    def random(cls, rng: np.random.Generator, heaviness: float, angle: float) -> "Layer":
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

    @classmethod
    def random_jagged(cls, rng: np.random.Generator, heaviness: float, angle: float) -> "Layer":
        """Return a layer of hard streaks. ``heaviness`` is mostly that of the coverage."""
        length, width = 2 ** rng.uniform(3.6, 6.8), rng.choice([0.5, 1.0, 1.5], p=[0.5, 0.35, 0.15])
        covered = rng.uniform(0.03, 0.15 + 0.75 * heaviness)
        return cls(
            angle=angle + rng.choice([0.03, 0.3]) * rng.standard_normal(),
            length=length,
            width=width,
            density=covered / (length * 2 * width),
            brightness=rng.uniform(0.12, 0.35 + 0.3 * heaviness),
            spread=rng.uniform(0, 0.04),
        )

    @classmethod
    def random_fine(cls, rng: np.random.Generator, heaviness: float, angle: float) -> "Layer":
        """Return a layer of thin streaks, sharp or out of focus, faint if they are dense."""
        length, width = 2 ** rng.uniform(3.4, 6.0), rng.uniform(0.25, 0.6)
        covered = rng.uniform(0.02, 0.1 + 0.5 * heaviness)
        return cls(
            angle=angle + rng.choice([0.02, 0.12]) * rng.standard_normal(),
            length=length,
            width=width,
            density=covered / (length * 2.5 * width),
            brightness=rng.uniform(0.12, 0.75) * (1 - 0.5 * heaviness),
            spread=rng.uniform(0, 0.12),
            blur=rng.choice([0.0, rng.uniform(0.2, 0.9)]),
        )


def random_streaks(
    rng: np.random.Generator, height: int, width: int, heaviness: float, style: str = "mixed"
) -> np.ndarray:
    """Return the light of all layers of rain, (height, width) float32, at least 0.

    Args:
        heaviness: 0 (light) to 1 (heavy).
        style: one of ``STYLES``.
    """
    light: np.ndarray = np.zeros((height, width), np.float32)
    # Mostly straight down, sometimes driven by wind.
    angle = rng.uniform(-1, 1) if rng.random() < (0.25 if style == "mixed" else 0.4) else 0.3 * rng.standard_normal()
    for _ in range(1 + int(rng.binomial(4, 0.15 + 0.5 * heaviness))):
        light += _random_layer(rng, height, width, heaviness, angle, style)
    if rng.random() < 0.5 and min(height, width) > 1:
        # Illumination and gusts of wind make rain more visible in some places than in others.
        coarse = rng.uniform(0.3, 1.0, (4, 4)).astype(np.float32)
        light *= cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return light


def _random_layer(
    rng: np.random.Generator, height: int, width: int, heaviness: float, angle: float, style: str
) -> np.ndarray:
    if style == "jagged":
        layer = Layer.random_jagged(rng, heaviness, angle)
        return draw_jagged(rng, height, width, layer)
    if style == "fine":
        layer = Layer.random_fine(rng, heaviness, angle)
        light = draw_streaks(rng, height, width, layer)
        return cv2.GaussianBlur(light, (0, 0), layer.blur) if layer.blur else light
    layer = Layer.random(rng, heaviness, angle)
    return (draw_streaks if rng.random() < 0.5 else smear_drops)(rng, height, width, layer)


def draw_streaks(rng: np.random.Generator, height: int, width: int, layer: Layer) -> np.ndarray:
    """Draw each streak with its own length, direction and brightness, and with fading ends; (height, width) float32."""
    canvas = _draw_lines(rng, height, width, layer, cv2.LINE_AA)
    soft = cv2.GaussianBlur(canvas, (0, 0), 0.5)
    faded: np.ndarray = _blur_along(soft, layer.angle, 0.2 * layer.length) / np.float32(255)
    return faded


def draw_jagged(rng: np.random.Generator, height: int, width: int, layer: Layer) -> np.ndarray:
    """Draw each streak without antialiasing and fading; (height, width) float32."""
    return _draw_lines(rng, height, width, layer, cv2.LINE_8) / np.float32(255)


def _draw_lines(rng: np.random.Generator, height: int, width: int, layer: Layer, kind: int) -> np.ndarray:
    """Draw the streaks of a layer as lines of OpenCV's ``kind``, (height, width) uint8."""
    margin = int(layer.length)
    count = min(1 + int(rng.poisson(layer.density * (height + 2 * margin) * (width + 2 * margin))), _MOST)
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
        cv2.polylines(canvas, list(group), False, min(value, 255), thickness, kind, FRACTION_BITS)
    return canvas


def smear_drops(rng: np.random.Generator, height: int, width: int, layer: Layer) -> np.ndarray:
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
