"""The building blocks of MPRNet: attention blocks, resampling, supervised attention (paper, sections 3.1 to 3.3).

Attribute names (``CA``, ``conv_du``, ``body``, ``down``, ``up``) are the names in the published checkpoints. They must
stay, so that published weights load.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mprnet.model.bands import apply_in_bands, can_overwrite, empty_in_format_of
from mprnet.model.window_means import expand_to_pixels, pixel_means, window_means

_MOST_ELEMENTS = 2**31 - 1  # of a result of interpolation


def conv(in_channels: int, out_channels: int, kernel_size: int, bias: bool) -> nn.Conv2d:
    """Return a stride-1 convolution that keeps height and width; ``kernel_size`` is odd."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


class ChannelAttention(nn.Module):
    """Channel attention: a weight in (0, 1) for each channel, from the mean of every channel (paper, Figure 3b).

    ``forward`` returns only the weights, so that the block can apply them and add its input in one pass over memory.

    Attributes:
        window: None: means are over the whole image, and the weights have the shape (N, C, 1, 1). (rows, columns):
            means are over a window of this size around each pixel, and the weights have the shape (N, C, H, W).
            mprnet/model/local_pooling.py sets it.
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
        """Return the weights of ``features`` (N, C, H, W)."""
        if self.window is None:
            return self.conv_du(features.mean((2, 3), keepdim=True))
        height, width = features.shape[2:]
        if isinstance(height, torch.SymInt) or isinstance(width, torch.SymInt):  # torch.export with free sizes
            return self.conv_du(pixel_means(features, self.window).to(features.dtype))
        weights = self.conv_du(window_means(features, self.window).to(features.dtype))
        return expand_to_pixels(weights, self.window, height, width)


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

    def forward(self, features: Tensor) -> Tensor:
        residual = apply_in_bands(self.residual, [features], self.halo)
        return torch.addcmul(features, residual, self.CA(residual), out=residual if can_overwrite() else None)

    def residual(self, features: Tensor) -> Tensor:
        """Return the block's residual before attention."""
        first, activation, second = self.body
        features = first(features)
        if features.device.type == "cpu" and can_overwrite():
            # A PReLU with one parameter, in place. On a GPU, ``item`` would wait for all work before it.
            features = F.leaky_relu_(features, next(activation.parameters()).item())
        else:
            features = activation(features)
        return second(features)


class Blocks(nn.Sequential):
    """CABs and convolutions in sequence. In inference they share two buffers, which this class owns.

    Args:
        inplace: overwrite the input in inference, as ``nn.ReLU(inplace=True)`` does.
    """

    def __init__(self, *layers: nn.Module, inplace: bool = False) -> None:
        super().__init__(*layers)
        self.inplace = inplace
        self.halo = max((layer.kernel_size[0] // 2 for layer in layers if isinstance(layer, nn.Conv2d)), default=0)

    def forward(self, features: Tensor) -> Tensor:
        if not can_overwrite():
            return super().forward(features)
        overwrite = self.inplace  # may ``features`` be overwritten?
        free: Tensor | None = None  # a buffer of the features' shape that is not in use
        for layer in self:
            if isinstance(layer, ChannelAttentionBlock):
                residual = apply_in_bands(layer.residual, [features], layer.halo, out=free)
                attention = layer.CA(residual)
                if overwrite:
                    features, free = features.addcmul_(residual, attention), residual
                else:
                    features = torch.addcmul(features, residual, attention, out=residual)
            else:
                features, free = apply_in_bands(layer, [features], self.halo, out=free), None
            overwrite = True
        return features


class Downsample(nn.Module):
    """Halves height and width by bilinear interpolation; a 1x1 convolution then changes the number of channels.

    Bilinear interpolation by one half, without aligned corners, is the mean of 2x2 pixels. (The paper's text says
    max-pooling. The released weights were trained with this.)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.AvgPool2d(2), conv(in_channels, out_channels, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H / 2, W / 2)."""
        return self.down(features)


def upsample_bilinear(features: Tensor) -> Tensor:
    """Return the features with height and width doubled by bilinear interpolation.

    In inference, large results are computed in bands of rows: PyTorch, from 2.6 to 2.12 at least, fails on GPUs if a
    result has more elements than 32 bits can count.
    """
    batch, channels, height, width = features.shape
    if not can_overwrite() or 4 * features.numel() <= _MOST_ELEMENTS:
        return _double(features)
    result = empty_in_format_of(features, (batch, channels, 2 * height, 2 * width), features.dtype)
    rows = max(1, _MOST_ELEMENTS // (4 * features.numel() // height) - 2)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        begin, end = max(0, top - 1), min(height, bottom + 1)  # a row depends on the next one above and below
        band = _double(features.narrow(2, begin, end - begin))
        result.narrow(2, 2 * top, 2 * (bottom - top)).copy_(band.narrow(2, 2 * (top - begin), 2 * (bottom - top)))
    return result


def _double(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


class Upsample(nn.Module):
    """Doubles height and width by bilinear interpolation; a 1x1 convolution changes the number of channels.

    The two operations are linear and act on different dimensions, so their order does not matter. The convolution
    comes first, because it has a quarter of the pixels there.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv(in_channels, out_channels, 1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, 2 H, 2 W)."""
        return upsample_bilinear(self.project(features))

    def project(self, features: Tensor) -> Tensor:
        """Change only the number of channels: (N, C, H, W) to (N, out_channels, H, W)."""
        return self.up[1](features)


class SupervisedAttentionModule(nn.Module):
    """SAM: makes a stage's restored image, and uses it to weigh the features for the next stage (paper, Figure 4)."""

    def __init__(self, channels: int, image_channels: int, kernel_size: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, kernel_size, bias)
        self.conv2 = conv(channels, image_channels, kernel_size, bias)
        self.conv3 = conv(image_channels, channels, kernel_size, bias)

    def restore(self, features: Tensor, image: Tensor) -> Tensor:
        """Return the stage's restored image X_S = R_S + I, in the shape of the degraded ``image``."""
        return self.conv2(features) + image

    def forward(self, features: Tensor, restored: Tensor) -> Tensor:
        """Return the features for the next stage, weighed by attention that comes from the ``restored`` image."""
        attention = torch.sigmoid(self.conv3(restored.to(features.dtype)))
        return torch.addcmul(features, self.conv1(features), attention)
