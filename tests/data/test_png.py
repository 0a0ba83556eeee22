import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mprnet.data.png import LEVELS, encode_png, find_chunks, write_png

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("level", [None, *LEVELS])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_are_kept_at_every_level(level, dtype, channels):
    array = RNG.integers(0, np.iinfo(dtype).max, (9, 7, channels), dtype, endpoint=True)
    data = encode_png(array, level=level)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(9, 7, -1)
    if channels == 2:  # OpenCV reads grey with alpha as four channels
        image = image[:, :, 2:]
    elif channels > 2:
        image = image[:, :, [2, 1, 0, 3][:channels]]
    assert np.array_equal(image, array)


@pytest.mark.parametrize("level", [None, 9])
def test_metadata_follow_the_header_at_every_level(level):
    data = encode_png(np.zeros((4, 4, 3), np.uint8), [(b"tEXt", b"Comment\0a"), (b"pHYs", bytes(9))], level)
    assert [kind for kind, _, _ in find_chunks(data)] == [b"IHDR", b"tEXt", b"pHYs", b"IDAT", b"IEND"]


def make_photograph() -> np.ndarray:
    """Return smooth structure with the noise of a camera, (256, 256, 3) uint8."""
    coarse = RNG.uniform(0, 255, (24, 24, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)
    return (smooth + RNG.normal(0, 1, smooth.shape)).round().clip(0, 255).astype(np.uint8)


def test_the_default_is_fast_and_not_larger_for_photographs():
    sizes = {level: len(encode_png(make_photograph(), level=level)) for level in (None, 1, 6, 9)}
    assert sizes[9] <= sizes[6] <= sizes[1]
    assert sizes[None] < 1.03 * sizes[6]


def test_the_highest_level_makes_the_smallest_files_of_graphics():
    text = np.zeros((100, 300, 3), np.uint8)
    for top in range(20, 100, 20):
        cv2.putText(text, "the same words", (5, top), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255))
    assert len(encode_png(text, level=9)) < 0.8 * len(encode_png(text))


def test_write_png_passes_its_level_on(tmp_path):
    image = make_photograph()
    for level in (None, 9):
        write_png(tmp_path / "a.png", image, level)
        assert (tmp_path / "a.png").read_bytes() == encode_png(image, level=level)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(image, level=level)))), image)
