"""Rain, camera shake and a camera that differ from those in training (mprnet/data/synthetic).

They test whether a network has learned more than the models of its training data.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.camera import Camera


def falling_rain(rng: np.random.Generator, clean: np.ndarray, drops: int) -> np.ndarray:
    """Add drops that fall at random distances in front of a pinhole camera.

    Differences from the rain in training: a streak is a mixture of the scene and the light of the sky (Garg and Nayar,
    "Vision and rain", IJCV 2007). Each drop has its own distance, and therefore its own length, width and opacity. Wind
    has one direction in space.

    Args:
        clean: (H, W, 3) uint8.
        drops: mean number of drops in a picture of 384x384.

    Returns:
        The rainy image, (H, W, 3) uint8.
    """
    height, width = clean.shape[:2]
    sky = np.float32(255 * rng.uniform(0.8, 1.0)) * np.ones(3, np.float32)
    wind = rng.normal(0, 0.25, 2)
    clear = np.ones((height, width), np.float32)
    for _ in range(rng.poisson(drops * height * width / 384**2)):
        # Drops are uniform in the volume of the view between the distances 1 and 4, so most drops are far.
        distance = (1 + 63 * rng.random()) ** (1 / 3)
        fall = 60 / distance * rng.uniform(0.8, 1.2)
        across = 1.6 / distance * rng.uniform(0.7, 1.3)
        sideways = fall * (wind[0] + 0.15 * wind[1] * rng.standard_normal())
        opacity = min(0.9, 0.6 * rng.uniform(0.5, 1.5) * distance**-0.3)
        _draw_streak(clear, rng.uniform(0, width), rng.uniform(-fall, height), sideways, fall, across, opacity)
    rainy = clean * clear[:, :, None] + sky * (1 - clear[:, :, None])
    return np.rint(np.clip(rainy, 0, 255)).astype(np.uint8)


def _draw_streak(clear: np.ndarray, x: float, y: float, dx: float, dy: float, width: float, opacity: float) -> None:
    """Multiply ``clear`` by the transparency of a soft streak from (x, y) to (x + dx, y + dy)."""
    reach = int(2 * width) + 2
    rows = slice(max(0, int(y) - reach), max(0, int(y + dy) + reach + 1))
    columns = slice(max(0, int(min(x, x + dx)) - reach), max(0, int(max(x, x + dx)) + reach + 1))
    part = clear[rows, columns]
    if not part.size:
        return
    down, right = np.ogrid[: part.shape[0], : part.shape[1]]
    down, right = down + rows.start - y, right + columns.start - x
    length = np.hypot(dx, dy)
    along, aside = (right * dx + down * dy) / length, (right * dy - down * dx) / length
    ends = 1 / (1 + np.exp(-2 * np.minimum(along, length - along)))
    part *= 1 - opacity * ends * np.exp(-0.5 * (aside / (0.5 * width)) ** 2)


def handheld_shake(rng: np.random.Generator, clean: np.ndarray, length: float) -> np.ndarray:
    """Blur along a random path with inertia, tremor and sudden turns, and add photon noise.

    The path follows Boracchi and Foi, "Modeling the performance of image restoration from motion blur", IEEE TIP 2012.
    Differences from the shake in training: the path is rasterised to a kernel, light is decoded with the curve of sRGB,
    and the noise increases with the light.

    Args:
        clean: (H, W, 3) uint8.
        length: distance between the two points of the path that are farthest apart, in pixels.

    Returns:
        The blurred image, (H, W, 3) uint8.
    """
    steps = 256
    velocity = np.exp(2j * np.pi * rng.random())
    position, path = 0j, np.zeros(steps, complex)
    sudden = rng.uniform(0, 0.02)
    for step in range(steps):
        if rng.random() < sudden:
            velocity *= np.exp(1j * rng.uniform(0.5, 1.0) * np.pi)
        tremor = rng.standard_normal() + 1j * rng.standard_normal()
        velocity += 0.06 * tremor - 0.004 * position
        velocity /= abs(velocity)
        position += velocity
        path[step] = position
    path = (path - path.mean()) * (length / np.abs(path[:, None] - path).max())
    middle = int(np.ceil(length)) + 1
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1))
    for point in path:
        x, y = point.real + middle, point.imag + middle
        for column in (int(x), int(x) + 1):
            for row in (int(y), int(y) + 1):
                kernel[row, column] += (1 - abs(x - column)) * (1 - abs(y - row))
    tones = clean / 255.0
    light = np.where(tones <= 0.04045, tones / 12.92, ((tones + 0.055) / 1.055) ** 2.4)
    blurred = np.clip(cv2.filter2D(light, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT), 0, 1)
    measured = np.clip(rng.poisson(20000 * blurred) / 20000, 0, 1)
    encoded = np.where(measured <= 0.0031308, 12.92 * measured, 1.055 * measured ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


@dataclass(frozen=True)
class OtherCamera(Camera):
    """A camera that differs from all cameras in training.

    Its colour matrix has positive off-diagonal entries. Its tone curve is a power in the shadows, and flat in the
    highlights as that of film.
    """

    def tone_curve(self) -> tuple[np.ndarray, np.ndarray]:
        light = np.linspace(0, 1, 1024) ** 3
        tones = light ** (1 / 2.6)
        return light, tones * (1 + 0.35 * (1 - tones))


OTHER_CAMERA = OtherCamera(
    gains=np.array([2.7, 1.0, 1.3]),
    matrix=np.array([[1.55, -0.70, 0.15], [-0.10, 1.30, -0.20], [0.06, -0.75, 1.69]]),
    contrast=0.0,
    exposure=0.85,
)
