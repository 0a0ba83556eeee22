"""MixUp: blends each sample of a batch with another one. Degraded image and target are blended alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mprnet.data.tensors import to_device
from mprnet.inference.distributed import World
from mprnet.training.order import rank_indices


@dataclass(frozen=True)
class MixUp:
    """The random numbers for one batch.

    Sample j becomes weights[j] * (sample j) + (1 - weights[j]) * (sample partners[j]).

    Attributes:
        weights: (B,) float32 in [0, 1]. B is the batch size of all processes together.
        partners: (B,) integers, a permutation of 0 to B - 1.
    """

    weights: np.ndarray
    partners: np.ndarray


def draw_mixup(samples: int, alpha: float, seed: Sequence[int]) -> MixUp:
    """Return a weight from Beta(alpha, alpha) and a random partner for each of ``samples`` samples."""
    rng = np.random.default_rng(seed)
    return MixUp(rng.beta(alpha, alpha, samples).astype(np.float32), rng.permutation(samples))


def apply_mixup(images: Tensor, mixup: MixUp, world: World) -> Tensor:
    """Return this process's samples, blended with their partners from all processes.

    All processes of ``world`` have to call this function.

    Args:
        images: (N, C, H, W), the samples that ``rank_indices`` gives to this process. A process without a sample in a
            small last batch has one that does not count. It is returned unchanged.
        mixup: for the batch of all processes.
    """
    total = len(mixup.weights)
    batch = _gather_batch(images, total, world)
    if world.rank >= total:
        return images
    own = list(rank_indices(total, world.rank, world.size))
    weights = to_device(torch.from_numpy(mixup.weights)[own], images.device)[:, None, None, None]
    partners = to_device(torch.from_numpy(mixup.partners)[own], images.device)
    return weights * images + (1 - weights) * batch[partners]


def _gather_batch(images: Tensor, total: int, world: World) -> Tensor:
    """Return the batch of all processes, (total, C, H, W), in its original order."""
    if world.size == 1:
        return images
    # all_gather needs the same shape in all processes. Rank 0 has the most samples.
    padded = images.new_zeros(len(rank_indices(total, 0, world.size)), *images.shape[1:])
    padded[: len(images)] = images
    return torch.stack(world.all_gather(padded), dim=1).flatten(0, 1)[:total]
