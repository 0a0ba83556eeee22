"""An exponential moving average (EMA) of weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Ema:
    """The moving average of a network's parameters.

    PyTorch's AveragedModel does the same, but reads a tensor in every step.

    Args:
        model: the average starts from its parameters.
        decay: in [0, 1). A step moves the average by (1 - decay) towards the parameters.

    Attributes:
        module: a network with the averaged parameters.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the parameters of ``model``. The first time, the average becomes equal to them."""
        averages: list[Tensor] = list(self.module.parameters())
        parameters: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, parameters, 1 - self.decay if self._updates else 1.0)
        self._updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates, with the keys of AveragedModel."""
        tensors = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        return {"n_averaged": torch.tensor(self._updates), **tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self._updates = int(state["n_averaged"])
        self.module.load_state_dict({key.removeprefix("module."): v for key, v in state.items() if key != "n_averaged"})
