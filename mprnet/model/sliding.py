"""Means over windows, for local pooling (mprnet/model/local_pooling.py)."""

import torch
from torch import Tensor


def sliding_mean(features: Tensor, window: tuple[int, int]) -> Tensor:
    """The means over all windows of so many rows and columns that lie within the features; a side that is too short for
    its window is averaged as a whole.

    Each axis is a product with a band matrix, block by block: for windows of hundreds of pixels that takes less time
    than running sums do, and every mean is a fresh sum in fp32.

    Args:
        features: (N, C, H, W), any floating-point type.

    Returns:
        (N, C, H - rows + 1, W - columns + 1) float32, or 1 in the place of either.
    """
    means = features.permute(0, 2, 3, 1).float()
    batch, height, width, channels = means.shape
    means = _windowed(means.reshape(batch, height, width * channels), window[0])
    means = _windowed(means.view(batch, -1, width, channels), window[1])
    return means.permute(0, 3, 1, 2)


def _windowed(x: Tensor, size: int) -> Tensor:
    """Means of ``size`` neighbours along the last but one dimension, or of all of it."""
    length = x.shape[-2]
    if size >= length:
        return x.mean(-2, keepdim=True)
    count, block = length - size + 1, min(length - size + 1, max(64, size // 2))
    offset = torch.arange(block + size - 1, device=x.device) - torch.arange(block, device=x.device)[:, None]
    matrix = ((offset >= 0) & (offset < size)).float() / size
    parts = []
    for start in range(0, count, block):
        rows = min(block, count - start)
        parts.append(matrix[:rows, : rows + size - 1] @ x.narrow(-2, start, rows + size - 1))
    return torch.cat(parts, dim=-2)


def replicate(x: Tensor, dim: int, before: int, length: int) -> Tensor:
    """Repeat the first and the last entry along ``dim``, the first ``before`` times, until there are ``length``."""
    position = (torch.arange(length, device=x.device) - before).clamp(0, x.shape[dim] - 1)
    return x.index_select(dim, position)


def mean_around(features: Tensor, window: tuple[int, int]) -> Tensor:
    """``sliding_mean``, already replicated to every pixel, for an export whose height and width are yet free.

    How many blocks there are, and which side is shorter than its window, depends on sizes; so each axis is one product
    with a matrix as large as the side. Tensors are clamped and not sizes, since older exporters lack ``sym_max``.

    Args:
        features: (N, C, H, W), any floating-point type.

    Returns:
        (N, C, H, W) float32.
    """
    rows, columns = (_averaging(features.shape[dim], window[dim - 2], features.device) for dim in (2, 3))
    return rows @ features.float() @ columns.T


def _averaging(length: int, size: int, device: torch.device) -> Tensor:
    """The matrix (length, length) that takes, for every place, the mean over the nearest window that fits."""
    place = torch.arange(length, device=device)
    first = (place - (size - 1) // 2).clamp(min=0)
    first = (first - (first + (size - length)).clamp(min=0)).clamp(min=0)
    inside = ((place >= first[:, None]) & (place < first[:, None] + size)).float()
    return inside / inside.sum(1, keepdim=True)
