"""Generated clean pictures: dead leaves, which are random shapes that occlude one another.

The method follows Achddou et al., "Synthetic images as a regularity prior for image restoration neural networks" (SSVM
2021) and "Fully synthetic training for image restoration tasks" (2023). The sizes of the leaves have a power law, which
gives the pictures the statistics of photographs. Leaves are filled with colours, shading and textures. Some lie
behind the focus of the lens and are blurred. Some have soft edges, as shadows, fur and smoke have, and some have ragged
ones. Text, rows of equal things, hair and branches lie on top. No photograph is used.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.man_made import draw_man_made
from mprnet.data.synthetic.palette import Palette
from mprnet.data.synthetic.strokes import draw_strokes
from mprnet.data.synthetic.textures import power_law_noise, random_texture

# Pictures are drawn this many times larger and then reduced by averaging, so that edges are antialiased.
OVERSAMPLING = 2
_TEXTURES = 5


@dataclass(frozen=True)
class _Style:
    """What the leaves of one picture have in common."""

    palette: Palette
    textures: list[np.ndarray]  # (side, side) float32 each
    contrast: float  # of the textures
    textured: float  # share of the leaves with a texture
    soft: float  # share of the leaves with soft edges
    rough: float  # share of the leaves with ragged edges

    @classmethod
    def random(cls, rng: np.random.Generator, side: int) -> "_Style":
        return cls(
            palette=Palette.random(rng),
            textures=[random_texture(rng, side) for _ in range(_TEXTURES)],
            contrast=rng.gamma(3.0, 0.04),
            textured=1 - 0.8 * rng.beta(0.6, 2.5),
            soft=rng.beta(0.5, 3.0),
            rough=rng.beta(0.6, 1.0),
        )


def dead_leaves(seed: int, index: int, size: int) -> np.ndarray:
    """Return picture number ``index`` of the random series ``seed``.

    Args:
        seed, index: non-negative integers. The picture depends only on these and ``size``.
        size: height and width in pixels.

    Returns:
        (size, size, 3) uint8, RGB.
    """
    rng = np.random.default_rng([seed, index, size])
    side = size * OVERSAMPLING
    style = _Style.random(rng, side)
    canvas = _fill_leaf(rng, style, style.palette.random_colour(rng), side / 3, side, side)

    # Some pictures are mostly empty, as skies and walls are.
    _draw_leaves(rng, canvas, style, coverage=rng.uniform(2.0, 7.0) if rng.random() < 0.9 else rng.uniform(0.3, 1.5))
    if rng.random() < 0.3:
        canvas = _defocus(rng, canvas)
        _draw_leaves(rng, canvas, style, coverage=rng.uniform(0.1, 2.0))
    if rng.random() < 0.4:
        draw_strokes(rng, canvas, style.palette)
    if rng.random() < 0.4:
        draw_man_made(rng, canvas, style.palette)
    if rng.random() < 0.5:
        canvas *= 1 + rng.uniform(0.05, 0.3) * power_law_noise(rng, side, 2.0)[:, :, None]
    # No lens is as sharp as a computed edge. Some lenses are soft, or out of focus.
    softness = rng.uniform(0.2, 0.45) if rng.random() < 0.75 else rng.uniform(0.45, 1.0)
    canvas = cv2.GaussianBlur(canvas, (0, 0), OVERSAMPLING * softness)
    if rng.random() < 0.04:
        canvas = _defocus(rng, canvas)
    small: np.ndarray = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        # Cameras sharpen their pictures.
        small += rng.uniform(0.2, 1.0) * (small - cv2.GaussianBlur(small, (0, 0), rng.uniform(0.6, 1.2)))
    return np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8)


def _draw_leaves(rng: np.random.Generator, canvas: np.ndarray, style: _Style, coverage: float) -> None:
    """Draw leaves on ``canvas`` until their areas add up to ``coverage`` times its area; later ones lie on top."""
    side = canvas.shape[0]
    smallest, largest = 2.0 * 2 ** rng.uniform(0, 4.2), side * rng.uniform(0.3, 0.8)
    roundness = rng.uniform(0, 1)
    area, limit = 0.0, coverage * side * side
    while area < limit:
        # Radii r with the density r^-3 between the bounds, by inversion of the distribution function.
        radii = (smallest**-2 + rng.random(64) * (largest**-2 - smallest**-2)) ** -0.5
        # Some leaves are made larger, so that small leaves do not cover everything.
        radii[rng.random(64) < 0.1] *= 4
        for radius in np.minimum(radii, largest):
            _draw_leaf(rng, canvas, style, float(radius), roundness)
            area += float(np.pi * min(radius, largest) ** 2)
            if area >= limit:
                return


def _draw_leaf(rng: np.random.Generator, canvas: np.ndarray, style: _Style, radius: float, roundness: float) -> None:
    side = canvas.shape[0]
    centre = rng.uniform(-0.1 * side, 1.1 * side, 2)
    outline = random_outline(rng, roundness)
    if radius > 4 * OVERSAMPLING and rng.random() < style.rough:
        outline = _roughen(rng, outline)
    border = np.rint(centre + radius * outline).astype(np.int32)
    softness = radius * 2 ** rng.uniform(-5, -1.5) if rng.random() < style.soft else 0.0
    reach = int(2 * softness)
    low = np.maximum(border.min(axis=0) - reach, 0)
    high = np.minimum(border.max(axis=0) + reach + 1, side)
    if np.any(high <= low):
        return
    width, height = (high - low).tolist()
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [border - low], 255)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    colour = style.palette.random_colour(rng)
    if radius < 3 * OVERSAMPLING:
        region[mask.view(bool)] = colour
        return
    fill = _fill_leaf(rng, style, colour, radius, height, width)
    if softness >= 1:
        weight = cv2.GaussianBlur(mask, (0, 0), softness)[:, :, None] * np.float32(1 / 255)
        region += weight * (fill - region)
    else:
        cv2.copyTo(fill, mask, region)


def _fill_leaf(
    rng: np.random.Generator, style: _Style, colour: np.ndarray, radius: float, height: int, width: int
) -> np.ndarray:
    """Return the inside of a leaf, (height, width, 3) float32: its colour with a gradient and a texture."""
    side = style.textures[0].shape[0]
    shade = np.zeros((height, width), np.float32)
    if rng.random() < 0.6:
        shade += _random_gradient(rng, height, width, 0.12 / radius)
    if rng.random() < 0.3:
        shade += _random_bulge(rng, height, width)
    if rng.random() < style.textured:
        texture = style.textures[rng.integers(len(style.textures))]
        y, x = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        shade += np.float32(style.contrast * rng.gamma(2.5, 0.36)) * texture[y : y + height, x : x + width]
    tint = 1 + 0.2 * rng.standard_normal(3)
    return (colour + shade[:, :, None] * tint).astype(np.float32)


def _random_gradient(rng: np.random.Generator, height: int, width: int, slope: float) -> np.ndarray:
    """Return a linear gradient of random direction, 0 in the middle, (height, width) float32."""
    down, right = (rng.standard_normal(2) * slope).astype(np.float32)
    return (np.arange(height, dtype=np.float32) - height / 2)[:, None] * down + (
        np.arange(width, dtype=np.float32) - width / 2
    ) * right


def _random_bulge(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return the shading of an ellipsoid that is lit from one side, (height, width) float32."""
    down = np.linspace(-0.7, 0.7, height, dtype=np.float32)[:, None]
    right = np.linspace(-0.7, 0.7, width, dtype=np.float32)
    light = rng.standard_normal(3)
    light *= rng.uniform(0.05, 0.5) / np.linalg.norm(light)
    across, along, front = light.astype(np.float32)
    return across * right + along * down + front * np.sqrt(1 - down**2 - right**2)


def _roughen(rng: np.random.Generator, outline: np.ndarray) -> np.ndarray:
    """Return an outline, (points, 2), with points between its points, each moved: ragged as rocks and treetops are."""
    size = np.float64(rng.uniform(0.05, 0.35))
    for _ in range(int(rng.integers(2, 5))):
        following = np.roll(outline, -1, axis=0)
        length = np.hypot(*(following - outline).T)[:, None]
        middle = (outline + following) / 2 + size * length * rng.standard_normal(outline.shape)
        outline = np.stack([outline, middle], axis=1).reshape(-1, 2)
    return outline


def random_outline(rng: np.random.Generator, roundness: float) -> np.ndarray:
    """Return a random closed outline around the origin, of radius about 1: (points, 2), x and y.

    Args:
        roundness: probability of a smooth shape, 0 to 1; else it is a polygon.
    """
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
    """Blur with a disk of random radius, as a lens does that is out of focus."""
    radius = OVERSAMPLING * 2 ** rng.uniform(-0.5, 3)
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return cv2.filter2D(canvas, -1, disk / disk.sum(), borderType=cv2.BORDER_REFLECT)
