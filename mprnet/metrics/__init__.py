"""The measures of the paper's tables: how similar an image is to its target."""

from mprnet.metrics.alignment import Aligned, align, masked_psnr, masked_ssim
from mprnet.metrics.fidelity import luma, psnr, ssim_volume, ssim_wang2003

__all__ = ["Aligned", "align", "luma", "masked_psnr", "masked_ssim", "psnr", "ssim_volume", "ssim_wang2003"]
