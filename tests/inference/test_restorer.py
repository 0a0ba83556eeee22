import functools

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from mprnet import Restorer, UserError
from mprnet.model.bands import apply_in_bands
from mprnet.model.padding import pad_to_multiple

SIZES = [(1, 1), (1, 50), (2, 3), (7, 9), (8, 8), (17, 33), (40, 24)]


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_sizes(tiny, count):
    restorer, rng = Restorer(tiny, "cpu"), np.random.default_rng(0)
    for _ in range(count):
        height, width = rng.integers(1, 101, 2)
        image = np.full((height, width, 3), rng.random(), np.float32)
        restored = restorer(image)
        assert restored.shape == image.shape
        assert np.isfinite(restored).all()


def test_the_ensemble_is_the_mean_over_the_eight_symmetries(tiny):
    image = torch.rand(2, 3, 17, 30)
    plain = Restorer(tiny, "cpu")
    total = torch.zeros_like(image)
    for turned, undo in (
        (image, lambda x: x),
        (image.flip(2), lambda x: x.flip(2)),
        (image.flip(3), lambda x: x.flip(3)),
        (image.flip(2, 3), lambda x: x.flip(2, 3)),
        (image.mT, lambda x: x.mT),
        (image.mT.flip(2), lambda x: x.flip(2).mT),
        (image.mT.flip(3), lambda x: x.flip(3).mT),
        (image.mT.flip(2, 3), lambda x: x.flip(2, 3).mT),
    ):
        (restored,) = plain._restore_in_memory(turned, all_stages=False)
        total += undo(restored)
    torch.testing.assert_close(Restorer(tiny, "cpu", ensemble=True)(image), (total / 8).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [dict(), dict(tile=64), dict(ensemble=True)], ids=["whole", "tiles", "ensemble"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_strength_blends_the_input_and_every_stages_result(tiny, options, dtype):
    batch = torch.rand(2, 3, *((70, 90) if "tile" in options else (12, 20)))
    batch = (batch * 255).round().to(dtype) if dtype == torch.uint8 else batch
    restorer = Restorer(tiny, "cpu", **options)
    results = restorer.every_stage(batch)
    assert not torch.allclose(results[-1].float(), batch.float(), atol=1e-3)
    assert torch.equal(Restorer(tiny, "cpu", **options, strength=0)(batch), batch)
    restorer.strength = 0.5
    for half, result in zip(restorer.every_stage(batch), results, strict=True):
        mean = (batch.float() + result.float()) / 2
        torch.testing.assert_close(half.float(), mean, atol=1 if dtype == torch.uint8 else 1e-6, rtol=0)
    restorer.strength = 1
    assert torch.equal(restorer(batch), results[-1])


def test_strength_zero_gives_the_pixels_of_any_image(tiny):
    rng = np.random.default_rng(0)
    restorer = Restorer(tiny, "cpu", strength=0)
    for image in (
        rng.integers(0, 2**16, (20, 31, 3), np.uint16),
        rng.integers(0, 256, (20, 31), np.uint8),
        rng.random((20, 31, 3), np.float32),
    ):
        before = image.copy()
        assert np.array_equal(restorer(image), before)
        assert np.array_equal(image, before)


def test_compiled_gives_the_same_result(tiny, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    image = torch.rand(1, 3, 17, 30)
    compiled = Restorer(tiny, "cpu", compiled=True)(image)
    torch.testing.assert_close(compiled, Restorer(tiny, "cpu")(image), atol=1e-5, rtol=0)


def test_autocast_of_the_caller_has_no_effect(tiny):
    image = torch.rand(1, 3, 24, 16)
    restorer = Restorer(tiny, "cpu")
    expected = restorer(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(restorer(image), expected)


def test_without_a_compiler_it_runs_uncompiled(tiny, monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda name: None)
    Restorer(tiny, "cpu", compiled=True)(torch.rand(1, 3, 8, 8))
    assert "there is no C++ compiler here" in capsys.readouterr().err


@pytest.mark.parametrize("bands", [2**10, 2**13])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_bands_of_rows_give_the_same_result(tiny, monkeypatch, bands, layout):
    image = torch.rand(2, 3, 72, 40)
    image, tiny = image.to(memory_format=layout), tiny.to(memory_format=layout)
    with torch.inference_mode():
        whole = tiny(image)
        monkeypatch.setattr("mprnet.model.bands.max_band_bytes", lambda device: bands)
        for a, b in zip(tiny(image), whole, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_bands_keep_the_memory_format_of_the_features(monkeypatch, layout):
    monkeypatch.setattr("mprnet.model.bands.max_band_bytes", lambda device: 2**10)
    features = torch.rand(1, 4, 64, 40).to(memory_format=layout)
    with torch.inference_mode():
        result = apply_in_bands(lambda x: x + 1, [features], halo=0)
    assert torch.equal(result, features + 1)
    assert result.stride() == features.stride()


def test_the_callers_image_is_not_overwritten(tiny):
    image = torch.rand(1, 3, 24, 16)
    copy = image.clone()
    with torch.no_grad():
        without = tiny(image)
    assert torch.equal(image, copy)
    for a, b in zip(without, tiny(image), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_results_of_any_size_have_the_same_shape(tiny, size):
    image = np.random.default_rng(0).random((*size, 3))
    restored = Restorer(tiny, "cpu")(image)
    assert restored.shape == image.shape
    assert restored.dtype == np.float32
    assert np.isfinite(restored).all()
    assert restored.min() >= 0
    assert restored.max() <= 1


def test_array_and_tensor_give_the_networks_result(tiny):
    image = torch.rand(1, 3, 24, 16)
    with torch.inference_mode():
        expected = tiny(image)[0].clamp(0, 1)
    restorer = Restorer(tiny, "cpu")
    torch.testing.assert_close(restorer(image), expected, atol=1e-5, rtol=0)
    array = restorer(image[0].permute(1, 2, 0).numpy())
    torch.testing.assert_close(torch.from_numpy(array), expected[0].permute(1, 2, 0), atol=1e-5, rtol=0)


def test_results_are_ordinary_tensors_and_float64_networks_work(tiny):
    image = torch.rand(1, 3, 16, 16)
    expected = Restorer(tiny, "cpu")(image)
    expected.add_(1).requires_grad_()
    restored = Restorer(tiny.double(), "cpu")(image.double())
    torch.testing.assert_close(restored + 1, expected.detach(), atol=1e-5, rtol=0)


def test_read_only_and_strided_arrays_can_be_restored(tiny):
    image = np.random.default_rng(0).random((24, 16, 3)).transpose(1, 0, 2)[::-1]
    image.flags.writeable = False
    expected = Restorer(tiny, "cpu")(image.copy())
    assert np.array_equal(Restorer(tiny, "cpu")(image), expected)
    read_only = image.copy().astype(np.float32)
    read_only.flags.writeable = False
    np.testing.assert_allclose(Restorer(tiny, "cpu")(read_only), expected, atol=1e-6)


def test_stage_returns_the_image_of_that_stage(tiny):
    image = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        images = tiny(image)
    for stage in (1, 2, 3):
        expected = images[3 - stage].clamp(0, 1)
        torch.testing.assert_close(Restorer(tiny, "cpu", stage=stage)(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(9, 15), (12, 31)])
def test_padding_equals_pytorchs_reflection_where_pytorch_can(size):
    batch = torch.rand(2, 3, *size)
    height, width = (-(-s // 8) * 8 for s in size)
    expected = F.pad(batch, (0, width - size[1], 0, height - size[0]), mode="reflect")
    assert torch.equal(pad_to_multiple(batch, 8), expected)


def test_short_sides_are_reflected_back_and_forth():
    padded = pad_to_multiple(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3), 8)
    assert padded.shape == (1, 1, 8, 8)
    assert padded[0, 0, 5].tolist() == [1, 2, 3, 2, 1, 2, 3, 2]


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((8, 8, 4)), r"\(H, W, 3\), .* not \(8, 8, 4\)"),
        (np.zeros((8, 8, 3), np.int64), "uint8 or uint16, not int64"),
        (np.full((8, 8, 3), 200.0), "values in"),
        (np.full((8, 8, 3), np.nan), "values in"),
        (np.zeros((0, 8, 3)), r"shape \(H, W, 3\)"),
        (torch.zeros(8, 8, 3), r"\(N, 3, H, W\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int16), "divide by their largest value"),
        (PIL.Image.new("F", (8, 8)), "its pixels are of the kind F"),
        ([[0.5]], "not a list"),
    ],
)
def test_unfit_images_raise_a_clear_error(tiny, image, sentence):
    with pytest.raises(ValueError, match=sentence):
        Restorer(tiny, "cpu")(image)
    if isinstance(image, np.ndarray):
        with pytest.raises(ValueError, match=sentence):
            Restorer(tiny, "cpu").every_stage(image)


@pytest.mark.parametrize(
    "option",
    [
        dict(device="abacus"),
        dict(precision="fp3"),
        dict(stage=4),
        dict(local_pooling=7),
        dict(local_pooling="x"),
        dict(local_pooling=8.5),
        dict(strength=-0.1),
        dict(strength=1.1),
        dict(strength=float("nan")),
        dict(strength=None),
        dict(strength="half"),
    ],
)
def test_unknown_options_raise_a_clear_error(tiny, option):
    with pytest.raises(UserError):
        Restorer(tiny, **option)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("number", range(max(1, torch.cuda.device_count())))
def test_cuda_gives_the_same_result_as_the_cpu(tiny, number):
    """With several shapes in turn, also after their graphs are recorded."""
    on_cpu, on_gpu = Restorer(tiny, "cpu"), Restorer(tiny, f"cuda:{number}")
    for _ in range(4):
        for height, width in ((40, 56), (33, 64), (64, 33)):
            image = torch.rand(2, 3, height, width)
            torch.testing.assert_close(on_gpu(image), on_cpu(image), atol=1e-5, rtol=0)
