"""Augmentation of training patches. Random numbers come from a generator that the caller seeds."""

import numpy as np


def symmetry(image: np.ndarray, number: int) -> np.ndarray:
    """Return an (H, W, C) image under one of the square's eight symmetries, as a view.

    Args:
        number: 0 (identity) to 7. The remainder by 4 is the number of quarter turns; from 4 on, columns are flipped
            after the turn.
    """
    turned = np.rot90(image, number % 4)
    return turned[:, ::-1] if number >= 4 else turned


def random_crop(rng: np.random.Generator, height: int, width: int, size: int) -> tuple[slice, slice]:
    """Return the rows and columns of a (size, size) crop of a height x width image; every position is equally likely.

    ``height`` and ``width`` must not be smaller than ``size``.
    """
    top = int(rng.integers(0, height - size + 1))
    left = int(rng.integers(0, width - size + 1))
    return slice(top, top + size), slice(left, left + size)


def saturate(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply the saturation of an (H, W, 3) float image in [0, 1] by ``factor``, and clip the result to [0, 1].

    0 makes the image grey, 1 leaves it as it is.
    """
    grey = image @ np.array([0.299, 0.587, 0.114], image.dtype)
    return np.clip(grey[:, :, None] + np.float32(factor) * (image - grey[:, :, None]), 0, 1)


def crop_centre(image: np.ndarray, size: int) -> np.ndarray:
    """Return the centre of (H, W, C), at most (size, size, C); the whole image if ``size`` is 0. A view."""
    if not size:
        return image
    height, width = (min(size, side) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
