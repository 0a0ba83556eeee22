"""The subnetworks of the three stages: encoder and decoder (a U-Net with attention) and ORSNet (paper, section 3.1).

Everywhere, a *pyramid* is a list of three feature maps [level 1, level 2, level 3], each level with half the height
and width of the one before and with more channels.

Where nothing is recorded (no gradients, no compiler), encoders, ORBs and ORSNet write over the features given to them:
memory is what limits the size of images.
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from mprnet.model.bands import add, add_convolved
from mprnet.model.layers import Blocks, ChannelAttentionBlock, Downsample, Upsample, conv, double

Pyramid: TypeAlias = list[Tensor]
# Makes a channel attention block for so many channels; everything else about blocks is the same in a whole network.
MakeBlock: TypeAlias = Callable[[int], ChannelAttentionBlock]


class Encoder(nn.Module):
    """Two CABs at each of three levels, downsampling in between.

    With ``cross_stage`` it takes in the previous stage's pyramids after the CABs of each level: cross-stage feature
    fusion (CSFF, paper section 3.2).
    """

    def __init__(self, widths: list[int], block: MakeBlock, bias: bool, cross_stage: bool) -> None:
        super().__init__()
        c1, c2, c3 = widths
        self.encoder_level1 = Blocks(block(c1), block(c1))
        self.encoder_level2 = Blocks(block(c2), block(c2))
        self.encoder_level3 = Blocks(block(c3), block(c3))
        self.down12 = Downsample(c1, c2)
        self.down23 = Downsample(c2, c3)
        if cross_stage:
            self.csff_enc1 = conv(c1, c1, 1, bias)
            self.csff_enc2 = conv(c2, c2, 1, bias)
            self.csff_enc3 = conv(c3, c3, 1, bias)
            self.csff_dec1 = conv(c1, c1, 1, bias)
            self.csff_dec2 = conv(c2, c2, 1, bias)
            self.csff_dec3 = conv(c3, c3, 1, bias)

    def forward(self, features: Tensor, encoded: Pyramid | None = None, decoded: Pyramid | None = None) -> Pyramid:
        """Features (N, C1, H, W), H and W multiples of 4, to a pyramid. ``encoded`` and ``decoded``, for CSFF, are the
        previous stage's pyramids over the same part of the image."""
        level1 = self.encoder_level1(features, give_up=True)
        if encoded and decoded:
            level1 = add_convolved(level1, (self.csff_enc1, encoded[0]), (self.csff_dec1, decoded[0]))
        level2 = self.encoder_level2(self.down12(level1), give_up=True)
        if encoded and decoded:
            level2 = add_convolved(level2, (self.csff_enc2, encoded[1]), (self.csff_dec2, decoded[1]))
        level3 = self.encoder_level3(self.down23(level2), give_up=True)
        if encoded and decoded:
            level3 = add_convolved(level3, (self.csff_enc3, encoded[2]), (self.csff_dec3, decoded[2]))
        return [level1, level2, level3]


class Decoder(nn.Module):
    """Two CABs at each level, from the coarsest to the finest; skip connections pass through one CAB each."""

    def __init__(self, widths: list[int], block: MakeBlock) -> None:
        super().__init__()
        c1, c2, c3 = widths
        self.decoder_level1 = Blocks(block(c1), block(c1))
        self.decoder_level2 = Blocks(block(c2), block(c2))
        self.decoder_level3 = Blocks(block(c3), block(c3))
        self.skip_attn1 = block(c1)
        self.skip_attn2 = block(c2)
        self.up21 = Upsample(c2, c1)
        self.up32 = Upsample(c3, c2)

    def forward(self, encoded: Pyramid) -> Pyramid:
        """An encoder's pyramid to one of the same shapes."""
        level3 = self.decoder_level3(encoded[2])
        level2 = self.decoder_level2(add(self.skip_attn2(encoded[1]), self.up32(level3)), give_up=True)
        level1 = self.decoder_level1(add(self.skip_attn1(encoded[0]), self.up21(level2)), give_up=True)
        return [level1, level2, level3]


class OriginalResolutionBlock(nn.Module):
    """ORB: ``num_cab`` CABs and a convolution, plus the input."""

    def __init__(self, channels: int, block: MakeBlock, kernel_size: int, num_cab: int, bias: bool) -> None:
        super().__init__()
        blocks = [block(channels) for _ in range(num_cab)]
        self.body = Blocks(*blocks, conv(channels, channels, kernel_size, bias))

    def forward(self, features: Tensor) -> Tensor:
        return add(features, self.body(features))


class OriginalResolutionSubnetwork(nn.Module):
    """ORSNet: three ORBs that never leave full resolution.

    With ``cross_stage`` each is followed by CSFF: ORB k takes in level k of the previous stage's pyramids, brought up
    to full resolution. Bilinear interpolation and 1x1 convolutions change places freely, so all convolutions come
    first, where there are fewest pixels, and encoder's and decoder's features go up together.
    """

    def __init__(
        self,
        widths: list[int],
        channels: int,
        block: MakeBlock,
        kernel_size: int,
        num_cab: int,
        bias: bool,
        cross_stage: bool,
    ) -> None:
        super().__init__()
        self.orb1 = OriginalResolutionBlock(channels, block, kernel_size, num_cab, bias)
        self.orb2 = OriginalResolutionBlock(channels, block, kernel_size, num_cab, bias)
        self.orb3 = OriginalResolutionBlock(channels, block, kernel_size, num_cab, bias)
        if not cross_stage:
            return
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
        """Features (N, channels, H, W), and for CSFF the previous stage's pyramids over the same patches, to the same
        shape."""
        x = self.orb1(features)
        if encoded and decoded:
            x = add_convolved(x, (self.conv_enc1, encoded[0]), (self.conv_dec1, decoded[0]))
        x = self.orb2(x)
        if encoded and decoded:
            enc = self.conv_enc2(self.up_enc1(encoded[1], interpolate=False))
            dec = self.conv_dec2(self.up_dec1(decoded[1], interpolate=False))
            x = add(x, double(add(enc, dec)))
        x = self.orb3(x)
        if encoded and decoded:
            enc, dec = encoded[2], decoded[2]
            for up_enc, up_dec in zip(self.up_enc2, self.up_dec2, strict=True):
                enc, dec = up_enc(enc, interpolate=False), up_dec(dec, interpolate=False)
            x = add(x, double(double(add(self.conv_enc3(enc), self.conv_dec3(dec)))))
        return x
