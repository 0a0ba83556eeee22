"""The colours of generated pictures."""

from dataclasses import dataclass

import numpy as np

# Two directions in the chroma plane (blue difference, red difference). Most colours of nature, skin and sky are between
# orange and blue. Fewer are between green and magenta, and most of these are green.
_WARM = np.array([-0.75, 0.66])
_GREEN = np.array([-0.66, -0.75])


@dataclass(frozen=True)
class Palette:
    """The colours of one picture. They are few, related and mostly dull, as in one scene under one light."""

    centres: np.ndarray  # (k, 3) in [0, 1]
    spread: float  # variation around a centre

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Palette":
        count = int(rng.integers(3, 12))
        light, range_ = rng.beta(1.2, 2.2), rng.uniform(0.3, 1.2)
        luma = np.clip(light + range_ * (rng.beta(0.8, 0.9, count) - light), 0, 1)
        strength = rng.gamma(1.3, 0.13)
        if rng.random() < 0.15:
            chroma = strength * rng.standard_normal((count, 2))  # any colours, as of signs, toys and cloth
        else:
            warm, green = rng.standard_normal((2, count, 1))
            chroma = strength * (warm * _WARM + 0.4 * (green + 0.3) * _GREEN)
            chroma += 0.08 * (rng.standard_normal() + 0.3) * _WARM + 0.02 * rng.standard_normal() * _GREEN
        # Dark things have little colour.
        chroma *= (0.15 + luma)[:, None]
        return cls(np.clip(_rgb(luma, chroma), 0, 1), spread=rng.uniform(0.01, 0.12))

    def random_colour(self, rng: np.random.Generator) -> np.ndarray:
        """Return an RGB colour, (3,), about in [0, 1]."""
        centre = self.centres[rng.integers(len(self.centres))]
        return centre + self.spread * (rng.standard_normal() + 0.2 * rng.standard_normal(3))


def _rgb(luma: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Convert luma, (k,), and blue and red differences, (k, 2), to RGB, (k, 3), by ITU-R BT.601."""
    cb, cr = chroma[:, 0], chroma[:, 1]
    return np.stack([luma + 1.402 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.772 * cb], axis=1)
