"""Clean pictures without a camera: dead leaves, random shapes that occlude one another.

After Achddou et al., "Synthetic images as a regularity prior for image restoration neural networks" (SSVM 2021) and
"Fully synthetic training for image restoration tasks" (2023): sizes by a power law make the pictures' statistics those
of photographs. Colours, gradients and textures fill the shapes; some pictures have a blurred background, as a lens
makes it, and thin strokes. Nothing is taken from any photograph.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.textures import power_law_noise, random_texture

# Pictures are drawn this many times larger and averaged down, which antialiases every edge.
OVERSAMPLING = 2
_TEXTURES = 5


@dataclass(frozen=True)
class _Palette:
    """The colours of one picture: few, related, mostly dull, as in one scene under one light."""

    centres: np.ndarray  # (k, 3) in [0, 1]
    spread: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> "_Palette":
        count = int(rng.integers(3, 10))
        light, range_ = rng.beta(2.0, 2.0), rng.uniform(0.1, 1.0)
        luma = light + range_ * (rng.beta(1.1, 1.1, count) - light)
        chroma = rng.standard_normal((count, 2)) * rng.gamma(1.2, 0.05) + rng.standard_normal(2) * 0.03
        return cls(np.clip(_rgb(luma, chroma), 0, 1), spread=rng.uniform(0.01, 0.12))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        centre = self.centres[rng.integers(len(self.centres))]
        return centre + self.spread * (rng.standard_normal() + 0.3 * rng.standard_normal(3))


def _rgb(luma: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Luma (k,) and blue and red differences (k, 2) to RGB (k, 3), ITU-R BT.601."""
    cb, cr = chroma[:, 0], chroma[:, 1]
    return np.stack([luma + 1.402 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.772 * cb], axis=1)


def dead_leaves(seed: int, index: int, size: int) -> np.ndarray:
    """Picture number ``index`` of the endless series that ``seed`` names.

    Args:
        seed, index: non-negative; the picture depends on these and ``size`` alone.
        size: height and width in pixels.

    Returns:
        (size, size, 3) uint8, RGB.
    """
    rng = np.random.default_rng([seed, index, size])
    side = size * OVERSAMPLING
    palette = _Palette.random(rng)
    textures = [random_texture(rng, side) for _ in range(_TEXTURES)]
    contrast = rng.gamma(1.5, 0.06)
    canvas: np.ndarray = np.empty((side, side, 3), np.float32)
    canvas[:] = palette.draw(rng)

    _cover(rng, canvas, palette, textures, contrast, coverage=rng.uniform(4.0, 7.0))
    if rng.random() < 0.35:
        canvas = _defocus(rng, canvas)
        _cover(rng, canvas, palette, textures, contrast, coverage=rng.uniform(0.2, 2.0))
    if rng.random() < 0.35:
        _strokes(rng, canvas, palette)
    if rng.random() < 0.5:
        canvas *= 1 + rng.uniform(0.05, 0.3) * power_law_noise(rng, side, 2.0)[:, :, None]
    if rng.random() < 0.5:
        # A lens is never as sharp as a computed edge.
        canvas = cv2.GaussianBlur(canvas, (0, 0), OVERSAMPLING * rng.uniform(0.2, 0.9))
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8)


def _cover(
    rng: np.random.Generator,
    canvas: np.ndarray,
    palette: _Palette,
    textures: list[np.ndarray],
    contrast: float,
    coverage: float,
) -> None:
    """Drop leaves until their areas add up to ``coverage`` times the canvas; later ones lie on top."""
    side = canvas.shape[0]
    smallest, largest = 2.0 * 2 ** rng.uniform(0, 4), side * rng.uniform(0.2, 0.6)
    roundness = rng.uniform(0, 1)
    area, limit = 0.0, coverage * side * side
    while area < limit:
        # Density r^-3 between the bounds, by inversion of its distribution function.
        u = rng.random(64)
        radii = (smallest**-2 + u * (largest**-2 - smallest**-2)) ** -0.5
        # A part of the area is given to large leaves, so that small ones do not hide everything.
        radii[rng.random(64) < 0.1] *= 4
        for radius in np.minimum(radii, largest):
            _leaf(rng, canvas, palette, textures, contrast, float(radius), roundness)
        area += float(np.pi * np.sum(np.minimum(radii, largest) ** 2))


def _leaf(
    rng: np.random.Generator,
    canvas: np.ndarray,
    palette: _Palette,
    textures: list[np.ndarray],
    contrast: float,
    radius: float,
    roundness: float,
) -> None:
    side = canvas.shape[0]
    centre = rng.uniform(-0.1 * side, 1.1 * side, 2)
    outline = np.rint(centre + radius * _outline(rng, roundness)).astype(np.int32)
    low = np.maximum(outline.min(axis=0), 0)
    high = np.minimum(outline.max(axis=0) + 1, side)
    if np.any(high <= low):
        return
    width, height = (high - low).tolist()
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outline - low], 1)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    colour = palette.draw(rng)
    if radius < 3 * OVERSAMPLING:
        region[mask.view(bool)] = colour
        return
    shade = np.zeros((height, width), np.float32)
    if rng.random() < 0.6:
        slope = rng.standard_normal(2) * 0.12 / radius
        shade += (np.arange(height) - height / 2)[:, None] * np.float32(slope[1])
        shade += (np.arange(width) - width / 2)[None, :] * np.float32(slope[0])
    if rng.random() < 0.75:
        texture = textures[rng.integers(len(textures))]
        y, x = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        shade += np.float32(contrast * rng.gamma(1.5, 0.6)) * texture[y : y + height, x : x + width]
    tint = 1 + 0.2 * rng.standard_normal(3)
    fill = (colour + shade[:, :, None] * tint).astype(np.float32)
    cv2.copyTo(fill, mask, region)


def _outline(rng: np.random.Generator, roundness: float) -> np.ndarray:
    """A closed outline around the origin, about radius 1: (points, 2). Smooth blobs, ellipses or polygons."""
    stretch = 2 ** rng.uniform(-1.2, 1.2)
    if rng.random() < roundness:
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        wobble = rng.standard_normal((3, 2)) * rng.uniform(0, 0.25) / np.arange(1, 4)[:, None]
        harmonics = np.arange(1, 4)[:, None] * angle
        distance = 1 + wobble[:, :1].T @ np.cos(harmonics) + wobble[:, 1:].T @ np.sin(harmonics)
        distance = np.maximum(distance, 0.2)[0]
    else:
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        distance = rng.uniform(0.6, 1.2, angle.size)
    points = distance[:, None] * np.stack([np.cos(angle) * stretch**0.5, np.sin(angle) / stretch**0.5], axis=1)
    turn = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.cos(turn), np.sin(turn)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def _defocus(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Blur by a disk, as a lens out of focus does."""
    radius = OVERSAMPLING * 2 ** rng.uniform(-0.5, 3)
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return cv2.filter2D(canvas, -1, disk / disk.sum(), borderType=cv2.BORDER_REFLECT)


def _strokes(rng: np.random.Generator, canvas: np.ndarray, palette: _Palette) -> None:
    """Thin lines, curves and rows of letter-like signs on top of everything."""
    side = canvas.shape[0]
    for _ in range(int(rng.integers(2, 20))):
        start = rng.uniform(0, side, 2)
        if rng.random() < 0.3:
            paths = _signs(rng) + start
        else:
            bend = np.cumsum(rng.standard_normal((24, 2)) * 0.3, axis=0) + rng.standard_normal(2)
            paths = (start + np.cumsum(bend, axis=0) * rng.uniform(1, 12))[None]
        ink = np.zeros((side, side), np.uint8)
        cv2.polylines(ink, list(np.rint(paths).astype(np.int32)), False, 1, int(rng.integers(1, 6)))
        canvas[ink.view(bool)] = palette.draw(rng)


def _signs(rng: np.random.Generator) -> np.ndarray:
    """A row of made-up letters, each of three short strokes: (strokes, points, 2) from the origin on."""
    letters, height = int(rng.integers(3, 12)), rng.uniform(8, 40)
    points = rng.integers(0, 3, (letters, 3, 4, 2)) * np.array([0.3, 0.5]) * height
    points[..., 0] += np.arange(letters)[:, None, None] * 0.9 * height
    return points.reshape(letters * 3, 4, 2)
