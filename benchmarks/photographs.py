"""The six photographs that nothing is trained on: scikit-image's and scikit-learn's (pip install -e ".[bench]")."""

import numpy as np
import skimage.data
import sklearn.datasets

CROP = 384


def photographs() -> dict[str, np.ndarray]:
    """All six, (H, W, 3) uint8 each."""
    whole = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    whole |= {name: sklearn.datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return {name: np.ascontiguousarray(image[:, :, :3]) for name, image in whole.items()}


def crops() -> dict[str, np.ndarray]:
    """Their middles, CROP pixels high and wide or what there is, (H, W, 3) uint8 each."""
    found = {}
    for name, image in photographs().items():
        height, width = (min(CROP, side) for side in image.shape[:2])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        found[name] = np.ascontiguousarray(image[top : top + height, left : left + width])
    return found
