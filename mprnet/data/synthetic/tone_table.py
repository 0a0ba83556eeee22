"""Tone curves from linear light to grey levels, by a table.

Tone curves are steep in the shadows. So the entries of a table are evenly spaced over the square root of light.
"""

import numpy as np

ENTRIES = 4096
# The square root of the light at each entry, 0 to 1.
ROOTS = np.linspace(0, 1, ENTRIES)


def look_up(table: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return the entries of a table for linear light.

    Args:
        table: (ENTRIES,), the tone at each of ``ROOTS`` squared; any type.
        light: any shape, float32 in [0, 1].

    Returns:
        Same shape as ``light``, of the type of ``table``.
    """
    return table[np.rint(np.sqrt(light) * np.float32(ENTRIES - 1)).astype(np.int32)]
