"""The optimizers: Adam, as in the paper, and Muon, which needs fewer steps."""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

OPTIMIZERS = ("adam", "muon")

# The polynomial of Jordan et al. It brings all singular values from (0, 1] to about 1 (0.7 to 1.2) in five iterations.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MOMENTUM = 0.95
_RMS_OF_ADAM = 0.2


def make_optimizer(model: nn.Module, optim: CfgNode) -> torch.optim.Optimizer:
    """Return the optimizer that the settings' section OPTIM describes, for all parameters of the model.

    Args:
        model: on the device on which it is trained.
        optim: the settings' section OPTIM.
    """
    parameters = list(model.parameters())
    is_fused = parameters[0].device.type in ("cuda", "cpu")  # other optimizers read values in each step

    def make_adam(some: list[nn.Parameter]) -> torch.optim.Adam:
        betas, decay = (optim.BETA1, 0.999), optim.WEIGHT_DECAY
        return torch.optim.Adam(some, lr=optim.LR_INITIAL, betas=betas, eps=1e-8, weight_decay=decay, fused=is_fused)

    return Muon(parameters, make_adam) if optim.OPTIMIZER == "muon" else make_adam(parameters)


class Muon(torch.optim.Optimizer):
    """Muon for the kernels of convolutions, Adam for all other parameters.

    Muon orthogonalizes the mean gradient of a kernel, which is taken as a matrix (C_out, C_in * k * k): all directions
    get steps of the same length. Its steps are scaled to the size of Adam's, so that both share one learning rate.
    Weight decay is decoupled for kernels, as in AdamW.

    Sources: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the scale is from Liu et
    al., "Muon is scalable for LLM training", 2025. PyTorch's own ``torch.optim.Muon`` takes matrices only.

    Args:
        parameters: all parameters to optimize.
        make_adam: returns Adam for the parameters that it gets. Muon takes over its settings.
    """

    def __init__(
        self, parameters: list[nn.Parameter], make_adam: Callable[[list[nn.Parameter]], torch.optim.Adam]
    ) -> None:
        kernels = [p for p in parameters if is_kernel(p)]
        others = [p for p in parameters if not is_kernel(p)]
        self._adam = make_adam(others)
        super().__init__([{"params": kernels}, {"params": others}], self._adam.defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change all parameters that have a gradient."""
        kernels, *others = self.param_groups
        # Linked anew in each step, because load_state_dict replaces both.
        self._adam.param_groups, self._adam.state = others, self.state
        self._adam.step()

        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for kernel in kernels["params"]:
            if kernel.grad is not None:
                by_shape[kernel.shape].append(kernel)
        for same in by_shape.values():
            # Together, because many small products take longer than a few large ones.
            directions = orthogonalize(torch.stack([self._averaged_gradient(kernel).flatten(1) for kernel in same]))
            scale = _RMS_OF_ADAM * max(directions.shape[1:]) ** 0.5
            for kernel, direction in zip(same, directions.unbind(), strict=True):
                kernel.mul_(1 - kernels["lr"] * kernels["weight_decay"])
                kernel.add_(direction.reshape(kernel.shape), alpha=-kernels["lr"] * scale)

    def _averaged_gradient(self, kernel: nn.Parameter) -> Tensor:
        """Return the kernel's gradient with Nesterov's momentum, and update the momentum."""
        assert kernel.grad is not None
        state = self.state[kernel]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(kernel)
        momentum = state["momentum_buffer"]
        momentum.lerp_(kernel.grad, 1 - _MOMENTUM)
        return kernel.grad.lerp(momentum, _MOMENTUM)


def is_kernel(parameter: Tensor) -> bool:
    """Return whether the parameter is a convolution's kernel and, as a matrix, more than one row or column."""
    return parameter.ndim == 4 and min(len(parameter), parameter[0].numel()) > 1


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return matrices with the singular vectors of these, and singular values of about 1 (0.7 to 1.2).

    Args:
        matrices: (N, rows, columns), floats. A matrix of zeros stays zeros.

    Returns:
        (N, rows, columns), by the Newton-Schulz iteration.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)  # no singular value is above the Frobenius norm
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x
