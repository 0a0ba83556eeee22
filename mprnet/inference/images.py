"""What people hand over as images, as batches for a network."""

import numpy as np
import torch
from torch import Tensor


def to_batch(image: np.ndarray) -> Tensor:
    """(H, W, 3) float array in [0, 1] to (1, 3, H, W) float32.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image is a NumPy array or a batch a tensor, not a {type(image).__name__}.")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is an array of shape (H, W, 3), not {image.shape}.")
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"an image holds floats in [0, 1], not {image.dtype}: divide by its peak, 255 for 8 bits.")
    array = np.ascontiguousarray(image, dtype=np.float32)
    return checked(torch.from_numpy(array if array.flags.writeable else array.copy()).permute(2, 0, 1)[None])


def checked(batch: Tensor) -> Tensor:
    """``batch`` itself, if it is (N, 3, H, W) of any floating-point type, in [0, 1] up to 0.001, none of them 0.

    Raises:
        ValueError: it is something else.
    """
    if batch.ndim != 4 or batch.shape[1] != 3 or 0 in batch.shape:
        raise ValueError(f"a batch of images has the shape (N, 3, H, W), none of them 0, not {tuple(batch.shape)}.")
    if not batch.is_floating_point():
        raise ValueError(f"images hold floats in [0, 1], not {batch.dtype}: divide by their peak, 255 for 8 bits.")
    low, high = batch.aminmax()
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also if there are NaN
        raise ValueError(f"images hold values in [0, 1], not from {float(low):g} to {float(high):g}.")
    return batch


def pad_to_multiple(batch: Tensor, multiple: int) -> Tensor:
    """Pad height and width at the bottom and right to multiples of ``multiple`` by reflection.

    (N, C, H, W), H and W at least 1. Where a side is too short for one reflection, it is reflected back and forth.
    """
    for dim in (2, 3):
        size = batch.shape[dim]
        target = -(-size // multiple) * multiple
        if target != size:
            period = max(1, 2 * (size - 1))
            position = torch.arange(target, device=batch.device) % period
            batch = batch.index_select(dim, torch.minimum(position, period - position).clamp(max=size - 1))
    return batch
