"""Thin strokes on top of a generated picture: lines, curves, letters, bundles of hair."""

import cv2
import numpy as np

from mprnet.data.synthetic.drawing import FRACTION_BITS, to_fixed_point
from mprnet.data.synthetic.palette import Palette


def draw_strokes(rng: np.random.Generator, canvas: np.ndarray, palette: Palette) -> None:
    """Draw 2 to 19 strokes of random kinds on ``canvas``, (side, side, 3) float32, in place."""
    side = canvas.shape[0]
    for _ in range(int(rng.integers(2, 20))):
        start = rng.uniform(0, side, 2)
        kind = rng.random()
        if kind < 0.3:
            _draw_lines(canvas, _random_letters(rng) + start, palette.random_colour(rng), int(rng.integers(1, 6)))
        elif kind < 0.45:
            _draw_hair(rng, canvas, palette, start)
        else:
            bend = np.cumsum(rng.standard_normal((24, 2)) * 0.3, axis=0) + rng.standard_normal(2)
            path = start + np.cumsum(bend, axis=0) * rng.uniform(1, 12)
            _draw_lines(canvas, path[None], palette.random_colour(rng), int(rng.integers(1, 6)))


def _draw_lines(canvas: np.ndarray, paths: np.ndarray, colour: np.ndarray, width: int) -> None:
    """Draw ``paths``, (strokes, points, 2), x and y in pixels."""
    cv2.polylines(canvas, list(to_fixed_point(paths)), False, colour.tolist(), width, cv2.LINE_8, FRACTION_BITS)


def _draw_hair(rng: np.random.Generator, canvas: np.ndarray, palette: Palette, start: np.ndarray) -> None:
    """Draw many thin curves of about one direction. Each is a little lighter or darker than the others."""
    direction, spread = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.3)
    length, width = rng.uniform(20, 160), rng.uniform(10, 150)
    colour, contrast = palette.random_colour(rng), rng.uniform(0.02, 0.3)
    curl = rng.standard_normal() * 1.0
    along = np.linspace(0, 1, 10)
    for _ in range(int(rng.integers(30, 200))):
        angle = direction + spread * rng.standard_normal() + (curl + 0.2 * rng.standard_normal()) * along
        steps = length * rng.uniform(0.5, 1.0) / along.size * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        path = start + width * (rng.random(2) - 0.5) + np.cumsum(steps, axis=0)
        _draw_lines(canvas, path[None], colour + contrast * rng.standard_normal(), 1)


def _random_letters(rng: np.random.Generator) -> np.ndarray:
    """Return the strokes of a row of random letters, (strokes, points, 2), starting at the origin; three per letter."""
    letters, height = int(rng.integers(3, 12)), rng.uniform(8, 40)
    points = rng.integers(0, 3, (letters, 3, 4, 2)) * np.array([0.3, 0.5]) * height
    points[..., 0] += np.arange(letters)[:, None, None] * 0.9 * height
    return points.reshape(letters * 3, 4, 2)
