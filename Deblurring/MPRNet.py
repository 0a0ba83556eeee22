"""MPRNet at the widths of the paper's network for deblurring."""

import mprnet


class MPRNet(mprnet.MPRNet):
    """The paper's network for deblurring; ``MPRNet()`` loads the published checkpoint.

    - Stage 1: quarters of the image, encoder and decoder (mprnet/model/stages.py), then SAM (mprnet/model/layers.py).
    - Stage 2: halves, encoder with CSFF from stage 1, decoder on the whole image, then SAM.
    - Stage 3: the whole image, ORSNet with CSFF from stage 2 (mprnet/model/stages.py).

    How they follow one another is written once, in mprnet/model/network.py. Images (N, 3, H, W) in [0, 1] go in;
    [stage 3, stage 2, stage 1] images of the same shape come out.
    """

    def __init__(
        self,
        in_c: int = 3,
        out_c: int = 3,
        n_feat: int = 96,
        scale_unetfeats: int = 48,
        scale_orsnetfeats: int = 32,
        num_cab: int = 8,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
    ) -> None:
        widths = (n_feat, scale_unetfeats, scale_orsnetfeats, num_cab)
        super().__init__(*widths, in_c, out_c, kernel_size, reduction, bias)
