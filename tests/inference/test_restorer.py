import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mprnet import Restorer, UserError
from mprnet.inference.restorer import pad_to_multiple

SIZES = [(1, 1), (1, 50), (2, 3), (7, 9), (8, 8), (17, 33), (40, 24)]


@pytest.mark.parametrize("size", SIZES)
def test_any_size_comes_back(tiny, size):
    image = np.random.default_rng(0).random((*size, 3))
    restored = Restorer(tiny, "cpu")(image)
    assert restored.shape == image.shape
    assert restored.dtype == np.float32
    assert np.isfinite(restored).all()
    assert restored.min() >= 0
    assert restored.max() <= 1


def test_array_and_tensor_give_what_the_network_gives(tiny):
    image = torch.rand(1, 3, 24, 16)
    with torch.inference_mode():
        expected = tiny(image)[0].clamp(0, 1)
    restorer = Restorer(tiny, "cpu")
    torch.testing.assert_close(restorer(image), expected, atol=1e-5, rtol=0)
    array = restorer(image[0].permute(1, 2, 0).numpy())
    torch.testing.assert_close(torch.from_numpy(array), expected[0].permute(1, 2, 0), atol=1e-5, rtol=0)


def test_results_are_ordinary_tensors_and_any_float_network_serves(tiny):
    image = torch.rand(1, 3, 16, 16)
    expected = Restorer(tiny, "cpu")(image)
    expected.add_(1).requires_grad_()
    restored = Restorer(tiny.double(), "cpu")(image.double())
    torch.testing.assert_close(restored + 1, expected.detach(), atol=1e-5, rtol=0)


def test_read_only_and_strided_arrays(tiny):
    image = np.random.default_rng(0).random((24, 16, 3)).transpose(1, 0, 2)[::-1]
    image.flags.writeable = False
    expected = Restorer(tiny, "cpu")(image.copy())
    assert np.array_equal(Restorer(tiny, "cpu")(image), expected)
    read_only = image.copy().astype(np.float32)
    read_only.flags.writeable = False
    np.testing.assert_allclose(Restorer(tiny, "cpu")(read_only), expected, atol=1e-6)


def test_stage_is_what_the_network_gives_at_that_stage(tiny):
    image = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        images = tiny(image)
    for stage in (1, 2, 3):
        expected = images[3 - stage].clamp(0, 1)
        torch.testing.assert_close(Restorer(tiny, "cpu", stage=stage)(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(9, 15), (12, 31)])
def test_padding_is_pytorchs_reflection_where_that_exists(size):
    batch = torch.rand(2, 3, *size)
    height, width = (-(-s // 8) * 8 for s in size)
    expected = F.pad(batch, (0, width - size[1], 0, height - size[0]), mode="reflect")
    assert torch.equal(pad_to_multiple(batch, 8), expected)


def test_padding_of_short_sides_goes_back_and_forth():
    padded = pad_to_multiple(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3), 8)
    assert padded.shape == (1, 1, 8, 8)
    assert padded[0, 0, 5].tolist() == [1, 2, 3, 2, 1, 2, 3, 2]


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((8, 8)), r"\(H, W, 3\), not \(8, 8\)"),
        (np.zeros((8, 8, 3), np.uint8), "divide by its peak"),
        (np.full((8, 8, 3), 200.0), "values in"),
        (np.full((8, 8, 3), np.nan), "values in"),
        (np.zeros((0, 8, 3)), "none of them 0"),
        (torch.zeros(3, 8, 8), r"\(N, 3, H, W\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "divide by their peak"),
        ([[0.5]], "not a list"),
    ],
)
def test_unfit_images_get_a_sentence(tiny, image, sentence):
    with pytest.raises(ValueError, match=sentence):
        Restorer(tiny, "cpu")(image)


@pytest.mark.parametrize("option", [dict(device="abacus"), dict(precision="fp3"), dict(stage=4)])
def test_unknown_options_get_a_sentence(tiny, option):
    with pytest.raises(UserError):
        Restorer(tiny, **option)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_what_the_cpu_gives(tiny):
    image = torch.rand(1, 3, 40, 24)
    on_cpu = Restorer(tiny, "cpu")(image)
    torch.testing.assert_close(Restorer(tiny, "cuda")(image), on_cpu, atol=1e-5, rtol=0)


