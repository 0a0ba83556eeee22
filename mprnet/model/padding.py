"""Sizes that are multiples of a number: what networks take."""

import torch
from torch import Tensor


def round_up(length: int, multiple: int) -> int:
    """Return the smallest multiple of ``multiple`` that is not below ``length``."""
    return -(-length // multiple) * multiple


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad height and width at the bottom and right to multiples of ``multiple``, by reflection.

    Args:
        images: (N, C, H, W), H and W at least 1. A dimension that is too short for one reflection is reflected back
            and forth. torch.export can leave H and W free if they are above ``multiple``.
    """
    for dim in (2, 3):
        size = images.shape[dim]
        if isinstance(size, torch.SymInt) or size % multiple:
            images = images.index_select(dim, _reflected(size, multiple, images.device))
    return images


def _reflected(size: int, multiple: int, device: torch.device) -> Tensor:
    """For each place of the padded dimension, which place of the dimension it shows."""
    blocks = torch.arange((size - 1) // multiple + 1, device=device)
    # A sum of blocks and places in them, so that torch.export knows that the length is a multiple.
    place = (blocks[:, None] * multiple + torch.arange(multiple, device=device)).flatten()
    last = size - 1
    if isinstance(size, int):
        place = place % max(1, 2 * last)  # a short dimension is reflected several times; ONNX has no such remainder
    return (last - (last - place).abs()).clamp(min=0)
