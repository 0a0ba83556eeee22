"""Textures: noise with a power-law spectrum, relief, foliage, fur, stripes, repeated motifs; sharp or soft."""

import cv2
import numpy as np

# How many pixels share one value of the maps that vary slowly over a texture.
_COARSE = 16


def power_law_noise(rng: np.random.Generator, size: int, exponent: float) -> np.ndarray:
    """Return periodic noise whose amplitude spectrum is frequency^-exponent; natural images have about 1.

    Returns:
        (size, size) float32, mean 0, standard deviation 1.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * frequency**-exponent
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return ((noise - noise.mean()) / (noise.std() + 1e-12)).astype(np.float32)


def slow_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return noise that varies slowly, (size, size) float32, mean about 0, standard deviation about 1."""
    coarse = power_law_noise(rng, max(4, size // _COARSE), 1.5)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def relief(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a rough surface that is lit from one side, as rock, sand, bark and snow; (size, size) float32.

    The surface is noise with a power-law spectrum, sometimes with ridges or steps.
    """
    height = power_law_noise(rng, size, rng.uniform(1.3, 2.2))
    kind = rng.random()
    if kind < 0.3:
        height = np.abs(height)
    elif kind < 0.5:
        steps = rng.uniform(2, 6)
        height = height + np.float32(0.9 / (2 * np.pi * steps)) * np.sin(np.float32(2 * np.pi * steps) * height)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.float32(np.cos(angle)) * (height - np.roll(height, 1, axis=1)) + np.float32(np.sin(angle)) * (
        height - np.roll(height, 1, axis=0)
    )
    slope /= slope.std() + 1e-12
    # The lit sides are brighter than the sides in shadow are dark, or the other way round.
    return slope + np.float32(rng.uniform(-0.1, 0.2)) * slope**2 + np.float32(rng.uniform(0, 0.6)) * height


def foliage(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return many small leaves, pebbles or blades of about one shape, in clumps of light and shadow.

    Returns:
        (size, size) float32.
    """
    radius = 2 ** rng.uniform(1.3, 3.7)
    slender = 2 ** rng.uniform(0, 2)
    count = int(min(4000, rng.uniform(0.8, 2.0) * size * size / (2 * radius**2)))
    radii = radius * np.exp(0.4 * rng.standard_normal(count))
    turn = rng.uniform(0, np.pi) + rng.uniform(0.2, 3) * rng.standard_normal(count)
    corners = np.linspace(0, 2 * np.pi, 7)[:-1] + rng.uniform(0, 1)
    along = radii[:, None] * np.cos(corners) * slender**0.5
    across = radii[:, None] * np.sin(corners) / slender**0.5
    cosine, sine = np.cos(turn)[:, None], np.sin(turn)[:, None]
    centres = rng.uniform(0, size, (count, 2))
    points = np.stack([along * cosine - across * sine, along * sine + across * cosine], axis=2) + centres[:, None]
    clumps = rng.uniform(0.3, 1.2) * slow_noise(rng, size)
    x, y = centres.astype(int).T
    # Leaves that are drawn later lie on top, and more light falls on them.
    shades = clumps[y, x] + rng.uniform(0.4, 1.0) * rng.standard_normal(count) + np.linspace(-0.7, 0.7, count)
    canvas = clumps - np.float32(rng.uniform(0.5, 1.5))
    for outline, shade in zip(np.rint(points).astype(np.int32), shades.tolist(), strict=True):
        cv2.fillConvexPoly(canvas, outline, shade)
    return (canvas - canvas.mean()) / (canvas.std() + np.float32(1e-12))


def stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return parallel lines of one period and direction, soft or hard, slightly bent; (size, size) float32."""
    angle = rng.uniform(0, np.pi)
    period = 2 ** rng.uniform(2.0, 5.5)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    phase = (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) / np.float32(period)
    phase += np.float32(rng.uniform(0, 1.5)) * slow_noise(rng, size)
    wave = np.sin(np.float32(2 * np.pi) * phase)
    hardness = np.float32(2 ** rng.uniform(-2, 3))
    return (np.tanh(hardness * wave) / np.tanh(hardness)).astype(np.float32)


def repetition(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a small random motif repeated on a grid, as in cloth, bricks and roofs; (size, size) float32.

    Half of the grids are turned, and seen at a slant, so that the motif gets smaller to one side.
    """
    period = int(2 ** rng.uniform(2.6, 5.5))
    motif = power_law_noise(rng, period, rng.uniform(0.5, 2.0))
    if rng.random() < 0.5:
        motif = np.sign(motif) * np.minimum(np.abs(motif) * 3, 1)
    tiles = -(-size // period)
    grid = np.tile(motif, (tiles, tiles))[:size, :size]
    if rng.random() < 0.5:
        return grid
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
    angle = rng.normal(0, 0.3)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = (corners - size / 2) @ turn * rng.uniform(0.6, 1.4, (4, 1)) + size / 2
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return cv2.warpPerspective(grid, matrix, (size, size), borderMode=cv2.BORDER_WRAP)


def fur(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return white noise averaged along a slowly varying direction, as hair, wood and grass; (size, size) float32."""
    angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0.1, 0.8) * power_law_noise(rng, size, 2.0)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    across, down = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    texture = power_law_noise(rng, size, rng.uniform(0.0, 0.7))
    # The step doubles, so that n sums of two give the sum of 2^n positions.
    for doubling in range(int(rng.integers(3, 6))):
        step = 2.0**doubling
        moved = cv2.remap(texture, x + step * across, y + step * down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        texture = texture + moved
    texture -= cv2.GaussianBlur(texture, (0, 0), 12)
    return (texture / (texture.std() + 1e-12)).astype(np.float32)


_KINDS = (
    (0.22, lambda rng, size: power_law_noise(rng, size, rng.uniform(0.5, 2.0))),
    (0.22, relief),
    (0.22, foliage),
    (0.14, fur),
    (0.08, stripes),
    (0.12, repetition),
)


def random_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a texture of a random kind, (size, size) float32, standard deviation about 1, in [-3, 3].

    Its contrast varies over the texture, as light and dirt do. Some of the textures are blurred. So pictures have
    details that are not sharp beside edges that are sharp.
    """
    kind = rng.choice(len(_KINDS), p=[share for share, _ in _KINDS])
    texture = _KINDS[kind][1](rng, size)
    if rng.random() < 0.6:
        texture = texture * np.exp(np.float32(rng.uniform(0.2, 0.9)) * slow_noise(rng, size))
    texture = np.clip(texture, -3, 3)
    if rng.random() < 0.25:
        texture = cv2.GaussianBlur(texture, (0, 0), 2 ** rng.uniform(-0.5, 3))
    return texture
