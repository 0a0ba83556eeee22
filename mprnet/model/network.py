"""MPRNet: three stages, each on larger patches of the image than the one before (paper, Figure 2)."""

from collections.abc import Mapping
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from mprnet.model.bands import apply_in_bands
from mprnet.model.layers import Blocks, ChannelAttentionBlock, SupervisedAttentionModule, conv
from mprnet.model.patches import FULL_GRID, PatchGrid
from mprnet.model.stages import Decoder, Encoder, OriginalResolutionSubnetwork

# The patches halve height and width once, the encoders twice.
SIZE_MULTIPLE = 8
# The largest arguments of a network. They are far beyond every use; with larger ones, a wrong configuration would take
# all memory or time.
LARGEST, _MOST_BLOCKS = 4096, 256


class MPRNet(nn.Module):
    """Multi-stage progressive image restoration (Zamir et al., CVPR 2021).

    Stage 1 sees the four quarters of the image, stage 2 the top and bottom halves, stage 3 the whole image. Each stage
    predicts a residual, which is added to the degraded image.

    The forms that the paper compares in Table 6 are in mprnet/model/ablations.py.

    Args:
        n_feat: channels of the features at level 1 of the U-Nets.
        scale_unetfeats: channels added at each further level.
        scale_orsnetfeats: channels of ORSNet beyond ``n_feat``.
        num_cab: channel attention blocks in each ORB.
        in_c, out_c: channels of the images. They must be equal. All published networks have 3.
        kernel_size: of all convolutions except the 1x1 ones; an odd number.
        reduction: channel attention has 1 / ``reduction`` of the channels inside.
        bias: if True, convolutions have a bias, except those that change the resolution.

    Attributes:
        config: the arguments above, by name. ``type(model)(**model.config)`` builds the same network.
        metadata: what a file of weights says beside its tensors, such as ``training_patch``.
        num_stages: 3.

    Raises:
        ValueError: arguments with which the network cannot run.
    """

    num_stages = 3

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
        self.config: dict[str, Any] = dict(
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
        check_config(self.config)
        self.metadata: dict[str, str] = {}
        self._add_stages()

    def _add_stages(self) -> None:
        n_feat, in_c, kernel_size, bias = (self.config[name] for name in ("n_feat", "in_c", "kernel_size", "bias"))
        levels = unet_widths(self.config)
        orsnet = n_feat + self.config["scale_orsnetfeats"]
        block = make_block(self.config)

        # The order of these lines is the order of the keys in published files.
        self.shallow_feat1 = Blocks(conv(in_c, n_feat, kernel_size, bias), block(n_feat))
        self.shallow_feat2 = Blocks(conv(in_c, n_feat, kernel_size, bias), block(n_feat))
        self.shallow_feat3 = Blocks(conv(in_c, n_feat, kernel_size, bias), block(n_feat))

        self.stage1_encoder = Encoder(levels, block, bias, csff=False)
        self.stage1_decoder = Decoder(levels, block)
        self.stage2_encoder = Encoder(levels, block, bias, csff=True)
        self.stage2_decoder = Decoder(levels, block)
        self.stage3_orsnet = OriginalResolutionSubnetwork(
            levels, orsnet, block, kernel_size, self.config["num_cab"], bias, csff=True
        )

        self.sam12 = SupervisedAttentionModule(n_feat, in_c, 1, bias)
        self.sam23 = SupervisedAttentionModule(n_feat, in_c, 1, bias)
        self.concat12 = conv(2 * n_feat, n_feat, kernel_size, bias)
        self.concat23 = conv(2 * n_feat, orsnet, kernel_size, bias)
        self.tail = conv(orsnet, in_c, kernel_size, bias)

    def forward(self, image: Tensor, stages: int | None = None, grid: PatchGrid = FULL_GRID) -> list[Tensor]:
        """Restore a batch of images.

        Args:
            image: (N, 3, H, W), values in [0, 1], H and W multiples of 8.
            stages: run only the first so many stages. None: all three.
            grid: how the image is split into patches. Only tiles of larger images need another one.

        Returns:
            The images of the stages that ran, the last stage first: [stage 3, stage 2, stage 1]. Each has the shape of
            ``image``; values can be outside [0, 1].

        Raises:
            ValueError: ``image`` has another shape, or there are not so many ``stages``.
        """
        stages = self.num_stages if stages is None else stages
        self.check_input(image, stages)
        halves = grid.split_rows(image)
        quarters = grid.split_columns(halves)

        # Stage 1. The encoder sees quarters. The decoder sees halves: each is two quarters, joined.
        encoded1 = self.stage1_encoder(self.shallow_feat1(self.to_features(quarters)))
        encoded1 = [grid.join_columns(level) for level in encoded1]
        decoded1 = self.stage1_decoder(encoded1)
        restored1 = self.sam12.restore(decoded1[0], halves)
        if stages == 1:
            return [grid.join_rows(restored1)]
        attended1 = self.sam12(decoded1[0], restored1)

        # Stage 2. The encoder sees halves, the decoder the whole image. From stage 1 it receives the features that SAM
        # attended to, and for CSFF both pyramids.
        features2 = self.concatenate(self.concat12, self.shallow_feat2(self.to_features(halves)), attended1)
        del attended1  # memory limits the size of images: nothing stays longer than it is needed
        encoded2 = self.stage2_encoder(features2, encoded1, decoded1)
        del features2, encoded1, decoded1
        encoded2 = [grid.join_rows(level) for level in encoded2]
        decoded2 = self.stage2_decoder(encoded2)
        restored2 = self.sam23.restore(decoded2[0], image)
        if stages == 2:
            return [restored2, grid.join_rows(restored1)]
        attended2 = self.sam23(decoded2[0], restored2)

        # Stage 3. ORSNet sees the whole image. It receives the same from stage 2.
        features3 = self.concatenate(self.concat23, self.shallow_feat3(self.to_features(image)), attended2)
        del attended2
        features3 = self.stage3_orsnet(features3, encoded2, decoded2)
        restored3 = self.tail(features3) + image
        return [restored3, restored2, grid.join_rows(restored1)]

    def to_features(self, image: Tensor) -> Tensor:
        """Return the image in the dtype that the network computes in.

        Images stay in float32 where the network computes in half precision: 8 bits of mantissa are too few for them.
        """
        return image.to(self.tail.weight.dtype)

    def concatenate(self, convolution: nn.Module, shallow: Tensor, attended: Tensor) -> Tensor:
        """Return the ``convolution`` of both tensors' channels: what a stage's subnetwork starts from."""

        def of_both(*both: Tensor) -> Tensor:
            return convolution(torch.cat(both, dim=1))

        return apply_in_bands(of_both, [shallow, attended], halo=self.config["kernel_size"] // 2)

    def check_input(self, image: Tensor, stages: int) -> None:
        """Raise ValueError if ``forward`` cannot take these."""
        channels = self.config["in_c"]
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(f"MPRNet takes images of shape (N, {channels}, H, W), not {tuple(image.shape)}.")
        height, width = image.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or not height or not width:
            raise ValueError(
                f"MPRNet takes heights and widths that are multiples of {SIZE_MULTIPLE}, not {height}x{width}: "
                "pad the image, or let mprnet.Restorer do it."
            )
        if stages not in range(1, self.num_stages + 1):
            raise ValueError(f"this network has stages 1 to {self.num_stages}, not {stages}.")


def unet_widths(config: Mapping[str, Any]) -> list[int]:
    """Return the channels of the three levels of a U-Net."""
    return [config["n_feat"] + level * config["scale_unetfeats"] for level in range(3)]


def make_block(config: Mapping[str, Any]) -> "partial[ChannelAttentionBlock]":
    """Return a function from a number of channels to a channel attention block.

    All blocks of a network share one PReLU with one parameter, as in the published weights.
    """
    options = {name: config[name] for name in ("kernel_size", "reduction", "bias")}
    return partial(ChannelAttentionBlock, **options, activation=nn.PReLU())


def check_config(config: Mapping[str, Any]) -> None:
    """Raise ValueError, with one sentence, if a network with these arguments cannot run."""
    for name, value in config.items():
        most = _MOST_BLOCKS if name == "num_cab" else LARGEST
        if name != "bias" and not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number, not {value!r}.")
        if name != "bias" and value > most:
            raise ValueError(f"{name} must be at most {most}, not {value}.")
    if config["in_c"] != config["out_c"]:
        raise ValueError(
            f"MPRNet adds its residual to the image, so out_c ({config['out_c']}) must equal in_c ({config['in_c']})."
        )
    for name in ("n_feat", "in_c", "kernel_size", "reduction"):
        if config[name] < 1:
            raise ValueError(f"{name} must be at least 1, not {config[name]}.")
    for name in ("scale_unetfeats", "scale_orsnetfeats", "num_cab"):
        if config[name] < 0:
            raise ValueError(f"{name} must be at least 0, not {config[name]}.")
    if config["kernel_size"] % 2 == 0:
        raise ValueError(f"kernel_size must be odd, not {config['kernel_size']}: features keep their height and width.")
    if config["n_feat"] < config["reduction"]:
        raise ValueError(
            f"n_feat ({config['n_feat']}) must be at least reduction ({config['reduction']}): channel attention has "
            "n_feat // reduction channels inside."
        )
