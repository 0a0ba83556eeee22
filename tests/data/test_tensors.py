import numpy as np
import pytest
import torch

from mprnet.data.augment import symmetry
from mprnet.data.tensors import as_float, to_planes, to_tensor


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
