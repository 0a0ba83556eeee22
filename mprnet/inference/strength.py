"""How much of a network's change is in a result."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mprnet.errors import UserError


def check_strength(strength: Any) -> float:
    """Return the strength.

    Raises:
        UserError: it is not a number in [0, 1].
    """
    if not (isinstance(strength, int | float | np.floating) and 0 <= strength <= 1):  # also if it is NaN
        raise UserError(f"strength is a number from 0 to 1, not {strength}.")
    return float(strength)


def blend(image: Tensor, restored: Tensor, strength: float) -> Tensor:
    """Return ``image + strength * (restored - image)``, in the memory of ``restored``.

    Args:
        image: of the shape of ``restored``; it may be on another device. Values are clipped to [0, 1].
    """
    if strength == 1:
        return restored
    return torch.lerp(image.to(restored.device).clamp(0, 1), restored, strength, out=restored)
