"""Plain 8-bit PNGs: patches, results, sheets. (People's pictures, with all that they carry: photo_writing.py.)"""

from pathlib import Path

import cv2
import numpy as np

from mprnet.files import write_whole


def write_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8, RGB; whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    write_whole(path, cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
