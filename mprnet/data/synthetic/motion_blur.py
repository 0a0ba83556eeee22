"""Motion blur as a degradation: what a shaken camera, or one at which things move, gathers while its shutter is open.

An exposure is a mean of sharp frames, in linear light, as GoPro's pairs are made (Nah et al., "Deep multi-scale
convolutional neural network for dynamic scene deblurring", CVPR 2017). Every motion's mean place is that of the sharp
picture, so that blurred and sharp picture lie on one another.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.data.synthetic.dead_leaves import outline
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.data.synthetic.textures import fur

SHARP = 0.1  # part of the samples that nothing moves in
SOFT = 0.7  # part of the samples whose scene is out of focus, and stays so, shaken or not
FUR = 0.7  # part of these that have sharp fur on what is soft
LONGEST = 24.0  # of the ways, pixels
SHAKES = (3.0, 15.0)  # of those of ``camera_shake``
MARGIN = 16  # pixels around a crop from where something may move into it
_STEP = 0.8  # pixels between frames, at most
_GAMMA = 2.2
_LINEAR = ((np.arange(256) / 255) ** _GAMMA).astype(np.float32)
_LEVELS = 4096
_ENCODED = (255 * np.linspace(0, 1, _LEVELS) ** (2 / _GAMMA)).astype(np.float32)


@dataclass(frozen=True)
class Motion:
    """Where something is in each of an exposure's frames."""

    shifts: np.ndarray  # (frames, 2) x and y in pixels; their mean is 0
    angles: np.ndarray  # (frames,) radians, about ``centre``; their mean is 0
    centre: np.ndarray  # (2,) x and y

    @classmethod
    def random(cls, rng: np.random.Generator, length: float, frames: int, centre: np.ndarray, turn: float) -> "Motion":
        """A way of ``length`` pixels: straight, bent or trembling; while turning by about ``turn`` radians."""
        time = np.linspace(-0.5, 0.5, frames)
        restless = rng.choice([0.0, rng.uniform(0, 1), rng.uniform(1, 4)], p=[0.3, 0.4, 0.3])
        heading = rng.uniform(0, 2 * np.pi) + restless * _wander(rng, frames)
        speed = np.exp(rng.uniform(0, 0.8) * _wander(rng, frames))
        steps = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        shifts = np.cumsum(steps, axis=0) * (length / max(np.hypot(*steps[1:].T).sum(), 1e-6))
        angles = turn * (time + 0.3 * restless * _wander(rng, frames))
        return cls(shifts - shifts.mean(axis=0), angles - angles.mean(), centre)

    def matrices(self) -> np.ndarray:
        """(frames, 2, 3): from where a thing's point is in the sharp picture to where it is in each frame."""
        cosine, sine = np.cos(self.angles), np.sin(self.angles)
        turns = np.stack([np.stack([cosine, -sine], axis=1), np.stack([sine, cosine], axis=1)], axis=1)
        places = self.centre + self.shifts - turns @ self.centre
        return np.concatenate([turns, places[:, :, None]], axis=2)


def motion_blur(rng: np.random.Generator, clean: np.ndarray, sharp: float = SHARP) -> tuple[np.ndarray, np.ndarray]:
    """A picture taken with a shaken camera, of things that move, or of both; now and then of neither.

    Args:
        clean: (H, W, 3) uint8; what comes from beyond its border is its reflection.
        sharp: how often nothing moves, 0 to 1.

    Returns:
        The blurred picture, with noise of sigma 0 to 2, and the sharp one: ``clean``, at times softened, at times with
        moving things laid onto it; same shape, uint8.
    """
    clean = _softened(rng, clean)
    if rng.random() < sharp:
        return clean, clean
    side = max(clean.shape[:2])
    linear = decoded(clean)
    moves, shakes = ((False, True), (True, True), (True, False))[rng.choice(3, p=[0.6, 0.2, 0.2])]
    lengths = np.minimum(rng.gamma(3.5, 2.8, 2), LONGEST) * [shakes, 1]
    frames = 3 + int(np.ceil(lengths[: 1 + moves].max() / _STEP))
    # A picture's border moves by half its side times the angle: as far as the shift, at most.
    turn = lengths[0] / side * rng.uniform(-1, 1) * rng.integers(0, 2)
    shake = Motion.random(rng, lengths[0], frames, rng.uniform(0, side, 2), turn)
    if moves:
        thing, mask = _thing(rng, clean)
        motion = Motion.random(rng, lengths[1], frames, _middle(mask), rng.uniform(-0.08, 0.08))
        exposed = expose_layers(linear, shake, decoded(thing) * mask[:, :, None], mask, motion)
        share = mask[:, :, None]
        linear = linear + share * (decoded(thing) - linear)
        clean = np.where(share > 0, encoded(linear), clean)
    else:
        exposed = expose(linear * _glare(rng, linear), shake)
    return gaussian_noise(rng, encoded(exposed), rng.uniform(0, 2)), clean


def camera_shake(rng: np.random.Generator, clean: np.ndarray, sharp: float = SHARP) -> tuple[np.ndarray, np.ndarray]:
    """A picture taken with a camera that shifts, on a way of ``SHAKES``: the part of ``motion_blur`` that is the same
    everywhere in the picture, and that networks too small for the whole of it learn sooner.

    Arguments and results are those of ``motion_blur``.
    """
    clean = _softened(rng, clean)
    if rng.random() < sharp:
        return clean, clean
    length = rng.uniform(*SHAKES)
    shake = Motion.random(rng, length, 3 + int(length / _STEP), np.zeros(2), 0.0)
    return gaussian_noise(rng, encoded(expose(decoded(clean), shake)), rng.uniform(0, 2)), clean


def expose(linear: np.ndarray, motion: Motion) -> np.ndarray:
    """Mean of (H, W, C) float32 in linear light over a motion's frames."""
    total = np.zeros_like(linear)
    for matrix in motion.matrices():
        cv2.accumulate(_moved(linear, matrix, cv2.BORDER_REFLECT), total)
    return total / np.float32(len(motion.angles))


def expose_layers(ground: np.ndarray, shake: Motion, thing: np.ndarray, mask: np.ndarray, motion: Motion) -> np.ndarray:
    """Mean over the frames in which something moves before a ground, each in its own way.

    Args:
        ground: (H, W, 3) float32 in linear light.
        thing: the same, multiplied by ``mask``.
        mask: (H, W) float32, 1 where the thing hides the ground.

    Returns:
        (H, W, 3) float32.
    """
    layer = np.dstack([thing, mask])
    total = np.zeros_like(ground)
    still = not shake.shifts.any() and not shake.angles.any()
    for behind, before in zip(shake.matrices(), motion.matrices(), strict=True):
        there = _moved(layer, before, cv2.BORDER_CONSTANT)
        seen = ground if still else _moved(ground, behind, cv2.BORDER_REFLECT)
        total += there[:, :, :3]
        total += seen * (1 - there[:, :, 3:])
    return total / np.float32(len(motion.angles))


def _softened(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
    """At times, and then at times with sharp fur all over: or a network takes all that is soft for shaken.

    What comes back is the target too. Fur is drawn on what is softened much (sigma 1 to 8), at 2 to 13 % of contrast.
    """
    if rng.random() >= SOFT:
        return clean
    if rng.random() >= FUR:
        soft: np.ndarray = cv2.GaussianBlur(clean, (0, 0), rng.uniform(0.4, 1.6))
        return soft
    height, width = clean.shape[:2]
    ground = cv2.GaussianBlur(clean, (0, 0), 2 ** rng.uniform(0, 3)).astype(np.float32)
    hairs = fur(rng, max(height, width))[:height, :width, None] * np.float32(2 ** rng.uniform(-6, -3))
    return np.clip(ground * (1 + hairs) + 0.5, 0, 255).astype(np.uint8)


def _moved(image: np.ndarray, matrix: np.ndarray, border: int) -> np.ndarray:
    size = (image.shape[1], image.shape[0])
    moved: np.ndarray = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return moved


def decoded(image: np.ndarray) -> np.ndarray:
    """Grey levels, uint8, to linear light in [0, 1], float32."""
    light: np.ndarray = _LINEAR[image]
    return light


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light, clipped to [0, 1], to uint8. The table is over the square root: shadows are steep."""
    place = np.sqrt(np.clip(linear, 0, 1)) * np.float32(_LEVELS - 1)
    return np.rint(_ENCODED[np.rint(place).astype(np.int32)]).astype(np.uint8)


def _wander(rng: np.random.Generator, frames: int) -> np.ndarray:
    """A random walk of (frames,) steps, of about 1 from one end of the exposure to the other."""
    return np.cumsum(rng.standard_normal(frames)) / frames**0.5


def _glare(rng: np.random.Generator, linear: np.ndarray) -> np.ndarray:
    """In a few pictures, how many times brighter than white the light of white places is, (H, W, 1) float32, else 1.

    A lamp's trail is white all along, though it dwells nowhere for long.
    """
    excess = rng.uniform(0.5, 4) if rng.random() < 0.15 else 0.0
    return 1 + np.float32(excess) * np.clip((linear.min(axis=2, keepdims=True) - 0.9) / 0.1, 0, 1)


def _thing(rng: np.random.Generator, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Something to move before ``clean``: its own other end, a little darker or lighter, and a mask (H, W) float32."""
    height, width = clean.shape[:2]
    gain, offset = rng.uniform(0.6, 1.4), rng.uniform(-60, 60)
    thing = np.clip(np.rint(clean[::-1, ::-1] * gain + offset), 0, 255).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        radius = max(height, width) * 2 ** rng.uniform(-4, -1.5)
        border = rng.uniform(0, 1, 2) * [width, height] + radius * outline(rng, rng.uniform(0, 1))
        cv2.fillPoly(mask, [np.rint(16 * border).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return thing, mask / np.float32(255)


def _middle(mask: np.ndarray) -> np.ndarray:
    """A mask's centre of mass, x and y, or the picture's middle."""
    y, x = np.nonzero(mask)
    return np.array([x.mean(), y.mean()]) if x.size else np.array(mask.shape[::-1]) / 2
