"""The building blocks of MPRNet: attention blocks, resampling, supervised attention (paper, sections 3.1 to 3.3).

Attribute names (``CA``, ``conv_du``, ``body``, ``down``, ``up``) are those of the published checkpoints: they are
the contract that lets published weights load, and so they stay although their meaning is better told by the classes.
"""

import torch
from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, kernel_size: int, bias: bool) -> nn.Conv2d:
    """A stride-1 convolution that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


class ChannelAttention(nn.Module):
    """Weighs each channel by a number in (0, 1) computed from the channels' means over the whole image.

    ``forward`` returns the weights alone, shape (N, C, 1, 1), so that the block can apply them and add its residual in
    one pass over memory.
    """

    def __init__(self, channels: int, reduction: int, bias: bool) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            conv(channels, channels // reduction, 1, bias),
            nn.ReLU(inplace=True),
            conv(channels // reduction, channels, 1, bias),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.conv_du(features.mean((2, 3), keepdim=True))


class ChannelAttentionBlock(nn.Module):
    """CAB: convolution, PReLU, convolution, channel attention, plus the input (paper, Figure 3b).

    Args:
        channels: C of the features, (N, C, H, W) in and out.
        activation: the one PReLU that all blocks of a network share.
    """

    def __init__(self, channels: int, kernel_size: int, reduction: int, bias: bool, activation: nn.PReLU) -> None:
        super().__init__()
        self.CA = ChannelAttention(channels, reduction, bias)
        self.body = nn.Sequential(
            conv(channels, channels, kernel_size, bias),
            activation,
            conv(channels, channels, kernel_size, bias),
        )

    def forward(self, features: Tensor) -> Tensor:
        residual = self.body(features)
        return torch.addcmul(features, residual, self.CA(residual))


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

    def forward(self, features: Tensor) -> Tensor:
        interpolate, change_width = self.up
        return interpolate(change_width(features))


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
        attention = torch.sigmoid(self.conv3(restored))
        return torch.addcmul(features, self.conv1(features), attention)
