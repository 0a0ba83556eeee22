"""The building blocks of MPRNet: attention blocks, resampling, supervised attention (paper, sections 3.1 to 3.3).

Attribute names (``CA``, ``conv_du``, ``body``, ``down``, ``up``) are those of the published checkpoints: they are
the contract that lets published weights load, and so they stay although their meaning is better told by the classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mprnet.model.bands import by_rows, recording
from mprnet.model.sliding import mean_around, replicate, sliding_mean


def conv(in_channels: int, out_channels: int, kernel_size: int, bias: bool) -> nn.Conv2d:
    """A stride-1 convolution that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


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
        if any(isinstance(size, torch.SymInt) for size in features.shape[2:]):  # torch.export, with sizes left free
            return self.conv_du(mean_around(features, self.window).to(features.dtype))
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
        """``spare``, if given, holds buffers to use up and to leave behind, and ``features`` may be overwritten."""
        residual = by_rows(self._residual, [features], self.halo, spare.pop() if spare else None)
        attention = self.CA(residual)
        if recording():
            return torch.addcmul(features, residual, attention)
        if spare is None:
            return torch.addcmul(features, residual, attention, out=residual)
        spare.append(residual)
        return features.addcmul_(residual, attention)

    def _residual(self, features: Tensor) -> Tensor:
        first, activation, second = self.body
        features = first(features)
        if features.device.type == "cpu" and not recording():
            # What PReLU of one parameter is, in place. On a GPU, reading the parameter would wait for all before it.
            features = F.leaky_relu_(features, next(activation.parameters()).item())
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
        attention = torch.sigmoid(self.conv3(restored.to(features.dtype)))
        return torch.addcmul(features, self.conv1(features), attention)
