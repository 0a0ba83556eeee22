"""The building blocks of MPRNet: attention blocks, resampling, supervised attention (paper, sections 3.1 to 3.3).

Attribute names (``CA``, ``conv_du``, ``body``, ``down``, ``up``) are those of the published checkpoints: they are
the contract that lets published weights load, and so they stay although their meaning is better told by the classes.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Tensors beyond this are computed a band of rows at a time. The C library hands smaller blocks out again and again, and
# larger ones fresh from the system, whose page faults can take a third of the time.
_BAND_BYTES = 2**24
# Elsewhere bands only keep the peak of memory down, and small ones would leave a GPU idle.
_BAND_BYTES_ELSEWHERE = 2**28


def conv(in_channels: int, out_channels: int, kernel_size: int, bias: bool) -> nn.Conv2d:
    """A stride-1 convolution that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


def recording() -> bool:
    """Whether what happens is recorded, for gradients or by a compiler; buffers are then left alone."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def band(x: Tensor) -> int:
    """How many rows of (N, C, H, W) one band has."""
    size = _BAND_BYTES if x.device.type in ("cpu", "meta") else _BAND_BYTES_ELSEWHERE
    return max(16, size * x.shape[2] // (x.element_size() * x.numel()))


def by_rows(layer: Callable[..., Tensor], inputs: Sequence[Tensor], halo: int, out: Tensor | None = None) -> Tensor:
    """``layer(*inputs)``, computed a band of rows at a time where it is large.

    Args:
        layer: of tensors (N, C, H, W), to another channel count at most; pads with zeros as convolutions do.
        halo: how many rows further than its own a row of the result depends on.
        out: a tensor of the result's shape that may be used for it.
    """
    height, rows = inputs[0].shape[2], band(inputs[0])
    if recording() or rows >= height:
        return layer(*inputs)
    for top in range(0, height, rows):
        first, last = max(0, top - halo), min(height, top + rows + halo)
        result = layer(*(x.narrow(2, first, last - first) for x in inputs))
        if out is None:
            batch, channels, _, width = result.shape
            out = result.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)
        kept = min(rows, height - top)
        out.narrow(2, top, kept).copy_(result.narrow(2, top - first, kept))
    assert out is not None
    return out


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


class ChannelAttention(nn.Module):
    """Weighs each channel by a number in (0, 1) computed from the channels' means over the whole image.

    ``forward`` returns the weights alone, shape (N, C, 1, 1), so that the block can apply them and add its residual in
    one pass over memory. With a ``window`` (rows, columns; set by mprnet/model/local_pooling.py) the means are those of
    windows around each pixel, and the weights (N, C, H, W), or 1 where the window is no smaller than the side.
    """

    window: tuple[int, int] | None = None

    def __init__(self, channels: int, reduction: int, bias: bool) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            conv(channels, channels // reduction, 1, bias),
            nn.ReLU(inplace=True),
            conv(channels // reduction, channels, 1, bias),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        if self.window is None:
            return self.conv_du(features.mean((2, 3), keepdim=True))
        weights = self.conv_du(sliding_mean(features, self.window).to(features.dtype))
        for dim, size in zip((2, 3), self.window, strict=True):
            if weights.shape[dim] > 1:
                # A window of even size reaches one further to the end than to the beginning.
                weights = replicate(weights, dim, (size - 1) // 2, features.shape[dim])
        return weights


class ChannelAttentionBlock(nn.Module):
    """CAB: convolution, PReLU, convolution, channel attention, plus the input (paper, Figure 3b).

    Args:
        channels: C of the features, (N, C, H, W) in and out.
        activation: the one PReLU that all blocks of a network share.
    """

    def __init__(self, channels: int, kernel_size: int, reduction: int, bias: bool, activation: nn.PReLU) -> None:
        super().__init__()
        self.halo = 2 * (kernel_size // 2)
        self.CA = ChannelAttention(channels, reduction, bias)
        self.body = nn.Sequential(
            conv(channels, channels, kernel_size, bias),
            activation,
            conv(channels, channels, kernel_size, bias),
        )

    def forward(self, features: Tensor, spare: list[Tensor] | None = None) -> Tensor:
        """``spare``, if given, holds buffers to use up and to leave behind, and ``features`` are overwritten."""
        if recording():
            residual = self.body(features)
            return torch.addcmul(features, residual, self.CA(residual))
        buffer = spare.pop() if spare else None
        residual = by_rows(self._residual, [features], self.halo, buffer)
        attention = self.CA(residual)
        if spare is None:
            return torch.addcmul(features, residual, attention, out=residual)
        spare.append(residual)
        return features.addcmul_(residual, attention)

    def _residual(self, features: Tensor) -> Tensor:
        first, activation, second = self.body
        features = first(features)
        if features.device.type == "cpu":
            features = F.leaky_relu_(features, next(activation.parameters()).item())  # what PReLU of one parameter is
        else:
            features = activation(features)
        return second(features)


class Blocks(nn.Sequential):
    """Blocks and convolutions one after the other; where nothing is recorded, they share two buffers.

    With ``give_up`` the features that come in are one of them, and so are overwritten.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.halo = max((layer.kernel_size[0] // 2 for layer in layers if isinstance(layer, nn.Conv2d)), default=0)

    def forward(self, features: Tensor, give_up: bool = False) -> Tensor:
        if recording():
            return super().forward(features)
        spare: list[Tensor] | None = [] if give_up else None
        for layer in self:
            if isinstance(layer, ChannelAttentionBlock):
                features = layer(features, spare)
            else:
                features = by_rows(layer, [features], self.halo, spare.pop() if spare else None)
            spare = [] if spare is None else spare
        return features


class Downsample(nn.Module):
    """Halves height and width by bilinear interpolation, then changes the width of the features by a 1x1 convolution.

    Bilinear by one half without aligned corners is the mean of 2x2 pixels. (The paper's text speaks of max-pooling;
    the released weights were trained with this.)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.AvgPool2d(2), conv(in_channels, out_channels, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        return self.down(features)


def double(features: Tensor) -> Tensor:
    """Height and width doubled by bilinear interpolation."""
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def add(features: Tensor, addend: Tensor) -> Tensor:
    """The sum, written over ``features`` where nothing is recorded."""
    return features + addend if recording() else features.add_(addend)


def add_convolved(features: Tensor, *terms: tuple[nn.Module, Tensor]) -> Tensor:
    """``features`` plus, for each term, what its 1x1 convolution makes of its tensor, written over ``features`` where
    nothing is recorded."""
    for layer, tensor in terms:
        if recording():
            features = add(features, layer(tensor))
            continue
        rows = band(features)
        for top in range(0, features.shape[2], rows):
            kept = min(rows, features.shape[2] - top)
            features.narrow(2, top, kept).add_(layer(tensor.narrow(2, top, kept)))
    return features


class Upsample(nn.Module):
    """Doubles height and width by bilinear interpolation and changes the width of the features by a 1x1 convolution.

    Both are linear and act on different axes, so their order does not matter; the convolution comes first because it
    then has a quarter of the pixels to work on.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv(in_channels, out_channels, 1, bias=False),
        )

    def forward(self, features: Tensor, interpolate: bool = True) -> Tensor:
        """(N, C, H, W) to (N, out_channels, 2 H, 2 W), or without interpolation (N, out_channels, H, W)."""
        _, change_width = self.up
        features = change_width(features)
        return double(features) if interpolate else features


class SupervisedAttentionModule(nn.Module):
    """SAM: makes a stage's restored image and lets it gate the features for the next stage (paper, Figure 4)."""

    def __init__(self, channels: int, image_channels: int, kernel_size: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, kernel_size, bias)
        self.conv2 = conv(channels, image_channels, kernel_size, bias)
        self.conv3 = conv(image_channels, channels, kernel_size, bias)

    def restore(self, features: Tensor, image: Tensor) -> Tensor:
        """The stage's restored image X_S = R_S + I, shape of ``image``."""
        return self.conv2(features) + image

    def forward(self, features: Tensor, restored: Tensor) -> Tensor:
        """The features to hand on, attended to under the guidance of ``restored``; shape of ``features``."""
        restored = restored.to(features.dtype)
        if recording():
            return torch.addcmul(features, self.conv1(features), torch.sigmoid(self.conv3(restored)))
        attention = self.conv3(restored).sigmoid_()
        return attention.mul_(self.conv1(features)).add_(features)
