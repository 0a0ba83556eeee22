"""Thin things on top of a picture: lines, curves, letter-like signs, bundles of hair."""

import cv2
import numpy as np

from mprnet.data.synthetic.palette import Palette

# Coordinates are handed to OpenCV in sixteenths of a pixel.
_SHIFT = 4


def draw_strokes(rng: np.random.Generator, canvas: np.ndarray, palette: Palette) -> None:
    """Between 2 and 20 strokes of any kind on ``canvas``, (side, side, 3) float32, in place."""
    side = canvas.shape[0]
    for _ in range(int(rng.integers(2, 20))):
        start = rng.uniform(0, side, 2)
        kind = rng.random()
        if kind < 0.3:
            _ink(canvas, _signs(rng) + start, palette.draw(rng), int(rng.integers(1, 6)))
        elif kind < 0.45:
            _hair(rng, canvas, palette, start)
        else:
            bend = np.cumsum(rng.standard_normal((24, 2)) * 0.3, axis=0) + rng.standard_normal(2)
            path = start + np.cumsum(bend, axis=0) * rng.uniform(1, 12)
            _ink(canvas, path[None], palette.draw(rng), int(rng.integers(1, 6)))


def _ink(canvas: np.ndarray, paths: np.ndarray, colour: np.ndarray, width: int) -> None:
    """Draw ``paths``, (strokes, points, 2) as x and y."""
    points = np.rint(paths * 2**_SHIFT).astype(np.int32)
    cv2.polylines(canvas, list(points), False, colour.tolist(), width, cv2.LINE_8, _SHIFT)


def _hair(rng: np.random.Generator, canvas: np.ndarray, palette: Palette, start: np.ndarray) -> None:
    """Many thin curves of about one direction and colour, each a little lighter or darker, thinner than a pixel."""
    direction, spread = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.3)
    length, width = rng.uniform(20, 160), rng.uniform(10, 150)
    colour, contrast = palette.draw(rng), rng.uniform(0.02, 0.3)
    curl = rng.standard_normal() * 1.0
    along = np.linspace(0, 1, 10)
    for _ in range(int(rng.integers(30, 200))):
        angle = direction + spread * rng.standard_normal() + (curl + 0.2 * rng.standard_normal()) * along
        steps = length * rng.uniform(0.5, 1.0) / along.size * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        path = start + width * (rng.random(2) - 0.5) + np.cumsum(steps, axis=0)
        _ink(canvas, path[None], colour + contrast * rng.standard_normal(), 1)


def _signs(rng: np.random.Generator) -> np.ndarray:
    """A row of made-up letters, each of three short strokes: (strokes, points, 2) from the origin on."""
    letters, height = int(rng.integers(3, 12)), rng.uniform(8, 40)
    points = rng.integers(0, 3, (letters, 3, 4, 2)) * np.array([0.3, 0.5]) * height
    points[..., 0] += np.arange(letters)[:, None, None] * 0.9 * height
    return points.reshape(letters * 3, 4, 2)
