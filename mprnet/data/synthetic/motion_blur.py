"""Motion blur as a degradation: the camera shakes, or an object moves, while the shutter is open.

A blurred image is the mean of sharp frames in linear light, as in GoPro's pairs (Nah et al., "Deep multi-scale
convolutional neural network for dynamic scene deblurring", CVPR 2017). The mean position over the frames is the
position in the sharp image, so the blurred and the sharp image are aligned.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.dead_leaves import random_outline
from mprnet.data.synthetic.drawing import FRACTION_BITS, to_fixed_point
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.data.synthetic.textures import fur
from mprnet.data.synthetic.tone_table import ROOTS, look_up

SHARP = 0.1  # share of the samples without motion
SOFT = 0.7  # share of the samples whose scene is out of focus, in the target too
FUR = 0.7  # share of these that have sharp fur on the soft scene
LONGEST = 24.0  # longest path of a motion, in pixels
SHAKES = (3.0, 15.0)  # shortest and longest path of ``camera_shake``, in pixels
MARGIN = 16  # pixels around a crop from which objects may move into it
_STEP = 0.8  # largest distance between frames, in pixels
_GAMMA = 2.2
_LINEAR = ((np.arange(256) / 255) ** _GAMMA).astype(np.float32)
_GREY_LEVELS = np.rint((255 * ROOTS ** (2 / _GAMMA)).astype(np.float32)).astype(np.uint8)


@dataclass(frozen=True)
class Motion:
    """The positions of an object, or of the whole scene, in the frames of an exposure."""

    shifts: np.ndarray  # (frames, 2) x and y in pixels; their mean is 0
    angles: np.ndarray  # (frames,) rotations about ``centre`` in radians; their mean is 0
    centre: np.ndarray  # (2,) x and y

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
        offsets = self.centre + self.shifts - turns @ self.centre
        return np.concatenate([turns, offsets[:, :, None]], axis=2)


def motion_blur(rng: np.random.Generator, clean: np.ndarray, sharp: float = SHARP) -> tuple[np.ndarray, np.ndarray]:
    """Blur an image by a random shake of the camera, a moving object, both, or neither.

    Args:
        clean: (H, W, 3) uint8. It is continued beyond its border by reflection.
        sharp: probability of no motion, 0 to 1.

    Returns:
        The blurred image, with noise of sigma 0 to 2, and the target: ``clean``, sometimes softened, and with the
        object if there is one. Both are (H, W, 3) uint8.
    """
    clean = _soften(rng, clean)
    if rng.random() < sharp:
        return clean, clean
    side = max(clean.shape[:2])
    linear = to_linear(clean)
    moves, shakes = ((False, True), (True, True), (True, False))[rng.choice(3, p=[0.6, 0.2, 0.2])]
    lengths = np.minimum(rng.gamma(3.5, 2.8, 2), LONGEST) * [shakes, 1]
    frames = 3 + int(np.ceil(lengths[: 1 + moves].max() / _STEP))
    # The rotation moves the border by half the side times the angle, which is at most half the length of the path.
    turn = lengths[0] / side * rng.uniform(-1, 1) * rng.integers(0, 2)
    shake = Motion.random(rng, lengths[0], frames, rng.uniform(0, side, 2), turn)
    if moves:
        moving, mask = _random_object(rng, clean)
        motion = Motion.random(rng, lengths[1], frames, _centre_of_mass(mask), rng.uniform(-0.08, 0.08))
        exposed = expose_layers(linear, shake, to_linear(moving) * mask[:, :, None], mask, motion)
        weight = mask[:, :, None]
        linear = linear + weight * (to_linear(moving) - linear)
        clean = np.where(weight > 0, to_grey_levels(linear), clean)
    else:
        exposed = expose(linear * _random_glare(rng, linear), shake)
    return gaussian_noise(rng, to_grey_levels(exposed), rng.uniform(0, 2)), clean


def camera_shake(rng: np.random.Generator, clean: np.ndarray, sharp: float = SHARP) -> tuple[np.ndarray, np.ndarray]:
    """Blur an image by a shift of the camera, without rotation and moving objects.

    The blur is the same everywhere in the image. Small networks learn it faster than ``motion_blur``. The length of the
    path is drawn from ``SHAKES``. Arguments and results are those of ``motion_blur``.
    """
    clean = _soften(rng, clean)
    if rng.random() < sharp:
        return clean, clean
    length = rng.uniform(*SHAKES)
    shake = Motion.random(rng, length, 3 + int(length / _STEP), np.zeros(2), 0.0)
    return gaussian_noise(rng, to_grey_levels(expose(to_linear(clean), shake)), rng.uniform(0, 2)), clean


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


def _soften(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
    """Blur some images, (H, W, 3) uint8, as if they were out of focus, and draw sharp fur on some of these.

    The result is also the target. Without such images, a network would take everything soft for motion blur. Images
    with fur are blurred more (sigma 1 to 8), and the contrast of the fur is 2 to 13 %.
    """
    if rng.random() >= SOFT:
        return clean
    if rng.random() >= FUR:
        soft: np.ndarray = cv2.GaussianBlur(clean, (0, 0), rng.uniform(0.4, 1.6))
        return soft
    height, width = clean.shape[:2]
    background = cv2.GaussianBlur(clean, (0, 0), 2 ** rng.uniform(0, 3)).astype(np.float32)
    hairs = fur(rng, max(height, width))[:height, :width, None] * np.float32(2 ** rng.uniform(-6, -3))
    return np.clip(background * (1 + hairs) + 0.5, 0, 255).astype(np.uint8)


def _warp(image: np.ndarray, matrix: np.ndarray, border: int) -> np.ndarray:
    """Move an image by an affine map, (2, 3)."""
    size = (image.shape[1], image.shape[0])
    warped: np.ndarray = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return warped


def to_linear(image: np.ndarray) -> np.ndarray:
    """Convert grey levels, uint8, to linear light in [0, 1], float32."""
    light: np.ndarray = _LINEAR[image]
    return light


def to_grey_levels(linear: np.ndarray) -> np.ndarray:
    """Convert linear light, float32, clipped to [0, 1], to grey levels, uint8."""
    return look_up(_GREY_LEVELS, np.clip(linear, 0, 1))


def _random_walk(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Return a random walk, (frames,), whose standard deviation at the end is 1."""
    return np.cumsum(rng.standard_normal(frames)) / frames**0.5


def _random_glare(rng: np.random.Generator, linear: np.ndarray) -> np.ndarray:
    """Return a factor for the light of each pixel, (H, W, 1) float32: in some images above 1 where they are white.

    Lamps are brighter than white. So the trail of a moving lamp is white, although the lamp is only shortly at each
    position.
    """
    excess = rng.uniform(0.5, 4) if rng.random() < 0.15 else 0.0
    return 1 + np.float32(excess) * np.clip((linear.min(axis=2, keepdims=True) - 0.9) / 0.1, 0, 1)


def _random_object(rng: np.random.Generator, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an object that moves in front of ``clean``, (H, W, 3) uint8, and its mask, (H, W) float32.

    Its pixels are those of ``clean``, turned by half a turn, and darker or lighter.
    """
    height, width = clean.shape[:2]
    gain, offset = rng.uniform(0.6, 1.4), rng.uniform(-60, 60)
    pixels = np.clip(np.rint(clean[::-1, ::-1] * gain + offset), 0, 255).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        radius = max(height, width) * 2 ** rng.uniform(-4, -1.5)
        border = rng.uniform(0, 1, 2) * [width, height] + radius * random_outline(rng, rng.uniform(0, 1))
        cv2.fillPoly(mask, [to_fixed_point(border)], 255, cv2.LINE_AA, FRACTION_BITS)
    return pixels, mask / np.float32(255)


def _centre_of_mass(mask: np.ndarray) -> np.ndarray:
    """Return the centre of the pixels that are not 0, x and y; the middle of the image if all are 0."""
    y, x = np.nonzero(mask)
    return np.array([x.mean(), y.mean()]) if x.size else np.array(mask.shape[::-1]) / 2
