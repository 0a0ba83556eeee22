"""Thin strokes on top of a generated picture: lines, curves, bundles of hair, branches."""

import cv2
import numpy as np

from mprnet.data.synthetic.drawing import FRACTION_BITS, to_fixed_point
from mprnet.data.synthetic.palette import Palette


def draw_strokes(rng: np.random.Generator, canvas: np.ndarray, palette: Palette) -> None:
    """Draw 2 to 15 strokes of random kinds on ``canvas``, (side, side, 3) float32, in place."""
    side = canvas.shape[0]
    for _ in range(int(rng.integers(2, 16))):
        start = rng.uniform(0, side, 2)
        kind = rng.random()
        if kind < 0.25:
            _draw_hair(rng, canvas, palette, start)
        elif kind < 0.4:
            _draw_branches(rng, canvas, palette, start)
        else:
            bend = np.cumsum(rng.standard_normal((24, 2)) * rng.uniform(0, 0.3), axis=0) + rng.standard_normal(2)
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


def _draw_branches(rng: np.random.Generator, canvas: np.ndarray, palette: Palette, start: np.ndarray) -> None:
    """Draw a stem that splits again and again into shorter and thinner ones, as a plant without leaves."""
    colour = palette.random_colour(rng)
    ends, angles = start[None], rng.uniform(0, 2 * np.pi, 1)
    length, width, spread = rng.uniform(15, 90), rng.uniform(2, 8), rng.uniform(0.2, 0.8)
    for _ in range(int(rng.integers(3, 7))):
        steps = length * rng.uniform(0.6, 1.4, (len(ends), 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        _draw_lines(canvas, np.stack([ends, ends + steps], axis=1), colour, max(1, round(width)))
        ends, angles = np.repeat(ends + steps, 2, axis=0), np.repeat(angles, 2)
        angles = angles + spread * rng.standard_normal(len(angles))
        length, width = 0.8 * length, 0.65 * width
