"""MixUp: every sample of a batch is blended with another one, degraded image and target alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mprnet.inference.distributed import World


@dataclass(frozen=True)
class MixUp:
    """The draws for one batch: sample j becomes w * itself + (1 - w) * sample ``partners[j]``, w being ``weights[j]``.

    Attributes:
        weights: (B,) float32 in [0, 1]; B samples make the batch of all processes together.
        partners: (B,) integers, a permutation of 0 to B - 1.
    """

    weights: np.ndarray
    partners: np.ndarray


def draw_mixup(samples: int, alpha: float, seed: Sequence[int]) -> MixUp:
    """Return the draws for a batch of ``samples``: one weight per sample from Beta(alpha, alpha), a random partner."""
    rng = np.random.default_rng(seed)
    return MixUp(rng.beta(alpha, alpha, samples).astype(np.float32), rng.permutation(samples))


def apply_mixup(images: Tensor, draws: MixUp, world: World) -> Tensor:
    """Return this process's samples, blended with their partners from all processes.

    Every process of ``world`` has to call this. Process r holds the samples r, r + size, r + 2 size, ... of the batch.

    Args:
        images: (N, C, H, W), this process's samples. A process without a sample in a small last batch holds one that
            does not count, which comes back as it is.
    """
    total = len(draws.weights)
    batch = _gather_batch(images, total, world)
    if world.rank >= total:
        return images
    mine = slice(world.rank, total, world.size)
    weights = torch.from_numpy(draws.weights)[mine].to(images.device)[:, None, None, None]
    partners = torch.from_numpy(draws.partners)[mine].to(images.device)
    return weights * images + (1 - weights) * batch[partners]


def _gather_batch(images: Tensor, total: int, world: World) -> Tensor:
    """The batch of all processes in its own order, (total, C, H, W)."""
    if world.size == 1:
        return images
    most = -(-total // world.size)  # all_gather needs one shape in all processes
    padded = images.new_zeros(most, *images.shape[1:])
    padded[: len(images)] = images
    return torch.stack(world.all_gather(padded), dim=1).flatten(0, 1)[:total]
