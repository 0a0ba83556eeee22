import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import mprnet
from mprnet.data import icc

SAMPLE = ROOT / "samples" / "input" / "Denoising" / "coffee.png"


def test_all_public_names_are_there():
    assert all(hasattr(mprnet, name) for name in mprnet.__all__)
    assert sorted(mprnet.__all__) == mprnet.__all__


def test_a_picture_is_restored_to_a_file(tiny, tmp_path):
    mprnet.save_weights(tiny, tmp_path / "w.pth")
    pixels = np.random.default_rng(0).integers(0, 65536, (12, 9), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    mprnet.restore(tmp_path / "in.png", str(tmp_path / "out.tif"), weights=tmp_path / "w.pth", device="cpu")
    result = mprnet.read_photo(tmp_path / "out.tif")
    assert result.grey
    assert np.array_equal(result.pixels[:, :, 0], mprnet.Restorer(tiny, "cpu")(pixels))


def test_bundled_weights_restore_a_sample(tmp_path):
    photo = mprnet.read_photo(str(SAMPLE))
    mprnet.write_photo(tmp_path / "small.png", mprnet.Photo(photo.pixels[:40, :56]))
    mprnet.restore(tmp_path / "small.png", tmp_path / "out.png", task="Denoising", grade="lite", device="cpu")
    noisy, restored = (mprnet.read_photo(tmp_path / name) for name in ("small.png", "out.png"))
    target = mprnet.read_photo(ROOT / "samples" / "target" / "Denoising" / "coffee.png").pixels[:40, :56]
    assert mprnet.metrics.psnr(restored.pixels, target) > mprnet.metrics.psnr(noisy.pixels, target) + 3


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: mprnet.write_photo(p / "a.xyz", mprnet.read_photo(SAMPLE)), r"pictures are written as \.png, \.jpg"),
        (lambda p: mprnet.restore(p / "a.png", p / "b.png", task="Denoising"), "cannot be read"),
        (lambda p: mprnet.restore(SAMPLE, p / "b.png"), "say which weights to load"),
        (lambda p: mprnet.restore("not there", p / "b.gif", task="Denoising"), r"b\.gif: pictures are written as"),
        (lambda p: mprnet.load_model("Denoising"), "for the weights of this task say task='Denoising'"),
    ],
)
def test_mistakes_get_a_sentence(tmp_path, call, sentence):
    with pytest.raises(mprnet.UserError, match=sentence):
        call(tmp_path)


@pytest.mark.parametrize(
    ("name", "format_"), [("a.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.TIFF", "TIFF"), ("a.Png", "PNG")]
)
def test_suffixes_may_be_written_in_other_ways(tmp_path, name, format_):
    mprnet.write_photo(tmp_path / name, mprnet.Photo(np.full((8, 9, 3), 100, np.uint8)))
    with Image.open(tmp_path / name) as image:
        assert (image.format, image.size) == (format_, (9, 8))


def test_linear_light_is_restored_as_its_srgb_twin(tmp_path):
    """The same picture in linear light (16 bits, with a profile that says so) and in sRGB gain the same."""
    noisy = mprnet.read_photo(SAMPLE).pixels[:64, :64]
    target = mprnet.read_photo(ROOT / "samples" / "target" / "Denoising" / "coffee.png").pixels[:64, :64]
    srgb = noisy.astype(np.uint16) * 257
    linear_profile = icc.rgb_profile(icc.SRGB_CHROMATICITIES, [icc.table_tag(np.array([256], np.uint16))])
    light = np.where(srgb <= 0.04045 * 65535, srgb / 12.92, 65535 * ((srgb / 65535 + 0.055) / 1.055) ** 2.4)
    mprnet.write_photo(tmp_path / "srgb.tif", mprnet.Photo(srgb))
    mprnet.write_photo(tmp_path / "linear.tif", mprnet.Photo(np.rint(light).astype(np.uint16), icc=linear_profile))
    scores = []
    for name in ("srgb.tif", "linear.tif"):
        options = {"task": "Denoising", "grade": "lite", "device": "cpu", "precision": "fp32"}
        assert mprnet.restore(tmp_path / name, tmp_path / f"out_{name}", **options) == []
        values = mprnet.read_photo(tmp_path / f"out_{name}").pixels / 65535
        if name == "linear.tif":
            assert mprnet.read_photo(tmp_path / f"out_{name}").icc == linear_profile
            values = np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)
        scores.append(mprnet.metrics.psnr(values, target / 255))
    assert scores[0] > mprnet.metrics.psnr(noisy, target) + 3
    assert scores[1] == pytest.approx(scores[0], abs=0.01)
