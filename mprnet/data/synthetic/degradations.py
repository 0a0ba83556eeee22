"""The degradations of generated training pictures, by their names in the settings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mprnet.data.synthetic.camera import camera_noise
from mprnet.data.synthetic.motion_blur import MARGIN, camera_shake, motion_blur
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.data.synthetic.processed_noise import processed_noise
from mprnet.data.synthetic.rain import rain

NAMES = ("noise", "camera_noise", "processed_noise", "rain", "camera_shake", "motion_blur")


@dataclass(frozen=True)
class Degradation:
    """A random degradation of clean images.

    Attributes:
        apply: a function (generator, clean) that returns (degraded, target), each (H, W, 3) uint8. The target is the
            clean image, or another image if the degradation adds something that restoration should keep.
        margin: how many pixels around a crop ``apply`` also needs. They are cut off afterwards.
    """

    apply: Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]
    margin: int = 0


def make_degradations(names: str, sigma: tuple[float, float], untouched: bool = True) -> list[Degradation]:
    """Return the degradations that ``names`` lists.

    Args:
        names: some of ``NAMES``, separated by commas.
        sigma: of ``noise``, in grey levels: drawn between these two.
        untouched: True: processed noise, rain and motion blur do not change some of the images. False: for validation,
            because the PSNR of an unchanged image is infinite.

    Raises:
        KeyError: an unknown name.
    """
    known = {
        "noise": Degradation(partial(_noise, sigma)),
        "camera_noise": Degradation(camera_noise),
        "processed_noise": Degradation(processed_noise if untouched else partial(processed_noise, untouched=0.0)),
        "rain": Degradation(rain if untouched else partial(rain, dry=0.0)),
        "camera_shake": Degradation(camera_shake if untouched else partial(camera_shake, sharp=0.0), MARGIN),
        "motion_blur": Degradation(motion_blur if untouched else partial(motion_blur, sharp=0.0), MARGIN),
    }
    return [known[name] for name in split_names(names)]


def _noise(sigma: tuple[float, float], rng: np.random.Generator, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return gaussian_noise(rng, clean, rng.uniform(*sigma)), clean


def split_names(names: str) -> list[str]:
    """Split "noise, camera_noise" into ["noise", "camera_noise"]."""
    return [name.strip() for name in names.split(",")]
