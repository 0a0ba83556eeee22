"""Less memory in inference: features are overwritten, and large ones are computed in bands of rows."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def can_overwrite() -> bool:
    """Return True if operations are not recorded, for gradients or by a compiler: tensors may be overwritten then."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def memory_format(device: torch.device, dtype: torch.dtype | None = None) -> torch.memory_format:
    """Return the memory format of images, weights and features in which ``device`` convolves fastest.

    On Metal this is contiguous: PyTorch, up to 2.10 at least, gives wrong results there with channels_last (its issues
    147510 and 174345). AMD's library for convolutions (ROCm) and true fp32 on NVIDIA's GPUs are made for it as well;
    tensor cores (16 bits and TF32) take channels_last.

    Args:
        dtype: of the features, float32 if they are computed in true fp32. None: tensor cores compute them, where there
            are any.
    """
    is_rocm = device.type == "cuda" and torch.version.hip is not None
    is_true_fp32 = device.type == "cuda" and dtype == torch.float32
    return torch.contiguous_format if device.type == "mps" or is_rocm or is_true_fp32 else torch.channels_last


def max_band_bytes(device: torch.device) -> int:
    """Return the size limit of a band of rows.

    On the CPU, the C library reuses small blocks, but takes large ones from the system each time. Their page faults
    cost up to a third of the time. On other devices bands only lower the peak of memory, and small ones would leave a
    GPU idle. The meta device is treated as the CPU, because memory is estimated there.
    """
    return 2**24 if device.type in ("cpu", "meta") else 2**28


def apply_in_bands(
    layer: Callable[..., Tensor], inputs: Sequence[Tensor], halo: int, out: Tensor | None = None
) -> Tensor:
    """Return ``layer(*inputs)``; in inference, large results are computed one band of rows at a time.

    Args:
        layer: from tensors (N, C, H, W) to one of the same N, H and W. It pads with zeros, as convolutions do.
        halo: on how many rows above and below its own a row of the result depends.
        out: a tensor of the result's shape that the caller does not need any more. Bands are written to it. Without a
            halo it may be one of the inputs.
    """
    first = inputs[0]
    height = first.shape[2]
    rows = max(16, max_band_bytes(first.device) * height // (first.element_size() * first.numel()))
    if not can_overwrite() or rows >= height:
        return layer(*inputs)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        begin, end = max(0, top - halo), min(height, bottom + halo)
        band = layer(*(x.narrow(2, begin, end - begin) for x in inputs))
        if out is None:
            batch, channels, _, width = band.shape
            out = empty_in_format_of(first, (batch, channels, height, width), band.dtype)
        out.narrow(2, top, bottom - top).copy_(band.narrow(2, top - begin, bottom - top))
    assert out is not None
    return out


def empty_in_format_of(features: Tensor, shape: tuple[int, int, int, int], dtype: torch.dtype) -> Tensor:
    """Return a tensor (N, C, H, W) without values, on the device and in the memory format of ``features``."""
    # With channels last, the numbers of one pixel are neighbours.
    layout = torch.channels_last if features.stride(1) == 1 else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=features.device, memory_format=layout)


def accumulate(total: Tensor, addend: Tensor) -> Tensor:
    """Return ``total + addend``; in inference the sum overwrites ``total``."""
    return total.add_(addend) if can_overwrite() else total + addend
