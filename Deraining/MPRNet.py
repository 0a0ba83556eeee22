"""MPRNet with the widths of the paper's network for deraining."""

import mprnet


class MPRNet(mprnet.MPRNet):
    """The paper's network for deraining; the published checkpoint fits ``MPRNet()``.

    - Stage 1 sees quarters of the image: encoder, decoder (mprnet/model/stages.py) and SAM (mprnet/model/layers.py).
    - Stage 2 sees halves: encoder with CSFF from stage 1, decoder on the whole image, SAM.
    - Stage 3 sees the whole image: ORSNet with CSFF from stage 2 (mprnet/model/stages.py).

    mprnet/model/network.py connects the stages. The network takes images (N, 3, H, W) in [0, 1] and returns the images
    of [stage 3, stage 2, stage 1] in the same shape.
    """

    def __init__(
        self,
        in_c: int = 3,
        out_c: int = 3,
        n_feat: int = 40,
        scale_unetfeats: int = 20,
        scale_orsnetfeats: int = 16,
        num_cab: int = 8,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
    ) -> None:
        widths = (n_feat, scale_unetfeats, scale_orsnetfeats, num_cab)
        super().__init__(*widths, in_c, out_c, kernel_size, reduction, bias)
