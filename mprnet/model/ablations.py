"""The forms of MPRNet that the paper compares in Table 6: fewer stages, other subnetworks, without SAM or CSFF."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from mprnet.model.layers import Blocks, SupervisedAttentionModule, conv
from mprnet.model.network import MPRNet, make_block, unet_widths
from mprnet.model.patches import FULL_GRID, PatchGrid
from mprnet.model.stages import Decoder, Encoder, OriginalResolutionSubnetwork, Pyramid

# What a stage can consist of: encoder and decoder, or ORSNet.
SUBNETWORKS = ("unet", "orsnet")
# The arguments that the paper's network does not have, and their values for the paper's network.
PAPER_FORM: dict[str, Any] = dict(subnetworks=["unet", "unet", "orsnet"], sam=True, csff=True)


class AblationMPRNet(MPRNet):
    """MPRNet in any form of Table 6.

    The last stage sees the whole image, the one before it halves, and the one before that quarters. The paper does not
    describe networks without SAM. Here a stage without SAM makes its image by a 3x3 convolution of its features, plus
    the input, and the next stage receives the features themselves.

    Args:
        widths, options: as for MPRNet.
        subnetworks: ``unet`` or ``orsnet`` for each stage; one to three stages.
        sam: supervised attention between stages.
        csff: cross-stage feature fusion; every stage but the last must be a ``unet`` then.

    Raises:
        ValueError: arguments with which the network cannot run.
    """

    def __init__(
        self,
        *widths: Any,
        subnetworks: Sequence[str] = ("unet", "unet", "orsnet"),
        sam: bool = True,
        csff: bool = True,
        **options: Any,
    ) -> None:
        _check_form(subnetworks, csff)
        # Before MPRNet's constructor, which calls _add_stages.
        self._form: dict[str, Any] = dict(subnetworks=list(subnetworks), sam=sam, csff=csff)
        super().__init__(*widths, **options)
        self.config |= self._form
        self.num_stages = len(subnetworks)

    def _add_stages(self) -> None:
        n_feat, in_c, kernel_size, bias = (self.config[name] for name in ("n_feat", "in_c", "kernel_size", "bias"))
        subnetworks, sam, csff = (self._form[name] for name in ("subnetworks", "sam", "csff"))
        levels = unet_widths(self.config)
        widths = [n_feat if kind == "unet" else n_feat + self.config["scale_orsnetfeats"] for kind in subnetworks]
        block = make_block(self.config)
        # The order in which modules are added is the order of the keys in published files.
        for n in range(1, len(subnetworks) + 1):
            shallow = widths[0] if n == 1 else n_feat
            self.add_module(f"shallow_feat{n}", Blocks(conv(in_c, shallow, kernel_size, bias), block(shallow)))
        for n, (kind, width) in enumerate(zip(subnetworks, widths, strict=True), start=1):
            if kind == "unet":
                self.add_module(f"stage{n}_encoder", Encoder(levels, block, bias, csff and n > 1))
                self.add_module(f"stage{n}_decoder", Decoder(levels, block))
            else:
                num_cab = self.config["num_cab"]
                orsnet = OriginalResolutionSubnetwork(levels, width, block, kernel_size, num_cab, bias, csff and n > 1)
                self.add_module(f"stage{n}_orsnet", orsnet)
        for n, width in enumerate(widths[:-1], start=1):
            if sam:
                self.add_module(f"sam{n}{n + 1}", SupervisedAttentionModule(width, in_c, 1, bias))
            else:
                self.add_module(f"tail{n}", conv(width, in_c, kernel_size, bias))
        for n, (before, width) in enumerate(pairwise(widths), start=1):
            self.add_module(f"concat{n}{n + 1}", conv(n_feat + before, width, kernel_size, bias))
        self.tail = conv(widths[-1], in_c, kernel_size, bias)

    def forward(self, image: Tensor, stages: int | None = None, grid: PatchGrid = FULL_GRID) -> list[Tensor]:
        """As MPRNet.forward, for as many stages as this network has."""
        last = self.num_stages
        stages = last if stages is None else stages
        self.check_input(image, stages)
        halves = grid.split_rows(image)
        patches = [grid.split_columns(halves), halves, image][3 - last :]  # what each stage sees
        joins = [grid.join_columns, grid.join_rows][3 - last :]  # from each stage's patches to the next stage's

        images: list[Tensor] = []
        handed_on: Tensor | None = None
        pyramids: tuple[Pyramid, Pyramid] | None = None
        for n in range(1, stages + 1):
            features = getattr(self, f"shallow_feat{n}")(self.to_features(patches[n - 1]))
            if handed_on is not None:
                features = self.concatenate(getattr(self, f"concat{n - 1}{n}"), features, handed_on)
                handed_on = None
            join = joins[n - 1] if n < last else _identity
            features, pyramids = self._subnetwork(n, features, pyramids, join)
            restored = self._restore(n, features, patches[min(n, last - 1)])
            if n < stages:
                handed_on = getattr(self, f"sam{n}{n + 1}")(features, restored) if self.config["sam"] else features
            for join_further in joins[n:]:
                restored = join_further(restored)
            images.insert(0, restored)
        return images

    def _subnetwork(
        self, n: int, features: Tensor, pyramids: tuple[Pyramid, Pyramid] | None, join: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, tuple[Pyramid, Pyramid] | None]:
        """Stage ``n``'s features and, of a U-Net, its pyramids, all over the next stage's patches.

        Args:
            pyramids: the previous stage's, for CSFF.
            join: from this stage's patches to the next stage's.
        """
        encoded, decoded = pyramids if pyramids and self.config["csff"] else (None, None)
        if self.config["subnetworks"][n - 1] == "orsnet":
            return join(getattr(self, f"stage{n}_orsnet")(features, encoded, decoded)), None
        encoded = [join(level) for level in getattr(self, f"stage{n}_encoder")(features, encoded, decoded)]
        decoded = getattr(self, f"stage{n}_decoder")(encoded)
        return decoded[0], (encoded, decoded)

    def _restore(self, n: int, features: Tensor, image: Tensor) -> Tensor:
        """Stage ``n``'s restored image; ``image`` is the degraded one in the same patches."""
        if n == self.num_stages:
            return self.tail(features) + image
        if self.config["sam"]:
            return getattr(self, f"sam{n}{n + 1}").restore(features, image)
        return getattr(self, f"tail{n}")(features) + image


def build_network(
    config: Mapping[str, Any],
    network: Callable[..., MPRNet] = MPRNet,
    ablation: Callable[..., MPRNet] = AblationMPRNet,
) -> MPRNet:
    """Return the network with these arguments, from ``network`` if its form is the paper's, else from ``ablation``.

    Raises:
        ValueError: arguments with which the network cannot run.
        TypeError: unknown arguments, or some are missing.
    """
    form = {**PAPER_FORM, **{name: value for name, value in config.items() if name in PAPER_FORM}}
    form["subnetworks"] = list(form["subnetworks"])
    widths = {name: value for name, value in config.items() if name not in PAPER_FORM}
    return network(**widths) if form == PAPER_FORM else ablation(**widths, **form)


def _identity(x: Tensor) -> Tensor:
    return x


def _check_form(subnetworks: Sequence[str], csff: bool) -> None:
    if not 1 <= len(subnetworks) <= 3 or any(kind not in SUBNETWORKS for kind in subnetworks):
        raise ValueError(f"subnetworks are one to three of {', '.join(SUBNETWORKS)}, not {list(subnetworks)}.")
    if csff and "orsnet" in subnetworks[:-1]:
        raise ValueError(
            "csff takes features from an encoder and a decoder, which an orsnet does not have: with csff, only the "
            f"last of the subnetworks can be an orsnet, not {list(subnetworks)}."
        )
