"""The subnetworks of the stages: encoder and decoder (a U-Net with attention) and ORSNet (paper, section 3.1).

A *pyramid* is a list of three feature maps [level 1, level 2, level 3]. Each level has half the height and width of
the one before, and more channels.

In inference, encoders, ORBs and ORSNet overwrite the features that they are given, because memory limits the size of
images.
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from mprnet.model.bands import accumulate, apply_in_bands
from mprnet.model.layers import Blocks, ChannelAttentionBlock, Downsample, Upsample, conv, upsample_bilinear

Pyramid: TypeAlias = list[Tensor]
# From a number of channels to a channel attention block. Everything else is the same for all blocks of a network.
MakeBlock: TypeAlias = Callable[[int], ChannelAttentionBlock]


class Encoder(nn.Module):
    """Two CABs at each of three levels, with downsampling in between.

    Args:
        widths: channels of the three levels.
        csff: cross-stage feature fusion (paper, section 3.2): after the CABs of each level, add the features of the
            previous stage's encoder and decoder at this level, each after a 1x1 convolution.
    """

    def __init__(self, widths: list[int], block: MakeBlock, bias: bool, csff: bool) -> None:
        super().__init__()
        c1, c2, c3 = widths
        self.encoder_level1 = Blocks(block(c1), block(c1), inplace=True)
        self.encoder_level2 = Blocks(block(c2), block(c2), inplace=True)
        self.encoder_level3 = Blocks(block(c3), block(c3), inplace=True)
        self.down12 = Downsample(c1, c2)
        self.down23 = Downsample(c2, c3)
        if csff:
            self.csff_enc1 = conv(c1, c1, 1, bias)
            self.csff_enc2 = conv(c2, c2, 1, bias)
            self.csff_enc3 = conv(c3, c3, 1, bias)
            self.csff_dec1 = conv(c1, c1, 1, bias)
            self.csff_dec2 = conv(c2, c2, 1, bias)
            self.csff_dec3 = conv(c3, c3, 1, bias)

    def forward(self, features: Tensor, encoded: Pyramid | None = None, decoded: Pyramid | None = None) -> Pyramid:
        """Return the pyramid of ``features`` (N, C1, H, W); H and W are multiples of 4.

        Args:
            encoded, decoded: for CSFF, the previous stage's pyramids over the same part of the image.
        """
        level1 = self.encoder_level1(features)
        if encoded and decoded:
            level1 = fuse(level1, self.csff_enc1, encoded[0], self.csff_dec1, decoded[0])
        level2 = self.encoder_level2(self.down12(level1))
        if encoded and decoded:
            level2 = fuse(level2, self.csff_enc2, encoded[1], self.csff_dec2, decoded[1])
        level3 = self.encoder_level3(self.down23(level2))
        if encoded and decoded:
            level3 = fuse(level3, self.csff_enc3, encoded[2], self.csff_dec3, decoded[2])
        return [level1, level2, level3]


class Decoder(nn.Module):
    """Two CABs at each level, from the coarsest to the finest. Each skip connection passes through one CAB."""

    def __init__(self, widths: list[int], block: MakeBlock) -> None:
        super().__init__()
        c1, c2, c3 = widths
        self.decoder_level1 = Blocks(block(c1), block(c1), inplace=True)
        self.decoder_level2 = Blocks(block(c2), block(c2), inplace=True)
        self.decoder_level3 = Blocks(block(c3), block(c3))
        self.skip_attn1 = block(c1)
        self.skip_attn2 = block(c2)
        self.up21 = Upsample(c2, c1)
        self.up32 = Upsample(c3, c2)

    def forward(self, encoded: Pyramid) -> Pyramid:
        """Return a pyramid of the shapes of ``encoded``, which stays as it is."""
        level3 = self.decoder_level3(encoded[2])
        level2 = self.decoder_level2(accumulate(self.skip_attn2(encoded[1]), self.up32(level3)))
        level1 = self.decoder_level1(accumulate(self.skip_attn1(encoded[0]), self.up21(level2)))
        return [level1, level2, level3]


class OriginalResolutionBlock(nn.Module):
    """ORB: ``num_cab`` CABs and a convolution, plus the input."""

    def __init__(self, channels: int, block: MakeBlock, kernel_size: int, num_cab: int, bias: bool) -> None:
        super().__init__()
        blocks = [block(channels) for _ in range(num_cab)]
        self.body = Blocks(*blocks, conv(channels, channels, kernel_size, bias))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return accumulate(features, self.body(features))


class OriginalResolutionSubnetwork(nn.Module):
    """ORSNet: three ORBs at full resolution.

    With ``csff``, each ORB is followed by CSFF: ORB k receives level k of the previous stage's pyramids, upsampled to
    full resolution. Bilinear interpolation and 1x1 convolutions commute. So the convolutions come first, where there
    are fewest pixels, and the features of encoder and decoder are upsampled together.
    """

    def __init__(
        self,
        widths: list[int],
        channels: int,
        block: MakeBlock,
        kernel_size: int,
        num_cab: int,
        bias: bool,
        csff: bool,
    ) -> None:
        super().__init__()
        self.orb1 = OriginalResolutionBlock(channels, block, kernel_size, num_cab, bias)
        self.orb2 = OriginalResolutionBlock(channels, block, kernel_size, num_cab, bias)
        self.orb3 = OriginalResolutionBlock(channels, block, kernel_size, num_cab, bias)
        if csff:
            c1, c2, c3 = widths
            self.up_enc1 = Upsample(c2, c1)
            self.up_dec1 = Upsample(c2, c1)
            self.up_enc2 = nn.Sequential(Upsample(c3, c2), Upsample(c2, c1))
            self.up_dec2 = nn.Sequential(Upsample(c3, c2), Upsample(c2, c1))
            self.conv_enc1 = conv(c1, channels, 1, bias)
            self.conv_enc2 = conv(c1, channels, 1, bias)
            self.conv_enc3 = conv(c1, channels, 1, bias)
            self.conv_dec1 = conv(c1, channels, 1, bias)
            self.conv_dec2 = conv(c1, channels, 1, bias)
            self.conv_dec3 = conv(c1, channels, 1, bias)

    def forward(self, features: Tensor, encoded: Pyramid | None = None, decoded: Pyramid | None = None) -> Tensor:
        """Return features of the same shape, (N, channels, H, W).

        Args:
            encoded, decoded: for CSFF, the previous stage's pyramids over the same patches.
        """
        x = self.orb1(features)
        if encoded and decoded:
            x = fuse(x, self.conv_enc1, encoded[0], self.conv_dec1, decoded[0])
        x = self.orb2(x)
        if encoded and decoded:
            level2_enc = self.conv_enc2(self.up_enc1.project(encoded[1]))
            level2_dec = self.conv_dec2(self.up_dec1.project(decoded[1]))
            x = accumulate(x, upsample_bilinear(accumulate(level2_enc, level2_dec)))
        x = self.orb3(x)
        if encoded and decoded:
            level3_enc = self.conv_enc3(_project(self.up_enc2, encoded[2]))
            level3_dec = self.conv_dec3(_project(self.up_dec2, decoded[2]))
            level3 = upsample_bilinear(accumulate(level3_enc, level3_dec))
            x = accumulate(x, upsample_bilinear(level3))
        return x


def fuse(features: Tensor, conv_enc: nn.Module, encoded: Tensor, conv_dec: nn.Module, decoded: Tensor) -> Tensor:
    """CSFF: return ``features + conv_enc(encoded) + conv_dec(decoded)``, all of one height and width.

    In inference the sum overwrites large ``features``.
    """

    def total(x: Tensor, enc: Tensor, dec: Tensor) -> Tensor:
        return x + conv_enc(enc) + conv_dec(dec)

    return apply_in_bands(total, [features, encoded, decoded], halo=0, out=features)


def _project(upsampling: nn.Sequential, features: Tensor) -> Tensor:
    """All 1x1 convolutions of a sequence of ``Upsample``, without the interpolation."""
    for upsample in upsampling:
        assert isinstance(upsample, Upsample)
        features = upsample.project(features)
    return features
