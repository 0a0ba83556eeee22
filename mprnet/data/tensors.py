"""Conversion between arrays (H, W, 3) and tensors (3, H, W), and from the CPU to a device."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor


def to_tensor(image: np.ndarray) -> Tensor:
    """Convert an image (H, W, 3), uint8 or float32 in [0, 1], to (3, H, W) float32 in [0, 1]."""
    return as_float(to_planes(image))


def to_planes(image: np.ndarray) -> Tensor:
    """Copy an image (H, W, 3), uint8 or float32, to a tensor (3, H, W) of the same type."""
    if image.dtype == np.uint8:
        return _split_bytes(image)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def as_float(images: Tensor) -> Tensor:
    """Return images as float32: uint8 divided by 255, floats unchanged. All devices give the same bits."""
    if images.dtype != torch.uint8:
        return images
    if images.device.type == "cpu":  # NumPy converts and divides in one pass over memory
        return torch.from_numpy(np.divide(images.numpy(), 255, dtype=np.float32))
    # GPUs would multiply by 1/255 if the divisor were a number.
    return images.float() / torch.full((), 255.0, device=images.device)


def to_bytes(images: Tensor) -> Tensor:
    """Return images (N, 3, H, W) of float32 as uint8, clipped to [0, 1], times 255, rounded.

    Values must be below 8 million. On a CPU the result has channels last.
    """
    if images.device.type != "cpu":
        return images.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    result = torch.empty_like(images, dtype=torch.uint8, memory_format=torch.channels_last)
    for image, given in zip(result.permute(0, 2, 3, 1).numpy(), images.permute(0, 2, 3, 1).numpy(), strict=True):
        # One pass over memory: OpenCV rounds and clips while it multiplies.
        cv2.addWeighted(given, 255, given, 0, 0, dst=image, dtype=cv2.CV_8U)
    return result


def are_finite(images: Sequence[Tensor]) -> Tensor:
    """Return True, as a tensor, if all values of images (N, C, H, W) are finite. A GPU is not waited for.

    Finite values whose sum is not are so far from an image that they count as not finite.
    """
    return torch.stack([image.permute(0, 2, 3, 1).sum() for image in images]).isfinite().all()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device. With CUDA, this process does not wait until it is copied."""
    return tensor.to(device, non_blocking=device.type == "cuda")


def to_array(image: Tensor) -> np.ndarray:
    """Convert (3, H, W) to a contiguous array (H, W, 3) of the same type."""
    return image.permute(1, 2, 0).cpu().contiguous().numpy()


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return an image, uint8 or floats in [0, 1], as uint8. Floats are multiplied by 255 and rounded."""
    return image if image.dtype == np.uint8 else np.rint(255 * image).astype(np.uint8)


def _split_bytes(image: np.ndarray) -> Tensor:
    """Return (H, W, 3) uint8 as (3, H, W).

    NumPy copies turned and flipped views slowly. So this function turns them back first, which copies nothing, and lets
    OpenCV turn the copy.
    """
    up, left = (stride < 0 for stride in image.strides[:2])
    image = image[:: -1 if up else 1, :: -1 if left else 1]
    turned = image.strides[0] < image.strides[1]
    image = np.ascontiguousarray(image.transpose(1, 0, 2) if turned else image)
    if turned:
        image = cv2.transpose(image)
    if up or left:
        image = cv2.flip(image, -1 if up and left else int(left))
    planes = torch.empty((3, *image.shape[:2]), dtype=torch.uint8)  # OpenCV is slow if it is not aligned as a tensor is
    cv2.split(image, list(planes.numpy()))
    return planes
