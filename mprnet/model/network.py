"""MPRNet as a whole: three stages, each on larger parts of the image than the one before (paper, Figure 2)."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mprnet.model.bands import by_rows
from mprnet.model.hub import Pretrained
from mprnet.model.layers import Blocks, ChannelAttentionBlock, SupervisedAttentionModule, conv
from mprnet.model.stages import Decoder, Encoder, OriginalResolutionSubnetwork, Pyramid

# Height and width are halved once by the patches and twice by the encoders.
SIZE_MULTIPLE = 8
# What a stage can consist of: encoder and decoder, or ORSNet.
SUBNETWORKS = ("unet", "orsnet")
# Along which dimension a stage's patches are joined to the next stage's: quarters to halves, halves to the whole.
_JOINTS = (3, 2)


def split(x: Tensor, *dims: int) -> Tensor:
    """Cut in two along each of ``dims``, the two parts one after the other in the batch: (N, ...) to (2N, ...)."""
    for dim in dims:
        half = x.shape[dim] // 2
        x = torch.cat([x.narrow(dim, 0, half), x.narrow(dim, half, half)], dim=0)
    return x


def join(x: Tensor, *dims: int) -> Tensor:
    """Undo ``split`` along each of ``dims``, one after the other: (2N, ...) to (N, ...)."""
    for dim in dims:
        batch = x.shape[0] // 2
        x = torch.cat([x.narrow(0, 0, batch), x.narrow(0, batch, batch)], dim=dim)
    return x


class MPRNet(nn.Module, Pretrained):
    """Multi-stage progressive image restoration (Zamir et al., CVPR 2021).

    Stage 1 sees four quarters of the image, stage 2 two halves (top and bottom), stage 3 the whole; each predicts a
    residual to the degraded image. Quarters and halves travel through the network as one batch.

    The last three arguments make the forms that the paper compares in Table 6. Of two stages the first sees halves, a
    single one sees the whole; what the paper leaves open is settled so: without SAM a stage's image is a 3x3
    convolution of its features plus the input, and the features themselves go on to the next stage.

    Args:
        n_feat: channels of the features at level 1 of the U-Nets.
        scale_unetfeats: channels added at each further level.
        scale_orsnetfeats: channels that ORSNet has beyond ``n_feat``.
        num_cab: channel attention blocks in each ORB.
        in_c, out_c: channels of the images; a residual is added, so they are equal, 3 in all published networks.
        kernel_size: of all convolutions but the 1x1 ones.
        reduction: channel attention works on 1 / ``reduction`` of the channels.
        bias: whether convolutions have one (the resampling ones never do).
        subnetworks: each stage's, ``unet`` or ``orsnet``; one to three.
        sam: supervised attention between stages.
        csff: cross-stage feature fusion; every stage but the last is a ``unet`` then.

    Raises:
        ValueError: ``in_c`` and ``out_c`` differ, or ``subnetworks`` are not as described.
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
        subnetworks: Sequence[str] = ("unet", "unet", "orsnet"),
        sam: bool = True,
        csff: bool = True,
    ) -> None:
        super().__init__()
        if in_c != out_c:
            raise ValueError(f"MPRNet adds its residual to the image, so out_c ({out_c}) must equal in_c ({in_c}).")
        _check_form(subnetworks, csff)
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
            subnetworks=list(subnetworks),
            sam=sam,
            csff=csff,
        )
        # What a file of weights says beside its tensors; mprnet/model/weights.py fills and stores it.
        self.metadata: dict[str, str] = {}
        self.subnetworks = tuple(subnetworks)
        self.joints = _JOINTS[len(_JOINTS) + 1 - len(subnetworks) :]
        levels = [n_feat, n_feat + scale_unetfeats, n_feat + 2 * scale_unetfeats]
        widths = [n_feat if kind == "unet" else n_feat + scale_orsnetfeats for kind in subnetworks]
        # One PReLU with one parameter serves every block of the network, as in the published weights.
        block = partial(
            ChannelAttentionBlock, kernel_size=kernel_size, reduction=reduction, bias=bias, activation=nn.PReLU()
        )
        # The order in which parts are made is that of the keys in published files.
        for n in range(1, len(widths) + 1):
            shallow = widths[0] if n == 1 else n_feat
            self.add_module(f"shallow_feat{n}", Blocks(conv(in_c, shallow, kernel_size, bias), block(shallow)))
        for n, (kind, width) in enumerate(zip(subnetworks, widths, strict=True), start=1):
            fuses = csff and n > 1
            if kind == "unet":
                self.add_module(f"stage{n}_encoder", Encoder(levels, block, bias, fuses))
                self.add_module(f"stage{n}_decoder", Decoder(levels, block))
            else:
                orsnet = OriginalResolutionSubnetwork(levels, width, block, kernel_size, num_cab, bias, fuses)
                self.add_module(f"stage{n}_orsnet", orsnet)
        for n, width in enumerate(widths[:-1], start=1):
            if sam:
                self.add_module(f"sam{n}{n + 1}", SupervisedAttentionModule(width, in_c, 1, bias))
            else:
                self.add_module(f"tail{n}", conv(width, out_c, kernel_size, bias))
        for n, (before, width) in enumerate(pairwise(widths), start=1):
            self.add_module(f"concat{n}{n + 1}", conv(n_feat + before, width, kernel_size, bias))
        self.tail = conv(widths[-1], out_c, kernel_size, bias)

    def forward(self, image: Tensor, stages: int | None = None, cuts: tuple[bool, bool] = (True, True)) -> list[Tensor]:
        """Restore a batch of images.

        Args:
            image: (N, 3, H, W), values in [0, 1], H and W multiples of 8.
            stages: run only so many stages, from the first; the later ones then cost nothing. None: all.
            cuts: whether earlier stages see upper and lower, left and right halves apart. False for parts of a larger
                image that lie on one side of its midline.

        Returns:
            The images of the computed stages, the last stage first: [stage 3, stage 2, stage 1]. Each has the shape of
            ``image``; values may lie outside [0, 1].

        Raises:
            ValueError: ``image`` has another shape, or the network has not so many ``stages``.
        """
        last = len(self.subnetworks)
        stages = last if stages is None else stages
        self._check(image, stages)
        joints = [(dim,) if cuts[dim - 2] else () for dim in self.joints]
        views = [image]  # what each stage sees: quarters, halves, the whole
        for joint in reversed(joints):
            views.insert(0, split(views[0], *joint))

        images: list[Tensor] = []
        handed_on: list[Tensor] = []
        pyramids: tuple[Pyramid, Pyramid] | None = None
        for n, view in enumerate(views[:stages], start=1):
            joint = joints[n - 1] if n < last else ()
            features, pyramids = self._subnetwork(n, self._enter(n, view, handed_on), pyramids, joint)
            # The features cover the next stage's patches by now, and so does the image.
            restored = self._restore(n, features, views[min(n, last - 1)])
            images.insert(0, join(restored, *(dim for joint in joints[n:] for dim in joint)))
            if n < stages:
                handed_on.append(
                    getattr(self, f"sam{n}{n + 1}")(features, restored) if self.config["sam"] else features
                )
            del features
        return images

    def _enter(self, n: int, view: Tensor, handed_on: list[Tensor]) -> Tensor:
        """What stage ``n``'s subnetwork starts from: the shallow features of its view and what the stage before handed
        on, which is taken out of its list."""
        # Where the network computes in half precision, images stay in single: eight bits of mantissa are too few.
        shallow = getattr(self, f"shallow_feat{n}")(view.to(self.tail.weight.dtype))
        if not handed_on:
            return shallow
        concat = getattr(self, f"concat{n - 1}{n}")

        def joined(*both: Tensor) -> Tensor:
            return concat(torch.cat(both, dim=1))

        return by_rows(joined, [shallow, handed_on.pop()], self.config["kernel_size"] // 2)

    def _subnetwork(
        self, n: int, features: Tensor, pyramids: tuple[Pyramid, Pyramid] | None, joint: tuple[int, ...]
    ) -> tuple[Tensor, tuple[Pyramid, Pyramid] | None]:
        """Stage ``n``'s features, joined along ``joint`` to the patches of the next stage, and likewise its
        pyramids.

        ``pyramids`` are the previous stage's, of its encoder and its decoder, over this stage's patches: for CSFF; they
        are emptied after it.
        """
        encoded, decoded = pyramids if pyramids and self.config["csff"] else (None, None)
        if self.subnetworks[n - 1] == "orsnet":
            features = getattr(self, f"stage{n}_orsnet")(features, encoded, decoded)
            return join(features, *joint), None
        # A U-Net encodes its own patches, and decodes the next stage's.
        pyramid: Pyramid = getattr(self, f"stage{n}_encoder")(features, encoded, decoded)
        del features
        for previous in pyramids or ():
            previous.clear()
        for level in range(len(pyramid)):
            pyramid[level] = join(pyramid[level], *joint)
        decoded = getattr(self, f"stage{n}_decoder")(pyramid)
        return decoded[0], (pyramid, decoded)

    def _restore(self, n: int, features: Tensor, view: Tensor) -> Tensor:
        """Stage ``n``'s image: its residual added to ``view``, the degraded image in the same patches."""
        if n == len(self.subnetworks):
            return self.tail(features) + view
        if self.config["sam"]:
            return getattr(self, f"sam{n}{n + 1}").restore(features, view)
        return getattr(self, f"tail{n}")(features) + view

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
        if stages not in range(1, len(self.subnetworks) + 1):
            raise ValueError(f"this network has stages 1 to {len(self.subnetworks)}, not {stages}.")


def _check_form(subnetworks: Sequence[str], csff: bool) -> None:
    if not 1 <= len(subnetworks) <= 3 or any(kind not in SUBNETWORKS for kind in subnetworks):
        raise ValueError(f"subnetworks are one to three of {', '.join(SUBNETWORKS)}, not {list(subnetworks)}.")
    if csff and "orsnet" in subnetworks[:-1]:
        raise ValueError(
            f"csff takes features from encoder and decoder, which {list(subnetworks)} lack before the end."
        )
