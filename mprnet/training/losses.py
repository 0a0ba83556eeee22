"""The training loss: Charbonnier plus edge, summed over the stages (paper, Equations 1 to 3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-3
_BINOMIAL = (0.05, 0.25, 0.4, 0.25, 0.05)


def charbonnier(image: Tensor, target: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Mean of sqrt(d^2 + epsilon^2) over everything (Equation 2); tensors of one shape, a scalar back."""
    return torch.sqrt(torch.square(image - target) + epsilon**2).mean()


def _blur(x: Tensor) -> Tensor:
    """5x5 Gaussian, edge pixels repeated outwards; (N, C, H, W) in and out."""
    channels = x.shape[1]
    kernel = x.new_tensor(_BINOMIAL).repeat(channels, 1)
    x = F.pad(x, (2, 2, 2, 2), mode="replicate")
    x = F.conv2d(x, kernel[:, None, :, None], groups=channels)
    return F.conv2d(x, kernel[:, None, None, :], groups=channels)


def laplacian(x: Tensor) -> Tensor:
    """What one level of a Laplacian pyramid holds: ``x`` minus its blurred, thinned and blurred again copy.

    (N, C, H, W) in and out. Every second pixel of the blurred copy is kept, times 4 to make up for the others, which
    become 0.
    """
    blurred = _blur(x)
    thinned = torch.zeros_like(blurred)
    thinned[:, :, ::2, ::2] = 4 * blurred[:, :, ::2, ::2]
    return x - _blur(thinned)


def restoration_loss(images: Sequence[Tensor], target: Tensor, edge_weight: float) -> Tensor:
    """Sum over the stages' images of Charbonnier + ``edge_weight`` * edge loss (Equation 1; the paper's weight: 0.05).

    The edge loss (Equation 3) is the Charbonnier loss of the Laplacians, which are linear: that of the difference
    serves. Computed in fp32 whatever the network computed in.

    Args:
        images: each (N, C, H, W), as ``MPRNet.forward`` gives them.
        target: (N, C, H, W).
    """
    zero = torch.zeros((), device=target.device)
    loss = zero
    for image in images:
        error = image.float() - target.float()
        loss = loss + charbonnier(error, zero)
        if edge_weight:
            loss = loss + edge_weight * charbonnier(laplacian(error), zero)
    return loss
