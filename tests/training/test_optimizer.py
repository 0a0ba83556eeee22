import pytest
import torch
from torch import nn

from mprnet.training.keys import get_defaults
from mprnet.training.optimizer import Muon, is_kernel, make_optimizer, orthogonalize
from training.runs import are_equal, tiny_network


def optim(**values):
    settings = get_defaults().OPTIM
    settings.merge_from_list([item for pair in values.items() for item in pair])
    return settings


def some_gradients(model: nn.Module, seed: int) -> None:
    """Give each parameter a gradient."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def orthogonalize_by_svd(matrix: torch.Tensor) -> torch.Tensor:
    """Return what five iterations of Jordan et al. (2024) give, computed on the singular values alone."""
    u, values, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return u * values @ v


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 96, 16), (1, 24, 24)], ids=["wide", "tall", "square"])
def test_matrices_keep_their_singular_vectors_and_get_singular_values_of_about_1(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    results = orthogonalize(matrices)
    for matrix, result in zip(matrices, results, strict=True):
        torch.testing.assert_close(result.double(), orthogonalize_by_svd(matrix), atol=1e-4, rtol=0)
        assert 0.6 < torch.linalg.svdvals(result).min() < torch.linalg.svdvals(result).max() < 1.25


def test_a_matrix_of_zeros_stays_zeros():
    assert not orthogonalize(torch.zeros(1, 4, 9)).any()


def test_kernels_change_by_muon_and_all_else_by_adam():
    """Three steps with weight decay. Momentum is Nesterov's, of 0.95, as in PyTorch's Muon."""
    rate, decay = 0.01, 0.1
    model, expected = tiny_network(), tiny_network()
    ours = make_optimizer(model, optim(OPTIMIZER="muon", LR_INITIAL=rate, WEIGHT_DECAY=decay))
    kernels = [parameter for parameter in expected.parameters() if parameter.numel() > 1 and parameter.ndim == 4]
    others = [parameter for parameter in expected.parameters() if parameter.ndim == 1]
    assert len(kernels) + len(others) == len(list(expected.parameters()))
    adam = torch.optim.Adam(others, lr=rate, weight_decay=decay)
    momenta = [torch.zeros_like(kernel) for kernel in kernels]
    for step in range(3):
        some_gradients(model, step)
        some_gradients(expected, step)
        ours.step()
        adam.step()
        with torch.no_grad():
            for kernel, momentum in zip(kernels, momenta, strict=True):
                momentum.mul_(0.95).add_(0.05 * kernel.grad)
                matrix = (0.05 * kernel.grad + 0.95 * momentum).flatten(1)
                step_of_kernel = 0.2 * max(matrix.shape) ** 0.5 * orthogonalize_by_svd(matrix).view(kernel.shape)
                kernel.copy_(kernel * (1 - rate * decay) - rate * step_of_kernel)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name), atol=1e-5, rtol=0, msg=name)


def test_a_step_of_a_kernel_is_as_long_as_one_of_adam():
    """Liu et al. (2025): Adam's steps have a root mean square of 0.2 to 0.4 times the learning rate."""
    model = tiny_network()
    before = weights(model)
    some_gradients(model, 0)
    make_optimizer(model, optim(OPTIMIZER="muon", LR_INITIAL=1e-3)).step()
    for name, parameter in model.named_parameters():
        if is_kernel(parameter):
            rms = (parameter - before[name]).square().mean().sqrt().item()
            # 0.2 for full rank, if all singular values are 1.
            assert 0.2 * 0.6e-3 < rms < 0.2 * 1.25e-3, name


def test_parameters_without_a_gradient_stay_as_they_are():
    model = tiny_network()
    before = weights(model)
    some_gradients(model, 0)
    first = next(iter(before))
    model.get_parameter(first).grad = None
    make_optimizer(model, optim(OPTIMIZER="muon")).step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(before) - {first}


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_a_saved_optimizer_goes_on_bit_for_bit(name, tmp_path):
    whole, resumed = tiny_network(), tiny_network()
    settings = optim(OPTIMIZER=name, LR_INITIAL=0.01)
    ours, other = make_optimizer(whole, settings), make_optimizer(resumed, settings)
    for step in range(3):
        some_gradients(whole, step)
        ours.step()
    torch.save(ours.state_dict(), tmp_path / "state.pth")
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    resumed.load_state_dict(whole.state_dict())
    for network, optimizer in ((whole, ours), (resumed, other)):
        some_gradients(network, 3)
        optimizer.step()
    assert are_equal(whole.state_dict(), resumed.state_dict())


def test_the_schedule_sets_the_learning_rate_of_all_parameters():
    model = tiny_network()
    optimizer = make_optimizer(model, optim(OPTIMIZER="muon"))
    assert isinstance(optimizer, Muon)
    before = weights(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    some_gradients(model, 0)
    optimizer.step()
    assert are_equal(before, model.state_dict())
