"""The self-ensemble: the mean of a function's results over the eight symmetries of the square."""

from collections.abc import Callable

import torch
from torch import Tensor

# With or without a flip, and a number of quarter turns.
_SYMMETRIES = [(flip, turns) for flip in (False, True) for turns in range(4)]


def mean_over_symmetries(restore: Callable[[Tensor], list[Tensor]], batch: Tensor) -> list[Tensor]:
    """Return the means of what ``restore`` returns for the eight symmetries of ``batch``, each turned back.

    Args:
        restore: from a batch (N, 3, H, W) to one or more batches of the same shape.
        batch: (N, 3, H, W).
    """
    means: list[Tensor] = []
    for flip, turns in _SYMMETRIES:
        turned = torch.rot90(batch.flip(3) if flip else batch, turns, (2, 3))
        for number, restored in enumerate(restore(turned)):
            restored = torch.rot90(restored, -turns, (2, 3))
            restored = (restored.flip(3) if flip else restored) / len(_SYMMETRIES)
            if number == len(means):
                means.append(restored)
            else:
                means[number] += restored
    return means
