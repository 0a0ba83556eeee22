"""Motion blur as a degradation: the camera shakes, or an object moves, while the shutter is open.

A blurred image is the mean of sharp frames. A sensor averages linear light. GoPro's pairs are means of frames of grey
levels instead (Nah et al., "Deep multi-scale convolutional neural network for dynamic scene deblurring", CVPR 2017, the
variant without gamma correction), so a part of the samples is, too. The mean position over the frames is the position
in the sharp image, so the blurred and the sharp image are aligned.
"""

from dataclasses import replace

import cv2
import numpy as np

from mprnet.data.synthetic.camera import compress_jpeg
from mprnet.data.synthetic.dead_leaves import random_outline
from mprnet.data.synthetic.drawing import FRACTION_BITS, to_fixed_point
from mprnet.data.synthetic.exposure import GAMMA, Motion, expose, expose_layers, to_grey_levels, to_linear
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.data.synthetic.textures import fur

SHARP = 0.15  # share of the samples without motion
SOFT = 0.7  # share of the samples whose scene is out of focus, in the target too
FUR = 0.7  # share of these that have sharp fur on the soft scene
SHARPENED = 0.3  # share of those without fur that a camera has sharpened
LONGEST = 24.0  # longest path of a motion, in pixels
SHAKES = (3.0, 15.0)  # shortest and longest path of ``camera_shake``, in pixels; that of some samples is doubled
MARGIN = 16  # pixels around a crop from which objects may move into it
GREY = 0.3  # share of the samples that are means of grey levels; the others are means of linear light
JPEG = 0.2  # share of the blurred images that are compressed
NOISY = 0.15  # share of the blurred images whose noise has a sigma of 2 to 6, not 0 to 2
_STEP = 0.8  # largest distance between frames, in pixels


def motion_blur(rng: np.random.Generator, clean: np.ndarray, sharp: float = SHARP) -> tuple[np.ndarray, np.ndarray]:
    """Blur an image by a random shake of the camera, a moving object, both, or neither.

    In half of the shakes the camera turns. In half of them the scene has depth: its parts, or a near object before it,
    move by different amounts.

    Args:
        clean: (H, W, 3) uint8. It is continued beyond its border by reflection.
        sharp: probability of no motion, 0 to 1.

    Returns:
        The blurred image, with noise and sometimes with JPEG, and the target: ``clean``, sometimes softened, and with
        the object if there is one. Both are (H, W, 3) uint8.
    """
    clean = _soften(rng, clean)
    if rng.random() < sharp:
        return clean, clean
    side = max(clean.shape[:2])
    gamma = _random_gamma(rng)
    linear = to_linear(clean, gamma)
    moves, shakes = ((False, True), (True, True), (True, False))[rng.choice(3, p=[0.5, 0.25, 0.25])]
    lengths = np.minimum(rng.gamma(3.5, 2.8, 2), LONGEST) * [shakes, 1]
    # An object that is still, but nearer than the scene, moves with the shake, and more than the scene.
    nearness = rng.uniform(1.3, 3) if moves and shakes and rng.random() < 0.5 else None
    if nearness is not None:
        nearness = min(nearness, LONGEST / lengths[0])
        lengths[1] = nearness * lengths[0]
    frames = 3 + int(np.ceil(lengths[: 1 + moves].max() / _STEP))
    # The rotation moves the border by half the side times the angle, which is at most half the length of the path.
    turn = lengths[0] / side * rng.uniform(-1, 1) * rng.integers(0, 2)
    shake = Motion.random(rng, lengths[0], frames, rng.uniform(0, side, 2), turn)
    if rng.random() < 0.5:
        # At a distance of the side from the centre, the shift is up to 0.7 of itself greater or smaller.
        shake = replace(shake, slant=rng.uniform(-0.5, 0.5, 2) / side)
    if moves:
        moving, mask = _random_object(rng, clean)
        if nearness is None:
            motion = Motion.random(rng, lengths[1], frames, _centre_of_mass(mask), rng.uniform(-0.08, 0.08))
        else:
            motion = replace(shake, shifts=nearness * shake.shifts)
        exposed = expose_layers(linear, shake, to_linear(moving, gamma) * mask[:, :, None], mask, motion)
        weight = mask[:, :, None]
        linear = linear + weight * (to_linear(moving, gamma) - linear)
        clean = np.where(weight > 0, to_grey_levels(linear, gamma), clean)
    else:
        exposed = expose(linear * _random_glare(rng, linear), shake)
    return _take_photograph(rng, to_grey_levels(exposed, gamma)), clean


def camera_shake(rng: np.random.Generator, clean: np.ndarray, sharp: float = SHARP) -> tuple[np.ndarray, np.ndarray]:
    """Blur an image by a shift of the camera, without rotation and moving objects.

    The blur is the same everywhere in the image. Small networks learn it faster than ``motion_blur``. The length of the
    path is drawn from ``SHAKES``, and longer for some. Arguments and results are those of ``motion_blur``.
    """
    clean = _soften(rng, clean)
    if rng.random() < sharp:
        return clean, clean
    # Most long paths are winding, so that the blur is not as wide as the path is long.
    length = rng.uniform(*SHAKES) * (rng.uniform(1, 2) if rng.random() < 0.3 else 1)
    shake = Motion.random(rng, length, 3 + int(length / _STEP), np.zeros(2), 0.0)
    gamma = _random_gamma(rng)
    return _take_photograph(rng, to_grey_levels(expose(to_linear(clean, gamma), shake), gamma)), clean


def _random_gamma(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < GREY else GAMMA


def _take_photograph(rng: np.random.Generator, blurred: np.ndarray) -> np.ndarray:
    """Add little noise to an image, (H, W, 3) uint8, a little more to some, and compress some as JPEG."""
    noisy = gaussian_noise(rng, blurred, rng.uniform(2, 6) if rng.random() < NOISY else rng.uniform(0, 2))
    return compress_jpeg(rng, noisy, int(rng.integers(70, 98))) if rng.random() < JPEG else noisy


def _soften(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
    """Blur some images, (H, W, 3) uint8, as if they were out of focus, and draw sharp fur on some of these.

    The result is also the target. Without such images, a network would take everything soft for motion blur. Images
    with fur are blurred more (sigma 1 to 8), and the contrast of the fur is 2 to 13 %.
    """
    if rng.random() >= SOFT:
        return clean
    if rng.random() >= FUR:
        soft: np.ndarray = cv2.GaussianBlur(clean, (0, 0), rng.uniform(0.4, 1.6))
        if rng.random() < SHARPENED:
            gain = rng.uniform(0.2, 0.7)
            soft = cv2.addWeighted(soft, 1 + gain, cv2.GaussianBlur(soft, (0, 0), rng.uniform(1, 1.6)), -gain, 0)
        return soft
    height, width = clean.shape[:2]
    background = cv2.GaussianBlur(clean, (0, 0), 2 ** rng.uniform(0, 3)).astype(np.float32)
    hairs = fur(rng, max(height, width))[:height, :width, None] * np.float32(2 ** rng.uniform(-6, -3))
    return np.clip(background * (1 + hairs) + 0.5, 0, 255).astype(np.uint8)


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
