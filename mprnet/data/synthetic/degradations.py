"""The degradations that generated pictures are trained on, by the names that settings have for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mprnet.data.synthetic.camera import camera_noise
from mprnet.data.synthetic.motion_blur import MARGIN, camera_shake, motion_blur
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.data.synthetic.rain import rain

NAMES = ("noise", "camera_noise", "rain", "camera_shake", "motion_blur")


@dataclass(frozen=True)
class Degradation:
    """What becomes of a clean picture.

    Attributes:
        apply: (generator, clean) to (degraded, target), each (H, W, 3) uint8. The target is the clean picture or, where
            the degradation brings something of its own that is to stay, another one.
        margin: pixels around a crop that ``apply`` wants to see too, and that are then cut off.
    """

    apply: Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]
    margin: int = 0


def degradations(names: str, sigma: tuple[float, float], untouched: bool = True) -> list[Degradation]:
    """Those of ``NAMES`` that ``names`` lists, separated by commas.

    Args:
        sigma: of ``noise``, grey levels; uniform between the two.
        untouched: let rain and motion blur leave a part of the pictures as they are. Not to validate on: those have no
            finite PSNR to begin with, and would outweigh all others.

    Raises:
        KeyError: an unknown name.
    """
    known = {
        "noise": Degradation(partial(_noise, sigma)),
        "camera_noise": Degradation(camera_noise),
        "rain": Degradation(rain if untouched else partial(rain, dry=0.0)),
        "camera_shake": Degradation(camera_shake if untouched else partial(camera_shake, sharp=0.0), MARGIN),
        "motion_blur": Degradation(motion_blur if untouched else partial(motion_blur, sharp=0.0), MARGIN),
    }
    return [known[name] for name in split_names(names)]


def _noise(sigma: tuple[float, float], rng: np.random.Generator, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return gaussian_noise(rng, clean, rng.uniform(*sigma)), clean


def split_names(names: str) -> list[str]:
    """ "noise, camera_noise" to ["noise", "camera_noise"]."""
    return [name.strip() for name in names.split(",")]
