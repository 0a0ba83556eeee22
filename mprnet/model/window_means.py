"""Means over windows, for local pooling (mprnet/model/local_pooling.py).

Along each dimension, means are a product with a matrix that holds 1 / size inside each window and 0 elsewhere. For
windows of hundreds of pixels a CPU is faster with this than with running sums, and every mean is a fresh sum in
float32. In full float32, a GPU would take longer for these products than for the network. It takes differences of
running sums, which are limited by memory. The mean of each channel is subtracted before, so that sums stay small.
"""

import torch
from torch import Tensor


def window_means(features: Tensor, window: tuple[int, int]) -> Tensor:
    """Return the means over all windows that lie inside the features.

    Args:
        features: (N, C, H, W), any floating-point type.
        window: rows and columns. A dimension that is shorter than its window has one window, the whole dimension.

    Returns:
        (N, C, H - rows + 1, W - columns + 1) float32, with 1 in place of a number below 1.
    """
    if features.device.type == "cuda":
        return running_means(features, window)
    means = features.permute(0, 2, 3, 1).float()
    batch, height, width, channels = means.shape
    means = _means_in_blocks(means.reshape(batch, height, width * channels), window[0])
    means = _means_in_blocks(means.view(batch, -1, width, channels), window[1])
    return means.permute(0, 3, 1, 2)


def running_means(features: Tensor, window: tuple[int, int]) -> Tensor:
    """Return ``window_means``, from running sums."""
    average = features.mean((2, 3), keepdim=True, dtype=torch.float32)
    means = features - average
    for dim, size in zip((2, 3), window, strict=True):
        length = means.shape[dim]
        if size >= length:
            means = means.mean(dim, keepdim=True)
            continue
        sums = means.cumsum_(dim)
        means = sums.narrow(dim, size - 1, length - size + 1).clone()
        means.narrow(dim, 1, length - size).sub_(sums.narrow(dim, 0, length - size))
        means /= size
    return means.add_(average)


def expand_to_pixels(values: Tensor, window: tuple[int, int], height: int, width: int) -> Tensor:
    """Give every pixel the value of the window around it; pixels near the border take the nearest window.

    Args:
        values: (N, C, h, w), one for each window, in the order of ``window_means``.

    Returns:
        (N, C, H, W); 1 stays 1 in place of H or W, so that the result can be broadcast.
    """
    for dim, size, length in ((2, window[0], height), (3, window[1], width)):
        if values.shape[dim] > 1:
            nearest = _window_start(torch.arange(length, device=values.device), size)
            values = values.index_select(dim, nearest.clamp(max=values.shape[dim] - 1))
    return values


def pixel_means(features: Tensor, window: tuple[int, int]) -> Tensor:
    """Return ``window_means``, expanded to pixels, for an export in which height and width are not fixed.

    The number of blocks, and which dimension is shorter than its window, would depend on the size. So each dimension
    is one product with a square matrix. Tensors are clamped, not sizes, because older exporters have no ``sym_max``.

    Args:
        features: (N, C, H, W), any floating-point type.

    Returns:
        (N, C, H, W) float32.
    """
    matrices = []
    for length, size in zip(features.shape[2:], window, strict=True):
        start = _window_start(torch.arange(length, device=features.device), size)
        start = (start - (start + (size - length)).clamp(min=0)).clamp(min=0)
        matrices.append(_averaging(start, size, length))
    rows, columns = matrices
    return rows @ features.float() @ columns.T


def _window_start(pixel: Tensor, size: int) -> Tensor:
    """Where the window around each pixel begins, not before 0. An even window has one more pixel after than before."""
    return (pixel - (size - 1) // 2).clamp(min=0)


def _means_in_blocks(x: Tensor, size: int) -> Tensor:
    """Means of ``size`` neighbours along the second last dimension, or of the whole dimension if it is shorter."""
    length = x.shape[-2]
    if size >= length:
        return x.mean(-2, keepdim=True)
    count = length - size + 1
    block = min(count, max(64, size // 2))
    matrix = _averaging(torch.arange(block, device=x.device), size, block + size - 1)
    parts = []
    for start in range(0, count, block):
        windows = min(block, count - start)
        pixels = windows + size - 1
        parts.append(matrix[:windows, :pixels] @ x.narrow(-2, start, pixels))
    return torch.cat(parts, dim=-2)


def _averaging(start: Tensor, size: int, length: int) -> Tensor:
    """The matrix (windows, length) that takes the mean over each window; windows are cut off at ``length``."""
    place = torch.arange(length, device=start.device)
    inside = ((place >= start[:, None]) & (place < start[:, None] + size)).float()
    return inside / inside.sum(1, keepdim=True)
