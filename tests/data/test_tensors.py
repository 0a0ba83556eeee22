import numpy as np
import pytest
import torch

from mprnet.data.augment import symmetry
from mprnet.data.tensors import are_finite, as_float, to_bytes, to_device, to_planes, to_tensor


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_planes_of_turned_and_flipped_views(dtype):
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(dtype)
    image.flags.writeable = False  # as memory maps are
    for crop in (image, image[1:6, 2:9]):
        for number in range(8):
            view = symmetry(crop, number)
            planes = to_planes(view)
            assert planes.is_contiguous()
            assert planes.numpy().dtype == dtype
            assert np.array_equal(planes.numpy(), view.transpose(2, 0, 1))


def test_planes_are_a_copy():
    image = np.zeros((4, 4, 3), np.uint8)
    to_planes(image)[:] = 9
    assert not image.any()


def test_bytes_become_the_nearest_floats_to_their_quotients_by_255():
    values = np.arange(256, dtype=np.uint8)
    expected = (values / 255).astype(np.float32)
    assert np.array_equal(as_float(torch.from_numpy(values)).numpy(), expected)
    assert np.array_equal(to_tensor(np.tile(values[:, None, None], (1, 1, 3)))[0, :, 0].numpy(), expected)
    floats = torch.rand(3, 2, 2)
    assert as_float(floats) is floats


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_floats_become_bytes_clipped_and_rounded(layout):
    halves = (torch.arange(-5, 262).repeat(3, 2, 2) + 0.5)[None] / 255
    floats = torch.cat([halves, torch.rand(1, *halves.shape[1:]) * 3 - 1]).to(memory_format=layout)
    for images in (floats, floats[:, :, 1:, :40]):
        result = to_bytes(images)
        assert torch.equal(result, images.clamp(0, 1).mul(255).round().to(torch.uint8))
    assert to_bytes(floats).is_contiguous(memory_format=torch.channels_last)
    every = torch.arange(256, dtype=torch.uint8).repeat(1, 3, 1, 1)
    assert torch.equal(to_bytes(as_float(every)), every)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found(value):
    images = [torch.rand(2, 3, 5, 4), torch.rand(2, 3, 5, 4).to(memory_format=torch.channels_last)]
    assert are_finite(images)
    images[1][1, 2, 4, 3] = value
    assert not are_finite(images)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_only_copies_to_cuda_are_not_waited_for(monkeypatch, device):
    """Elsewhere the memory of the tensor could be overwritten before it is copied."""
    calls = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, **options: calls.append((device.type, options)))
    to_device(torch.zeros(1), torch.device(device))
    assert calls == [(device, {"non_blocking": device == "cuda"})]
