"""Drawing with OpenCV at fractions of a pixel."""

import numpy as np

# OpenCV takes integer coordinates with so many bits after the binary point: sixteenths of a pixel.
FRACTION_BITS = 4


def to_fixed_point(points: np.ndarray) -> np.ndarray:
    """Return coordinates in pixels as int32 with ``FRACTION_BITS`` bits after the binary point."""
    return np.rint(points * 2**FRACTION_BITS).astype(np.int32)
