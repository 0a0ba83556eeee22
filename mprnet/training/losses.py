"""The training loss: Charbonnier and edge loss, summed over the stages (paper, Equations 1 to 3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-3
_BINOMIAL = (0.05, 0.25, 0.4, 0.25, 0.05)


def charbonnier(image: Tensor, target: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Return the mean of sqrt((image - target)^2 + epsilon^2), a scalar (Equation 2). Both have the same shape."""
    return _charbonnier(image - target, epsilon)


def _charbonnier(error: Tensor, epsilon: float) -> Tensor:
    return torch.sqrt(torch.square(error) + epsilon**2).mean()


class RestorationLoss(nn.Module):
    """The sum over the stages of Charbonnier loss + ``edge_weight`` * edge loss (Equation 1).

    The edge loss (Equation 3) is the Charbonnier loss of the two Laplacians. The Laplacian is linear, so the Laplacian
    of the difference is enough. The loss is computed in fp32 for networks of any precision.

    Args:
        edge_weight: 0.05 in the paper.
        clamp: clamp the stages' outputs to [0, 1] first.
        channels: of the images.
    """

    kernel: Tensor

    def __init__(self, edge_weight: float, clamp: bool = False, channels: int = 3) -> None:
        super().__init__()
        self.edge_weight = edge_weight
        self.clamp = clamp
        # A buffer, so that it is on the device: a tensor made in each step would be copied to it each time.
        self.register_buffer("kernel", torch.tensor(_BINOMIAL).repeat(channels, 1), persistent=False)

    def forward(self, images: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            images: the stages' outputs, each (N, C, H, W), as ``MPRNet.forward`` returns them.
            target: (N, C, H, W).
        """
        losses = []
        for image in images:
            error = (image.clamp(0, 1) if self.clamp else image).float() - target.float()
            losses.append(_charbonnier(error, EPSILON))
            if self.edge_weight:
                losses.append(self.edge_weight * _charbonnier(self.laplacian(error), EPSILON))
        return torch.stack(losses).sum()

    def laplacian(self, x: Tensor) -> Tensor:
        """Return one level of a Laplacian pyramid, (N, C, H, W).

        This is ``x`` minus a copy that is blurred, subsampled, and blurred again. Subsampling keeps every second pixel,
        times 4, and sets the others to 0. The factor makes up for the zeros.
        """
        blurred = self._blur(x)
        subsampled = torch.zeros_like(blurred)
        subsampled[:, :, ::2, ::2] = 4 * blurred[:, :, ::2, ::2]
        return x - self._blur(subsampled)

    def _blur(self, x: Tensor) -> Tensor:
        """Apply a 5x5 Gaussian to (N, C, H, W). At the border, the outermost pixels are repeated."""
        x = F.pad(x, (2, 2, 2, 2), mode="replicate")
        x = F.conv2d(x, self.kernel[:, None, :, None], groups=x.shape[1])
        return F.conv2d(x, self.kernel[:, None, None, :], groups=x.shape[1])
