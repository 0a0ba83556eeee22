"""Rain as a degradation: streaks, mist, and what the camera does with the picture.

Light rain has few and thin streaks of one direction, as in Rain100L. Heavy rain has many long streaks of several
directions, as in Rain100H (Yang et al., "Deep joint rain detection and removal", CVPR 2017). A drop adds light to the
picture or hides a part of it (Garg and Nayar, "Vision and rain", IJCV 2007). Many far drops are a mist.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.camera import compress_jpeg
from mprnet.data.synthetic.man_made import add_posts
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.data.synthetic.streaks import STYLES, random_streaks

DRY = 0.3  # share of the samples without rain
POSTS = 0.25  # share of the samples with posts; without them, a network takes columns and railings for rain
# The heaviness of rain, 0 to 1, has this beta distribution. Light and heavy rain are more frequent than rain between
# them, because the benchmarks have these two. Light rain is the most frequent.
HEAVINESS = (0.5, 0.8)
STYLE_SHARES = (0.4, 0.35, 0.25)  # of ``STYLES``


@dataclass(frozen=True)
class _Sky:
    """How the light of streaks meets the scene: "sum" (clipped), "screen" (adds less to bright scenes) or "blend"."""

    mode: str
    colour: np.ndarray  # (3,) float32; of the light, about white; "blend" never becomes brighter

    @classmethod
    def random(cls, rng: np.random.Generator) -> "_Sky":
        tint = np.minimum(1 + 0.03 * rng.standard_normal(3), 1).astype(np.float32)
        mode = ("sum", "screen", "blend")[rng.choice(3, p=[0.45, 0.3, 0.25])]
        return cls(mode, tint * np.float32(rng.uniform(0.65, 1.0) if mode == "blend" else 1))


def rain(rng: np.random.Generator, clean: np.ndarray, dry: float = DRY) -> tuple[np.ndarray, np.ndarray]:
    """Add random rain to an image; a third of the rainy images is then sharpened, noisy or compressed as JPEG.

    Args:
        clean: (H, W, 3) uint8.
        dry: probability of no rain, 0 to 1.

    Returns:
        The rainy image, and the target: ``clean``, sometimes with posts. Both are (H, W, 3) uint8.
    """
    if rng.random() < POSTS:
        clean = add_posts(rng, clean)
    if rng.random() < dry:
        return clean, clean
    heaviness = rng.beta(*HEAVINESS)
    style = STYLES[rng.choice(len(STYLES), p=STYLE_SHARES)]
    scene: np.ndarray = clean / np.float32(255)
    if rng.random() < 0.05 + 0.3 * heaviness:
        scene = _add_mist(rng, scene, rng.uniform(0.03, 0.35))
    sky = _Sky.random(rng)
    light = random_streaks(rng, clean.shape[0], clean.shape[1], heaviness, style)[:, :, None]
    rainy = add_streaks(scene, light, sky.mode, sky.colour)
    return _take_photograph(rng, rainy), clean


def add_streaks(scene: np.ndarray, light: np.ndarray, mode: str, colour: np.ndarray | float = 1.0) -> np.ndarray:
    """Return ``scene`` with streaks, (H, W, 3) float32 in [0, 1].

    Args:
        scene: (H, W, 3) float32 in [0, 1].
        light: (H, W, 1) float32, at least 0; of the streaks.
        mode: "sum": scene + light, clipped. "screen": 1 - (1 - scene) (1 - light), which adds less where the scene is
            bright. "blend": a streak hides as much of the scene as it is bright, so it can darken a bright scene.
        colour: of the light, (3,) float32 in [0, 1], or a grey.
    """
    if mode == "sum":
        return np.clip(scene + light * colour, 0, 1)
    opacity = np.clip(light, 0, 1)
    if mode == "screen":
        return 1 - (1 - scene) * (1 - opacity * colour)
    return scene + opacity * (colour - scene)


def _add_mist(rng: np.random.Generator, scene: np.ndarray, strength: float) -> np.ndarray:
    """Blend ``scene``, (H, W, 3) float32 in [0, 1], with a pale grey: the light of drops too far to be seen.

    The weight is about ``strength``. It varies slowly, and is mostly greater at the top, where the scene is far away.
    """
    height, width = scene.shape[:2]
    coarse = rng.uniform(0.6, 1.4, (3, 3)) * np.linspace(1 + 0.5 * rng.uniform(-0.3, 1), 1, 3)[:, None]
    coarse = (strength * coarse).astype(np.float32)
    weight = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)[:, :, None]
    return scene + weight * (np.float32(rng.uniform(0.65, 0.95)) - scene)


def _take_photograph(rng: np.random.Generator, rainy: np.ndarray) -> np.ndarray:
    """Convert a scene in rain, (H, W, 3) float32 in [0, 1], to uint8; sometimes sharpened, noisy or compressed."""
    if rng.random() < 0.12:
        soft = cv2.GaussianBlur(rainy, (0, 0), rng.uniform(0.6, 1.2))
        rainy = np.clip(rainy + np.float32(rng.uniform(0.3, 1.2)) * (rainy - soft), 0, 1)
    image = np.rint(255 * rainy).astype(np.uint8)
    if rng.random() < 0.1:
        image = gaussian_noise(rng, image, rng.uniform(0.5, 4))
    if rng.random() < 0.22:
        image = compress_jpeg(rng, image, int(rng.integers(60, 97)))
    return image
