from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mprnet import MPRNet, Restorer, UserError
from mprnet.model.layers import ChannelAttention
from mprnet.model.local_pooling import largest_window, set_local_pooling, training_patch
from mprnet.model.window_means import running_means, window_means


def naive_mean(features: Tensor, rows: int, columns: int) -> Tensor:
    """Return the mean over each pixel's window, by loops.

    An even window of size k at pixel i covers i - (k - 1) // 2 to i + k // 2. Near a border, the nearest window inside
    the image is used. A window longer than a side is reduced to the side.
    """
    _, _, height, width = features.shape
    result = torch.empty_like(features)

    def window(index: int, size: int, length: int) -> slice:
        size = min(size, length)
        first = min(max(index - (size - 1) // 2, 0), length - size)
        return slice(first, first + size)

    for y in range(height):
        for x in range(width):
            part = features[:, :, window(y, rows, height), window(x, columns, width)]
            result[:, :, y, x] = part.double().mean((2, 3)).float()
    return result


class NaivePooling(torch.nn.Module):
    def __init__(self, attention: ChannelAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, features: Tensor) -> Tensor:
        assert self.attention.window is not None
        return self.attention.conv_du(naive_mean(features, *self.attention.window))


def use_naive_pooling(model: MPRNet) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ChannelAttention):
                setattr(module, name, NaivePooling(child))


@pytest.mark.parametrize("window", [(3, 3), (4, 6), (1, 1), (7, 40), (40, 5), (90, 90)])
@pytest.mark.parametrize("function", [window_means, running_means])
def test_window_means_equal_those_of_loops(window, function):
    features = torch.rand(2, 3, 37, 30)
    means = function(features, window)
    assert means.shape[2:] == tuple(max(1, side - size + 1) for side, size in zip((37, 30), window, strict=True))
    centre = naive_mean(features, *window)
    top, left = (0 if s >= n else (s - 1) // 2 for s, n in zip(window, (37, 30), strict=True))
    expected = centre[:, :, top : top + means.shape[2], left : left + means.shape[3]]
    torch.testing.assert_close(means, expected, atol=1e-6, rtol=0)


def test_means_of_long_rows_are_exact():
    """With a running sum over 4000 pixels in fp32, a mean over 12 would have a relative error of about 1e-5."""
    features = 100 + torch.rand(1, 1, 1, 4000)
    means = window_means(features, (1, 12))[0, 0, 0]
    expected = np.convolve(features[0, 0, 0].double(), np.full(12, 1 / 12), "valid")
    np.testing.assert_allclose(means, expected, rtol=3e-7)


def test_running_sums_are_for_cuda(monkeypatch):
    monkeypatch.setattr("mprnet.model.window_means.running_means", lambda features, window: "running sums")
    assert window_means(SimpleNamespace(device=torch.device("cuda", 0)), (3, 3)) == "running sums"
    assert window_means(torch.ones(1, 1, 4, 4), (3, 3)).shape == (1, 1, 2, 2)


def exact_means(features: Tensor, size: int) -> Tensor:
    """Return the means over windows of ``size`` rows and columns, in float64."""
    means = features.double()
    for dim in (2, 3):
        sums = torch.cat([torch.zeros_like(means.narrow(dim, 0, 1)), means.cumsum(dim)], dim)
        count = means.shape[dim] - size + 1
        means = (sums.narrow(dim, size, count) - sums.narrow(dim, 0, count)) / size
    return means


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_running_sums_are_precise_far_from_zero(dtype):
    """Without the channel's mean subtracted before, the error would be 2e-5, and more on a GPU."""
    features = (torch.randn(1, 2, 600, 700) + 100).to(dtype).to(memory_format=torch.channels_last)
    before = features.clone()
    error = running_means(features, (384, 384)) - exact_means(features, 384)
    assert error.abs().max() < 1e-5
    assert torch.equal(features, before)


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (56, 32), (8, 72)])
@pytest.mark.parametrize("patch", [8, 16, 24])
@torch.inference_mode()
def test_all_layers_equal_naive_pooling(tiny, size, patch):
    """In every stage and level, with windows larger and smaller than the image."""
    set_local_pooling(tiny, patch)
    image = torch.rand(2, 3, *size)
    ours = tiny(image)
    use_naive_pooling(tiny)
    for a, b in zip(ours, tiny(image), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(32, 32), (24, 32), (8, 16)])
@torch.inference_mode()
def test_local_pooling_does_not_change_images_up_to_the_training_patch(tiny, size):
    image = torch.rand(1, 3, *size)
    plain = tiny(image)
    set_local_pooling(tiny, 32)
    for a, b in zip(tiny(image), plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    set_local_pooling(tiny, 8)
    set_local_pooling(tiny, None)
    for a, b in zip(tiny(image), plain, strict=True):
        assert torch.equal(a, b)


def test_window_sizes():
    """384 pixels at full resolution, half of that at each level, and half of that along each axis that is split."""
    model = MPRNet(n_feat=4, scale_unetfeats=2, scale_orsnetfeats=2, num_cab=1, reduction=2)
    set_local_pooling(model, 256)
    windows = {name: module.window for name, module in model.named_modules() if isinstance(module, ChannelAttention)}
    assert windows["stage3_orsnet.orb1.body.0.CA"] == (384, 384)
    assert windows["shallow_feat1.1.CA"] == windows["stage1_encoder.encoder_level1.0.CA"] == (192, 192)
    assert windows["stage1_encoder.encoder_level3.1.CA"] == (48, 48)
    assert windows["stage1_decoder.decoder_level1.0.CA"] == (192, 384)
    assert windows["stage2_encoder.encoder_level2.0.CA"] == (96, 192)
    assert windows["stage2_decoder.skip_attn2.CA"] == (192, 192)
    assert largest_window(model) == 384
    set_local_pooling(model, 128)
    assert largest_window(model) == 192


def test_the_training_patch_is_read_from_the_metadata(tiny):
    with pytest.raises(UserError, match="do not state it: say --training_patch N"):
        training_patch(tiny)
    with pytest.raises(UserError, match="do not state it"):
        Restorer(tiny, "cpu", local_pooling=True)
    for unfit in ("9" * 5000, "0" * 5000 + "80", "7", "-80", "80.0", "\u00b2"):
        tiny.metadata["training_patch"] = unfit
        with pytest.raises(UserError, match="do not state it"):
            training_patch(tiny)
    tiny.metadata["training_patch"] = "80"
    assert training_patch(tiny) == 80
    with pytest.raises(ValueError, match="8 to 16384 pixels, not 7"):
        set_local_pooling(tiny, 7)
