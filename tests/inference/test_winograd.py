import copy

import pytest
import torch
from torch import nn

from mprnet import MPRNet
from mprnet.inference.precision import prepare_network
from mprnet.inference.winograd import WinogradConv2d

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(1, 72, 8, 8), (2, 80, 9, 11), (4, 96, 33, 18), (1, 128, 3, 200), (9, 72, 1, 1)])
@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_winograd_equals_the_convolution_up_to_rounding(shape, bias):
    torch.manual_seed(0)
    layer = nn.Conv2d(shape[1], 84, 3, padding=1, bias=bias)
    assert WinogradConv2d.supports(layer)
    x = torch.randn(shape)
    for batch in (x, x.contiguous(memory_format=torch.channels_last)):
        difference = WinogradConv2d(layer)(batch) - copy.deepcopy(layer).double()(x.double())
        assert difference.abs().max() < 1e-5  # the results have a standard deviation of 0.6
        assert difference.square().mean().sqrt() < 1e-6


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(40, 40, 3, padding=1),
        nn.Conv2d(96, 96, 1),
        nn.Conv2d(96, 96, 3),
        nn.Conv2d(96, 96, 3, padding=1, stride=2),
        nn.Conv2d(96, 96, 5, padding=2),
        nn.Conv2d(96, 96, 3, padding=1, groups=2),
        nn.Linear(96, 96),
    ],
    ids=str,
)
def test_only_wide_plain_3x3_convolutions_are_supported(layer):
    assert not WinogradConv2d.supports(layer)


@torch.inference_mode()
def test_prepare_network_keeps_results_and_does_not_change_the_original():
    torch.manual_seed(0)
    model = MPRNet(72, 8, 4, num_cab=1).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prepared = prepare_network(model, CPU, torch.float32)
    assert any(isinstance(module, WinogradConv2d) for module in prepared.modules())
    image = torch.rand(1, 3, 24, 40)
    for a, b in zip(prepared(image), model(image), strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
