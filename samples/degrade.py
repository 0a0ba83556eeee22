"""Make samples/input and samples/target again, from photographs in scikit-image.

    python samples/degrade.py

The files depend only on this script. The degradations are simpler than those of the benchmarks.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image

from mprnet.data.synthetic.noise import gaussian_noise

HERE = Path(__file__).parent
SIZE = 256
SIGMA = 25
# Upper left corner of each crop: row, column.
PHOTOGRAPHS = {"astronaut": (0, 90), "chelsea": (20, 90), "coffee": (60, 150), "rocket": (80, 190)}


def photograph(name: str) -> np.ndarray:
    """Return a crop of a photograph, (SIZE, SIZE, 3) uint8."""
    row, column = PHOTOGRAPHS[name]
    image = getattr(skimage.data, name)()
    return image[row : row + SIZE, column : column + SIZE]


def noise(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
    """Add white Gaussian noise of sigma 25; the result is clipped and rounded."""
    return gaussian_noise(rng, clean, SIGMA)


def blur(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
    """Blur by a straight camera shake of 9 to 13 pixels, averaged in linear light, and add noise of sigma 1."""
    length, angle = rng.uniform(9, 13), rng.uniform(0, np.pi)
    kernel = np.zeros((15, 15), np.float32)
    for t in np.linspace(-length / 2, length / 2, 200):
        x, y = 7 + t * np.cos(angle), 7 + t * np.sin(angle)
        kernel[round(y), round(x)] += 1
    linear = (clean / 255.0) ** 2.2
    blurred = cv2.filter2D(linear, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    encoded = np.clip(blurred, 0, 1) ** (1 / 2.2)
    return gaussian_noise(rng, np.rint(255 * encoded).astype(np.uint8), 1)


def rain(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
    """Add bright slanted streaks of one direction; the result is clipped."""
    drops = (rng.random(clean.shape[:2]) > 0.985).astype(np.float32) * rng.uniform(0.5, 1, clean.shape[:2])
    angle = np.deg2rad(rng.uniform(70, 110))
    kernel = np.zeros((25, 25), np.float32)
    for t in np.linspace(-11, 11, 200):
        kernel[round(12 + t * np.sin(angle)), round(12 + t * np.cos(angle))] = 1
    streaks = cv2.filter2D(drops.astype(np.float32), -1, kernel / kernel.sum() * 6, borderType=cv2.BORDER_REFLECT)
    streaks = cv2.GaussianBlur(streaks, (0, 0), 0.6)
    return np.rint(np.clip(clean + 180 * streaks[:, :, None], 0, 255)).astype(np.uint8)


DEGRADATIONS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "Denoising": noise,
    "Deblurring": blur,
    "Deraining": rain,
}


def main() -> None:
    for task, degrade in DEGRADATIONS.items():
        for index, name in enumerate(PHOTOGRAPHS):
            clean = photograph(name)
            degraded = degrade(np.random.default_rng([2021, index]), clean)
            for kind, image in (("input", degraded), ("target", clean)):
                path = HERE / kind / task / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path, optimize=True)


if __name__ == "__main__":
    main()
