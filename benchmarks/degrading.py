"""Rain, shakes and a camera that no network was trained on: other models than mprnet/data/synthetic's, written apart.

What a network gains here it has not learned by heart.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.camera import Camera


def falling_rain(rng: np.random.Generator, clean: np.ndarray, drops: int) -> np.ndarray:
    """Drops at random distances before a pinhole camera, each veiling what is behind it while it falls past.

    Unlike the training's rain, a streak is a mixture with the light of the sky (Garg and Nayar, "Vision and rain",
    IJCV 2007), every drop has its own distance, and so length, width and opacity, and wind is one vector in space.

    Args:
        clean: (H, W, 3) uint8.
        drops: how many there are in view, for a picture of 384x384.

    Returns:
        Same shape, uint8.
    """
    height, width = clean.shape[:2]
    sky = np.float32(255 * rng.uniform(0.8, 1.0)) * np.ones(3, np.float32)
    wind = rng.normal(0, 0.25, 2)
    clear = np.ones((height, width), np.float32)
    for _ in range(rng.poisson(drops * height * width / 384**2)):
        # Uniform in the volume of a view's cone from 1 to 4: most drops are far.
        distance = (1 + 63 * rng.random()) ** (1 / 3)
        fall = 60 / distance * rng.uniform(0.8, 1.2)
        across = 1.6 / distance * rng.uniform(0.7, 1.3)
        sideways = fall * (wind[0] + 0.15 * wind[1] * rng.standard_normal())
        opacity = min(0.9, 0.6 * rng.uniform(0.5, 1.5) * distance**-0.3)
        _veil(clear, rng.uniform(0, width), rng.uniform(-fall, height), sideways, fall, across, opacity)
    rainy = clean * clear[:, :, None] + sky * (1 - clear[:, :, None])
    return np.rint(np.clip(rainy, 0, 255)).astype(np.uint8)


def _veil(clear: np.ndarray, x: float, y: float, dx: float, dy: float, width: float, opacity: float) -> None:
    """Multiply ``clear`` by what passes a streak from (x, y) to (x + dx, y + dy), soft to its sides and ends."""
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
    """Blur by a path with inertia, tremor and sudden turns (after Boracchi and Foi, "Modeling the performance of image
    restoration from motion blur", IEEE TIP 2012), and photon noise.

    Unlike the training's, the path is rasterised to a kernel, light is decoded by sRGB's curve, and the noise grows
    with the light.

    Args:
        clean: (H, W, 3) uint8.
        length: between the path's two points that are farthest apart, pixels.

    Returns:
        Same shape, uint8.
    """
    steps = 256
    velocity = np.exp(2j * np.pi * rng.random())
    place, path = 0j, np.zeros(steps, complex)
    sudden = rng.uniform(0, 0.02)
    for step in range(steps):
        if rng.random() < sudden:
            velocity *= np.exp(1j * rng.uniform(0.5, 1.0) * np.pi)
        tremor = rng.standard_normal() + 1j * rng.standard_normal()
        velocity += 0.06 * tremor - 0.004 * place
        velocity /= abs(velocity)
        place += velocity
        path[step] = place
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
    counted = np.clip(rng.poisson(20000 * blurred) / 20000, 0, 1)
    encoded = np.where(counted <= 0.0031308, 12.92 * counted, 1.055 * counted ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


@dataclass(frozen=True)
class OtherCamera(Camera):
    """A camera outside of what training draws: a colour matrix with positive crosstalk, a plain power for its shadows
    and a shoulder for its lights as of film."""

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
