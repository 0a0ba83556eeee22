import cv2
import numpy as np
import pytest
from PIL import Image

from mprnet import UserError
from mprnet.evaluation.sources import read_8bit

RGB = np.random.default_rng(0).integers(0, 256, (9, 13, 3)).astype(np.uint8)
OPAQUE = np.full((9, 13), 255, np.uint8)
CLEAR = np.where(RGB[:, :, 0] > 99, 255, 254).astype(np.uint8)
GREY = RGB[:, :, 0]


@pytest.mark.parametrize(
    ("stored", "pixels", "notes"),
    [
        (RGB, RGB, ()),
        (np.dstack([RGB, OPAQUE]), RGB, ()),
        (np.dstack([RGB, CLEAR]), RGB, ("the input's alpha is left out",)),
        (GREY, np.dstack([GREY] * 3), ("the input is grey",)),
        (np.dstack([GREY, CLEAR]), np.dstack([GREY] * 3), ("the input is grey", "the input's alpha is left out")),
    ],
)
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_reading_a_picture_gives_its_pixels_and_notes(tmp_path, stored, pixels, notes, kind):
    Image.fromarray(stored).save(tmp_path / f"a.{kind}")
    image, read_notes = read_8bit(tmp_path / f"a.{kind}", "input")
    np.testing.assert_array_equal(image, pixels)
    assert read_notes == notes


def test_a_picture_of_16_bits_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RGB.astype(np.uint16) * 257)
    with pytest.raises(UserError, match=r"a\.png has 16 bits a channel"):
        read_8bit(tmp_path / "a.png", "input")
