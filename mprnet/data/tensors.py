"""Conversion between arrays (H, W, 3) and tensors (3, H, W)."""

import numpy as np
import torch
from torch import Tensor


def to_tensor(image: np.ndarray) -> Tensor:
    """Convert an image (H, W, 3), uint8 or float32 in [0, 1], to (3, H, W) float32 in [0, 1]."""
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


def to_array(image: Tensor) -> np.ndarray:
    """Convert (3, H, W) to a contiguous array (H, W, 3) of the same type."""
    return image.permute(1, 2, 0).cpu().contiguous().numpy()


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return an image, uint8 or floats in [0, 1], as uint8. Floats are multiplied by 255 and rounded."""
    return image if image.dtype == np.uint8 else np.rint(255 * image).astype(np.uint8)
