"""The training loss: Charbonnier and edge loss, summed over the stages (paper, Equations 1 to 3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-3
_BINOMIAL = (0.05, 0.25, 0.4, 0.25, 0.05)


def charbonnier(image: Tensor, target: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Return the mean of sqrt((image - target)^2 + epsilon^2), a scalar (Equation 2). Both have the same shape."""
    return torch.sqrt(torch.square(image - target) + epsilon**2).mean()


def _blur(x: Tensor) -> Tensor:
    """Apply a 5x5 Gaussian to (N, C, H, W). At the border, the outermost pixels are repeated."""
    channels = x.shape[1]
    kernel = x.new_tensor(_BINOMIAL).repeat(channels, 1)
    x = F.pad(x, (2, 2, 2, 2), mode="replicate")
    x = F.conv2d(x, kernel[:, None, :, None], groups=channels)
    return F.conv2d(x, kernel[:, None, None, :], groups=channels)


def laplacian(x: Tensor) -> Tensor:
    """Return one level of a Laplacian pyramid, (N, C, H, W).

    This is ``x`` minus a copy that is blurred, subsampled, and blurred again. Subsampling keeps every second pixel,
    times 4, and sets the others to 0. The factor makes up for the zeros.
    """
    blurred = _blur(x)
    subsampled = torch.zeros_like(blurred)
    subsampled[:, :, ::2, ::2] = 4 * blurred[:, :, ::2, ::2]
    return x - _blur(subsampled)


def restoration_loss(images: Sequence[Tensor], target: Tensor, edge_weight: float) -> Tensor:
    """Return the sum over the stages of Charbonnier loss + ``edge_weight`` * edge loss (Equation 1), a scalar.

    The edge loss (Equation 3) is the Charbonnier loss of the two Laplacians. The Laplacian is linear, so the Laplacian
    of the difference is enough. The loss is computed in fp32 for networks of any precision.

    Args:
        images: the stages' outputs, each (N, C, H, W), as ``MPRNet.forward`` returns them.
        target: (N, C, H, W).
        edge_weight: 0.05 in the paper.
    """
    zero = torch.zeros((), device=target.device)
    loss = zero
    for image in images:
        error = image.float() - target.float()
        loss = loss + charbonnier(error, zero)
        if edge_weight:
            loss = loss + edge_weight * charbonnier(laplacian(error), zero)
    return loss
