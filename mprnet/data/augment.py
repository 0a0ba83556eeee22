"""Random crops and the eight symmetries of the square, drawn from a generator that the caller seeds."""

import numpy as np


def symmetry(image: np.ndarray, which: int) -> np.ndarray:
    """One of the square's eight symmetries of an (H, W, C) image; ``which`` is 0 (identity) to 7. A view."""
    turned = np.rot90(image, which % 4)
    return turned[:, ::-1] if which >= 4 else turned


def random_crop(rng: np.random.Generator, height: int, width: int, size: int) -> tuple[slice, slice]:
    """Where a (size, size) crop of an image of at least that size lies, every place equally likely."""
    top = int(rng.integers(0, height - size + 1))
    left = int(rng.integers(0, width - size + 1))
    return slice(top, top + size), slice(left, left + size)


def saturate(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale the saturation of an (H, W, 3) float image in [0, 1]: 0 makes it grey, 1 leaves it; clipped to [0, 1]."""
    grey = image @ np.array([0.299, 0.587, 0.114], image.dtype)
    return np.clip(grey[:, :, None] + np.float32(factor) * (image - grey[:, :, None]), 0, 1)
