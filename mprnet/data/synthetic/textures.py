"""Textures of leaves: noise with a power-law spectrum, fur, stripes, repeated motifs; sharp or soft."""

import cv2
import numpy as np


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


def stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return parallel lines of one period and direction, soft or hard, slightly bent; (size, size) float32."""
    angle = rng.uniform(0, np.pi)
    period = 2 ** rng.uniform(2.0, 5.5)
    y, x = np.mgrid[:size, :size]
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period
    phase += rng.uniform(0, 1.5) * power_law_noise(rng, size, 2.0)
    wave = np.sin(2 * np.pi * phase)
    hardness = 2 ** rng.uniform(-2, 3)
    return (np.tanh(hardness * wave) / np.tanh(hardness)).astype(np.float32)


def repetition(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a small random motif repeated on a grid, as in cloth, bricks and foliage; (size, size) float32."""
    period = int(2 ** rng.uniform(2.6, 5.5))
    motif = power_law_noise(rng, period, rng.uniform(0.5, 2.0))
    tiles = -(-size // period)
    return np.tile(motif, (tiles, tiles))[:size, :size]


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


def random_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a texture of a random kind, (size, size) float32, standard deviation at most about 1, in [-3, 3].

    Some of the textures are blurred. So pictures have details that are not sharp beside edges that are sharp.
    """
    kind = rng.choice(4, p=[0.5, 0.2, 0.15, 0.15])
    if kind == 0:
        texture = power_law_noise(rng, size, rng.uniform(0.5, 2.5))
    elif kind == 1:
        texture = fur(rng, size)
    elif kind == 2:
        texture = stripes(rng, size)
    else:
        texture = repetition(rng, size)
    texture = np.clip(texture, -3, 3)
    if rng.random() < 0.35:
        texture = cv2.GaussianBlur(texture, (0, 0), 2 ** rng.uniform(-0.5, 3))
    return texture
