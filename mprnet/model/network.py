"""MPRNet as a whole: three stages, each on larger parts of the image than the one before (paper, Figure 2)."""

from functools import partial

import torch
from torch import Tensor, nn

from mprnet.model.layers import ChannelAttentionBlock, SupervisedAttentionModule, conv
from mprnet.model.stages import Decoder, Encoder, OriginalResolutionSubnetwork

# Height and width are halved once by the patches and twice by the encoders.
SIZE_MULTIPLE = 8


def split(x: Tensor, dim: int) -> Tensor:
    """Cut in two along ``dim``, the two parts one after the other in the batch: (N, ...) to (2N, ...)."""
    half = x.shape[dim] // 2
    return torch.cat([x.narrow(dim, 0, half), x.narrow(dim, half, half)], dim=0)


def join(x: Tensor, dim: int) -> Tensor:
    """Undo ``split``."""
    batch = x.shape[0] // 2
    return torch.cat([x.narrow(0, 0, batch), x.narrow(0, batch, batch)], dim=dim)


class MPRNet(nn.Module):
    """Multi-stage progressive image restoration (Zamir et al., CVPR 2021).

    Stage 1 sees four quarters of the image, stage 2 two halves (top and bottom), stage 3 the whole; each predicts a
    residual to the degraded image. Quarters and halves travel through the network as one batch.

    Args:
        n_feat: channels of the features at level 1 of the U-Nets.
        scale_unetfeats: channels added at each further level.
        scale_orsnetfeats: channels that ORSNet has beyond ``n_feat``.
        num_cab: channel attention blocks in each ORB.
        in_c, out_c: channels of the images; a residual is added, so they are equal, 3 in all published networks.
        kernel_size: of all convolutions but the 1x1 ones.
        reduction: channel attention works on 1 / ``reduction`` of the channels.
        bias: whether convolutions have one (the resampling ones never do).
    """

    def __init__(
        self,
        n_feat: int,
        scale_unetfeats: int,
        scale_orsnetfeats: int,
        num_cab: int,
        in_c: int = 3,
        out_c: int = 3,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if in_c != out_c:
            raise ValueError(f"MPRNet adds its residual to the image, so out_c ({out_c}) must equal in_c ({in_c}).")
        self.config = dict(
            n_feat=n_feat,
            scale_unetfeats=scale_unetfeats,
            scale_orsnetfeats=scale_orsnetfeats,
            num_cab=num_cab,
            in_c=in_c,
            out_c=out_c,
            kernel_size=kernel_size,
            reduction=reduction,
            bias=bias,
        )
        # What a file of weights says beside its tensors; mprnet/model/weights.py fills and stores it.
        self.metadata: dict[str, str] = {}
        widths = [n_feat, n_feat + scale_unetfeats, n_feat + 2 * scale_unetfeats]
        ors_width = n_feat + scale_orsnetfeats
        # One PReLU with one parameter serves every block of the network, as in the published weights.
        block = partial(
            ChannelAttentionBlock, kernel_size=kernel_size, reduction=reduction, bias=bias, activation=nn.PReLU()
        )

        def shallow_features() -> nn.Sequential:
            return nn.Sequential(conv(in_c, n_feat, kernel_size, bias), block(n_feat))

        self.shallow_feat1 = shallow_features()
        self.shallow_feat2 = shallow_features()
        self.shallow_feat3 = shallow_features()
        self.stage1_encoder = Encoder(widths, block, bias, cross_stage=False)
        self.stage1_decoder = Decoder(widths, block)
        self.stage2_encoder = Encoder(widths, block, bias, cross_stage=True)
        self.stage2_decoder = Decoder(widths, block)
        self.stage3_orsnet = OriginalResolutionSubnetwork(widths, ors_width, block, kernel_size, num_cab, bias)
        self.sam12 = SupervisedAttentionModule(n_feat, in_c, 1, bias)
        self.sam23 = SupervisedAttentionModule(n_feat, in_c, 1, bias)
        self.concat12 = conv(2 * n_feat, n_feat, kernel_size, bias)
        self.concat23 = conv(2 * n_feat, ors_width, kernel_size, bias)
        self.tail = conv(ors_width, out_c, kernel_size, bias)

    def forward(self, image: Tensor, stages: int = 3) -> list[Tensor]:
        """Restore a batch of images.

        Args:
            image: (N, 3, H, W), values in [0, 1], H and W multiples of 8.
            stages: run only the first 1 or 2 stages; the later ones then cost nothing.

        Returns:
            The images of the computed stages, the last stage first: [stage 3, stage 2, stage 1]. Each has the shape of
            ``image``; values may lie outside [0, 1].

        Raises:
            ValueError: ``image`` has another shape, or ``stages`` is not 1, 2 or 3.
        """
        self._check(image, stages)
        halves = split(image, dim=2)
        quarters = split(halves, dim=3)

        # Stage 1: encode the quarters, join left and right, decode the halves.
        encoded = self.stage1_encoder(self.shallow_feat1(quarters))
        encoded = [join(level, dim=3) for level in encoded]
        decoded = self.stage1_decoder(encoded)
        restored = self.sam12.restore(decoded[0], halves)
        image1 = join(restored, dim=2)
        if stages == 1:
            return [image1]

        # Stage 2: encode the halves, fusing in stage 1 at every level; join top and bottom, decode the whole.
        guided = self.sam12(decoded[0], restored)
        features = self.concat12(torch.cat([self.shallow_feat2(halves), guided], dim=1))
        encoded = self.stage2_encoder(features, encoded, decoded)
        encoded = [join(level, dim=2) for level in encoded]
        decoded = self.stage2_decoder(encoded)
        image2 = self.sam23.restore(decoded[0], image)
        if stages == 2:
            return [image2, image1]

        # Stage 3: the whole image at its original resolution, fusing in stage 2.
        guided = self.sam23(decoded[0], image2)
        features = self.concat23(torch.cat([self.shallow_feat3(image), guided], dim=1))
        features = self.stage3_orsnet(features, encoded, decoded)
        image3 = self.tail(features) + image
        return [image3, image2, image1]

    def _check(self, image: Tensor, stages: int) -> None:
        channels = self.config["in_c"]
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(f"MPRNet takes images of shape (N, {channels}, H, W), not {tuple(image.shape)}.")
        height, width = image.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or not height or not width:
            raise ValueError(
                f"MPRNet takes heights and widths that are multiples of {SIZE_MULTIPLE}, not {height}x{width}: "
                "pad the image, or let mprnet.Restorer do it."
            )
        if stages not in (1, 2, 3):
            raise ValueError(f"stages must be 1, 2 or 3, not {stages}.")
