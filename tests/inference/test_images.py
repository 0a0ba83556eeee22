import numpy as np
import pytest
import torch
from PIL import Image

from mprnet import Restorer
from mprnet.data.icc import SRGB_CHROMATICITIES, rgb_profile, table_tag
from mprnet.data.photos import Photo
from mprnet.data.tensors import to_array
from mprnet.inference.images import photo_to_tensor, replace_pixels

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (12, 9), dtype=np.uint8)


@pytest.fixture
def restorer(tiny) -> Restorer:
    return Restorer(tiny, "cpu")


def restore_as_tensor(restorer: Restorer, image: np.ndarray, peak: int) -> np.ndarray:
    """Restore an integer image, (H, W, 3), as a float tensor; return (H, W, 3) floats from 0 to ``peak``."""
    batch = torch.from_numpy(image.astype(np.float64) / peak).float().permute(2, 0, 1)[None]
    return to_array(restorer(batch)[0]).astype(np.float64) * peak


@pytest.mark.parametrize(("dtype", "peak"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integer_arrays_are_rounded(restorer, dtype, peak):
    image = (COLOUR.astype(np.uint32) * peak // 255).astype(dtype)
    result = restorer(image)
    assert (type(result), result.dtype, result.shape) == (np.ndarray, dtype, image.shape)
    assert np.abs(result - restore_as_tensor(restorer, image, peak)).max() <= 0.51
    assert not np.array_equal(result, image)


@pytest.mark.parametrize("shape", [(12, 9), (12, 9, 1)])
@pytest.mark.parametrize(("dtype", "peak"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 1)])
def test_grey_arrays_stay_grey(restorer, shape, dtype, peak):
    image = (GREY / 255 * peak).astype(dtype).reshape(shape)
    result = restorer(image)
    assert result.shape == shape
    assert result.dtype == (np.float32 if peak == 1 else dtype)
    expected = restore_as_tensor(restorer, np.repeat(image.reshape(12, 9, 1), 3, 2), peak).mean(2).reshape(shape)
    assert np.abs(result - expected).max() <= (1e-5 if peak == 1 else 0.51)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "YCbCr", "I;16"])
def test_pil_images_stay_pil_images(restorer, mode):
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    image = deep if mode == "I;16" else Image.fromarray(COLOUR).convert(mode)
    image.info["dpi"] = (72, 72)
    result = restorer(image)
    assert isinstance(result, Image.Image)
    assert result.mode == {"P": "RGB", "1": "L", "CMYK": "RGB", "YCbCr": "RGB"}.get(mode, mode)
    assert result.size == (9, 12)
    assert result.info["dpi"] == (72, 72)
    if mode in ("RGB", "L", "I;16"):
        assert np.array_equal(np.asarray(result), restorer(np.asarray(image)))


def test_the_transparency_of_a_pil_image_is_kept(restorer):
    image = Image.fromarray(np.dstack([COLOUR, GREY]))
    result = np.asarray(restorer(image))
    assert np.array_equal(result[:, :, 3], GREY)
    assert np.array_equal(result[:, :, :3], restorer(COLOUR))


@pytest.mark.parametrize("shape", [(2, 3, 12, 9), (3, 12, 9)])
def test_tensors_keep_shape_and_dtype(restorer, shape):
    image = torch.from_numpy(RNG.integers(0, 256, shape, dtype=np.uint8))
    floats = restorer(image.float() / 255)
    assert (floats.shape, floats.dtype) == (shape, torch.float32)
    result = restorer(image)
    assert (result.shape, result.dtype) == (shape, torch.uint8)
    assert (result - 255 * floats).abs().max() <= 0.51


def test_all_kinds_of_images_get_equal_pixels(restorer):
    array = restorer(COLOUR)
    tensor = torch.from_numpy(COLOUR).permute(2, 0, 1)
    assert np.array_equal(np.asarray(restorer(Image.fromarray(COLOUR))), array)
    assert np.array_equal(restorer(tensor).permute(1, 2, 0).numpy(), array)
    assert np.array_equal(np.rint(restorer(COLOUR / 255) * 255).astype(np.uint8), array)
    assert np.array_equal(restorer(tensor[None].float() / 255).mul(255).round()[0].byte().permute(1, 2, 0), array)


def test_every_stage_returns_the_same_kind_of_image(restorer):
    stages = restorer.every_stage(Image.fromarray(COLOUR))
    assert [stage.mode for stage in stages] == ["RGB"] * 3
    assert np.array_equal(np.asarray(stages[-1]), restorer(COLOUR))


def test_floats_outside_0_to_1_are_restored_only_if_the_caller_says_so(restorer):
    """The network sees them as they are: clipping them first gives another result."""
    image = (COLOUR / np.float32(255) * 1.6 - 0.3).astype(np.float32)
    with pytest.raises(ValueError, match=r"values in \[0, 1\], not from -0\.3"):
        restorer(image)
    result = restorer(image, clipped=False)
    assert 0 <= result.min() <= result.max() <= 1
    assert np.abs(result - restorer(image.clip(0, 1))).max() > 0.001
    assert np.array_equal(restorer.every_stage(image, clipped=False)[-1], result)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert np.array_equal(restorer(tensor, clipped=False).permute(1, 2, 0).numpy(), result)
    image[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite values"):
        restorer(image, clipped=False)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("linear", [False, True])
def test_only_plain_colour_of_8_bits_goes_to_the_network_as_it_is_stored(grey, linear):
    """Light is restored in its sRGB form, and grey is the mean of the network's three channels."""
    profile = rgb_profile(SRGB_CHROMATICITIES, [table_tag(np.array([256], np.uint16))])
    photo = Photo(np.full((4, 5, 3), 64, np.uint8), grey=grey, icc=profile if linear else None)
    tensor = photo_to_tensor(photo)
    assert tensor.shape == (3, 4, 5)
    if not (grey or linear):
        assert (tensor.dtype, tensor.unique().tolist()) == (torch.uint8, [64])
    else:
        light = 64 / 255
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor.mean().item(), 1.055 * light ** (1 / 2.4) - 0.055 if linear else light)
    assert np.array_equal(replace_pixels(photo, tensor).pixels[:, :, :1], photo.pixels[:, :, :1])
