"""How far an image is from another."""

from mprnet.metrics.fidelity import psnr

__all__ = ["psnr"]
