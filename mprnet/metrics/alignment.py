"""The protocol of RealBlur (Rim et al., ECCV 2020; the paper's Table 4): align the images, then compare them.

Two cameras took RealBlur's blurred and sharp photographs, so the two are displaced.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mprnet.metrics.fidelity import WINDOW_SIZE, crop_border, scale, ssim_map

_ITERATIONS, _SMOOTHING = 100, 5
_NOTHING_IN_COMMON = "the aligned image and its target have nothing in common."


@dataclass(frozen=True)
class Aligned:
    """An image aligned with its target.

    Attributes:
        image: (H, W, 3) float32, 0 where ``mask`` is.
        target: as ``image``.
        mask: (H, W, 3) float32: 1 where the image has pixels, else 0.
        homography: (3, 3) float32, from the target's pixel coordinates to the image's.
    """

    image: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    homography: np.ndarray


def align(image: np.ndarray, target: np.ndarray) -> Aligned:
    """Align an image with its target: multiply its brightness by a gain, then warp it by a homography.

    The gain has the least squared error. The homography maximises the enhanced correlation coefficient of the grey
    images (Evangelidis and Psarakis 2008).

    Args:
        image, target: (H, W, 3), of one shape: uint8, uint16 or float in [0, 1].

    Raises:
        ValueError: shapes differ, another dtype, floats outside [0, 1] by more than 0.001, or the images have nothing
            in common that could be aligned.
    """
    if image.shape != target.shape or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"align takes two (H, W, 3) images of one shape, not {image.shape} and {target.shape}.")
    x, y = scale(image), scale(target)
    energy = np.sum(x * x, dtype=np.float64)
    if not energy:
        raise ValueError("a black image cannot be aligned.")
    x = x * np.float32(np.sum(x * y, dtype=np.float64) / energy)
    homography = np.eye(3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 0)
    template, grey = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (y, x))
    everywhere = np.full(grey.shape, 255, np.uint8)
    try:
        _, result = cv2.findTransformECC(
            template, grey, homography, cv2.MOTION_HOMOGRAPHY, criteria, everywhere, _SMOOTHING
        )
    except cv2.error as error:
        raise ValueError("the image has nothing in common with its target that could be aligned.") from error
    homography = np.asarray(result, np.float32)
    size = (x.shape[1], x.shape[0])
    warped = cv2.warpPerspective(
        x, homography, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    mask = cv2.warpPerspective(
        np.ones_like(x), homography, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=(0, 0, 0)
    )
    return Aligned(warped * mask, y * mask, mask, homography)


def masked_psnr(aligned: Aligned) -> float:
    """Return the PSNR where ``mask`` is 1, in decibels; infinity if the images are equal there.

    Raises:
        ValueError: the mask is empty.
    """
    common = np.sum(aligned.mask, dtype=np.float64)
    if not common:
        raise ValueError(_NOTHING_IN_COMMON)
    error = np.sum(np.square(aligned.image.astype(np.float64) - aligned.target)) / common
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def masked_ssim(aligned: Aligned) -> float:
    """Return the mean over the channels of the SSIM where ``mask`` is 1; each channel is compared separately.

    Raises:
        ValueError: the images are smaller than 11x11 pixels, or the mask is empty.
    """
    if min(aligned.mask.shape[:2]) < WINDOW_SIZE:
        raise ValueError(f"masked_ssim takes images of at least 11x11 pixels, not {aligned.mask.shape[:2]}.")
    mask = crop_border(aligned.mask.astype(np.float64))
    common = mask.sum((0, 1))
    if not common.all():
        raise ValueError(_NOTHING_IN_COMMON)
    return float(np.mean((crop_border(ssim_map(aligned.image, aligned.target)) * mask).sum((0, 1)) / common))
