"""3x3 convolutions with a quarter of the multiplications (Winograd's F(4x4, 3x3); Lavin and Gray, CVPR 2016).

In fp32 a CPU runs direct convolution at the limit of its multipliers. A wide layer is only faster with fewer
multiplications. A tile of 6x6 pixels is transformed, multiplied by transformed weights in matrix products, and
transformed back to 4x4 pixels of the result. This takes 36 products, and direct convolution takes 144. The transforms
are matrix products, too; with few channels they cost as much as they save. The rounding error is four times that of
direct convolution.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TILE = 4  # height and width of a result's tile; the tile that is read has two pixels more
# With fewer channels than this the transforms cost more than the products save (measured: equal at about 60).
_CHANNELS = 72
# How many numbers (tiles times channels) are computed at a time, so that they stay in the CPU's cache.
_CHUNK = 2**15

# The points at which the method evaluates polynomials, beside infinity. Of the points tried, these have the smallest
# rounding error: half of that of the usual 0, 1, -1, 2, -2.
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)


def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Return the transforms of input (6, 6), weights (6, 3) and output (4, 6), for one dimension, in float64."""

    def powers(count: int) -> Tensor:
        infinity = torch.zeros(1, count, dtype=torch.float64)
        infinity[0, -1] = 1
        points = torch.tensor(_POINTS, dtype=torch.float64)[:, None] ** torch.arange(count)
        return torch.cat([points, infinity])

    to_products = torch.linalg.inv(powers(6)).T
    scale = 2 ** to_products.abs().amax(1, keepdim=True).log2().round()  # so that all products have a similar magnitude
    return to_products / scale, powers(3) * scale, powers(4).T


def _both_axes(transform: Tensor) -> Tensor:
    """Return the transform of rows and columns as one matrix for flattened pixels."""
    return torch.kron(transform, transform).float()


class WinogradConv2d(nn.Module):
    """Replaces a 3x3 ``convolution`` with stride 1 and padding 1, in fp32 on the CPU, without gradients."""

    weight: Tensor
    to_products: Tensor
    to_pixels: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.out_channels = convolution.out_channels
        self.bias = convolution.bias
        to_products, of_weights, to_pixels = _transforms()
        weight = torch.einsum("ia,ocab,jb->ijco", of_weights, convolution.weight.detach().double(), of_weights)
        self.register_buffer("weight", weight.flatten(0, 1).float().contiguous())  # (36, in, out)
        self.register_buffer("to_products", _both_axes(to_products))
        self.register_buffer("to_pixels", _both_axes(to_pixels))

    @staticmethod
    def supports(module: nn.Module) -> bool:
        """Return True if Winograd supports this layer and is faster than direct convolution."""
        return (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (3, 3)
            and module.stride == module.padding == module.dilation == (1, 1)
            and module.groups == 1
            and module.in_channels * module.out_channels >= _CHANNELS**2
            and module.padding_mode == "zeros"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of (N, C, H, W): (N, out_channels, H, W), channels last in memory."""
        batch, channels, height, width = x.shape
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        bottom, right = rows * _TILE - height, columns * _TILE - width
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1 + right, 1, 1 + bottom)).contiguous()
        result = x.new_empty(batch, rows, _TILE, columns, _TILE, self.out_channels)
        tiles = padded.as_strided(
            (6, 6, batch, rows, columns, channels),
            (padded.stride(1), padded.stride(2), padded.stride(0), *(_TILE * s for s in padded.stride()[1:3]), 1),
        )
        # A chunk has several rows of tiles, or several images if they are small.
        step = max(1, _CHUNK // (columns * max(channels, self.out_channels)))
        images = max(1, step // rows)
        for first in range(0, batch, images):
            for top in range(0, rows, step):
                some = (slice(first, first + images), slice(top, top + step))
                result[some] = self._tiles(tiles[(slice(None), slice(None), *some)])
        whole = result.view(batch, rows * _TILE, columns * _TILE, self.out_channels)
        return whole[:, :height, :width].permute(0, 3, 1, 2)

    def _tiles(self, tiles: Tensor) -> Tensor:
        """Return the results of tiles (6, 6, n, rows, columns, C): (n, rows, 4, columns, 4, out)."""
        _, _, *grid, channels = tiles.shape
        products = self.to_products @ tiles.reshape(36, -1)
        products = torch.bmm(products.view(36, -1, channels), self.weight)
        pixels = self.to_pixels @ products.view(36, -1)
        pixels = pixels.view(4, 4, *grid, self.out_channels).permute(2, 3, 0, 4, 1, 5)
        return pixels if self.bias is None else pixels + self.bias
