"""Exposures: the mean of the frames in which the camera, or an object before a scene, moves."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from mprnet.data.synthetic.tone_table import ROOTS, look_up

GAMMA = 2.2
# The light of each grey level; the grey level of each entry of a tone table for ``GAMMA``.
_LIGHT = {gamma: ((np.arange(256) / 255) ** gamma).astype(np.float32) for gamma in (1.0, GAMMA)}
_GREY_LEVELS = np.rint((255 * ROOTS ** (2 / GAMMA)).astype(np.float32)).astype(np.uint8)


@dataclass(frozen=True)
class Motion:
    """The positions of an object, or of the whole scene, in the frames of an exposure."""

    shifts: np.ndarray  # (frames, 2) x and y in pixels; their mean is 0
    angles: np.ndarray  # (frames,) rotations about ``centre`` in radians; their mean is 0
    centre: np.ndarray  # (2,) x and y, of the rotation; things there move by ``shifts``
    slant: np.ndarray = field(default_factory=lambda: np.zeros(2))  # how much more things move, a pixel right and down

    @classmethod
    def random(cls, rng: np.random.Generator, length: float, frames: int, centre: np.ndarray, turn: float) -> "Motion":
        """Return a random motion.

        Args:
            length: of the path, in pixels. The path is straight, curved or trembling.
            frames: how many frames.
            centre: of the rotation, (2,), x and y.
            turn: about the angle of the rotation, in radians.
        """
        time = np.linspace(-0.5, 0.5, frames)
        restless = rng.choice([0.0, rng.uniform(0, 1), rng.uniform(1, 4)], p=[0.3, 0.4, 0.3])
        heading = rng.uniform(0, 2 * np.pi) + restless * _random_walk(rng, frames)
        speed = np.exp(rng.uniform(0, 0.8) * _random_walk(rng, frames))
        steps = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        shifts = np.cumsum(steps, axis=0) * (length / max(np.hypot(*steps[1:].T).sum(), 1e-6))
        angles = turn * (time + 0.3 * restless * _random_walk(rng, frames))
        return cls(shifts - shifts.mean(axis=0), angles - angles.mean(), centre)

    def matrices(self) -> np.ndarray:
        """Return the affine map from positions in the sharp image to positions in each frame, (frames, 2, 3)."""
        cosine, sine = np.cos(self.angles), np.sin(self.angles)
        turns = np.stack([np.stack([cosine, -sine], axis=1), np.stack([sine, cosine], axis=1)], axis=1)
        # Near things move more than far ones. On the plane of a ground or a wall, the shift is linear in the position.
        linear = turns + self.shifts[:, :, None] * self.slant
        offsets = self.centre + self.shifts - linear @ self.centre
        return np.concatenate([linear, offsets[:, :, None]], axis=2)


def expose(linear: np.ndarray, motion: Motion) -> np.ndarray:
    """Return the mean of an image in linear light, (H, W, C) float32, over the frames of a motion."""
    total = np.zeros_like(linear)
    for matrix in motion.matrices():
        cv2.accumulate(_warp(linear, matrix, cv2.BORDER_REFLECT), total)
    return total / np.float32(len(motion.angles))


def expose_layers(
    background: np.ndarray, shake: Motion, foreground: np.ndarray, mask: np.ndarray, motion: Motion
) -> np.ndarray:
    """Return the mean over the frames in which an object and the background behind it move.

    Args:
        background: (H, W, 3) float32 in linear light.
        shake: the motion of the background.
        foreground: the object, multiplied by ``mask``; shape and type as ``background``.
        mask: (H, W) float32, 1 where the object hides the background.
        motion: of the object, with as many frames as ``shake``.

    Returns:
        (H, W, 3) float32 in linear light.
    """
    layer = np.dstack([foreground, mask])
    total = np.zeros_like(background)
    is_still = not shake.shifts.any() and not shake.angles.any()
    for shake_matrix, matrix in zip(shake.matrices(), motion.matrices(), strict=True):
        front = _warp(layer, matrix, cv2.BORDER_CONSTANT)
        back = background if is_still else _warp(background, shake_matrix, cv2.BORDER_REFLECT)
        total += front[:, :, :3]
        total += back * (1 - front[:, :, 3:])
    return total / np.float32(len(motion.angles))


def _warp(image: np.ndarray, matrix: np.ndarray, border: int) -> np.ndarray:
    """Move an image by an affine map, (2, 3)."""
    size = (image.shape[1], image.shape[0])
    warped: np.ndarray = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return warped


def to_linear(image: np.ndarray, gamma: float = GAMMA) -> np.ndarray:
    """Convert grey levels, uint8, to light in [0, 1], float32: linear light, or with a ``gamma`` of 1 a 255th."""
    light: np.ndarray = _LIGHT[gamma][image]
    return light


def to_grey_levels(linear: np.ndarray, gamma: float = GAMMA) -> np.ndarray:
    """Convert light, float32, clipped to [0, 1], to grey levels, uint8; ``gamma`` as for ``to_linear``."""
    if gamma == 1:
        return np.rint(255 * np.clip(linear, 0, 1)).astype(np.uint8)
    return look_up(_GREY_LEVELS, np.clip(linear, 0, 1))


def _random_walk(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Return a random walk, (frames,), whose standard deviation at the end is 1."""
    return np.cumsum(rng.standard_normal(frames)) / frames**0.5
