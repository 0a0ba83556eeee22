"""Memory where nothing is recorded: features written over, and large ones computed a band of rows at a time."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def recording() -> bool:
    """Whether what happens is recorded, for gradients or by a compiler; buffers are then left alone."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def layout(device: torch.device) -> torch.memory_format:
    """How images, weights and features lie in memory where ``device`` convolves fastest.

    On Metal channels go first: PyTorch up to 2.10 at least has wrong results of channels_last there (its issues 147510,
    174345).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def band_bytes(device: torch.device) -> int:
    """How large a band of rows is at most.

    On the CPU the C library hands out small blocks again and again, and larger ones fresh from the system, whose page
    faults take up to a third of the time. Elsewhere bands only keep the peak of memory down, and small ones would leave
    a GPU idle. On the meta device memory is reckoned as on the CPU.
    """
    return 2**24 if device.type in ("cpu", "meta") else 2**28


def by_rows(layer: Callable[..., Tensor], inputs: Sequence[Tensor], halo: int, out: Tensor | None = None) -> Tensor:
    """``layer(*inputs)``, computed a band of rows at a time where it is large.

    Args:
        layer: of tensors (N, C, H, W), to another channel count at most; pads with zeros as convolutions do.
        halo: how many rows further than its own a row of the result depends on.
        out: a tensor of the result's shape that may be used for it; without a halo, an input too.
    """
    first = inputs[0]
    height = first.shape[2]
    rows = max(16, band_bytes(first.device) * height // (first.element_size() * first.numel()))
    if recording() or rows >= height:
        return layer(*inputs)
    for top in range(0, height, rows):
        begin, end = max(0, top - halo), min(height, top + rows + halo)
        result = layer(*(x.narrow(2, begin, end - begin) for x in inputs))
        if out is None:
            batch, channels, _, width = result.shape
            out = torch.empty(
                (batch, channels, height, width),
                dtype=result.dtype,
                device=result.device,
                memory_format=layout(result.device),
            )
        kept = min(rows, height - top)
        out.narrow(2, top, kept).copy_(result.narrow(2, top - begin, kept))
    assert out is not None
    return out


def add(features: Tensor, addend: Tensor) -> Tensor:
    """The sum, written over ``features`` where nothing is recorded."""
    return features + addend if recording() else features.add_(addend)


def add_convolved(features: Tensor, *terms: tuple[nn.Module, Tensor]) -> Tensor:
    """``features`` plus, for each term, what its 1x1 convolution makes of its tensor; large ones are written over where
    nothing is recorded."""

    def total(features: Tensor, *tensors: Tensor) -> Tensor:
        for (layer, _), tensor in zip(terms, tensors, strict=True):
            features = features + layer(tensor)
        return features

    return by_rows(total, [features, *(tensor for _, tensor in terms)], 0, features)
