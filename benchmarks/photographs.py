"""Six photographs from scikit-image and scikit-learn, which are not used for training (pip install -e ".[bench]")."""

import numpy as np
import skimage.data
import sklearn.datasets

CROP = 384


def load_photographs() -> dict[str, np.ndarray]:
    """Return the six photographs by name, each (H, W, 3) uint8."""
    images = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    images |= {name: sklearn.datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return {name: np.ascontiguousarray(image[:, :, :3]) for name, image in images.items()}


def load_crops() -> dict[str, np.ndarray]:
    """Return the centres of the six photographs by name, each (H, W, 3) uint8, at most CROP pixels high and wide."""
    centres = {}
    for name, image in load_photographs().items():
        height, width = (min(CROP, side) for side in image.shape[:2])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        centres[name] = np.ascontiguousarray(image[top : top + height, left : left + width])
    return centres
