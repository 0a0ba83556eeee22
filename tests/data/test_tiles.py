"""Pictures as tiles: every crop has the pixels of the picture."""

import imagecodecs
import numpy as np
import pytest

from mprnet.data import tiles
from mprnet.data.tiles import TiledPicture, encode_tiles
from mprnet.errors import NotPreparedError


def make_picture(height: int, width: int) -> tuple[np.ndarray, bytes, TiledPicture]:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    data = encode_tiles(pixels)
    return pixels, data, TiledPicture(data, height, width, "a.tiles")


@pytest.mark.parametrize("side", [16, 13])
@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (16, 16), (5, 7), (1, 40), (40, 1)])
def test_crops_have_the_pixels_of_the_picture(monkeypatch, side, height, width):
    """Within a tile, over borders and whole tiles, and to the last row and column."""
    monkeypatch.setattr(tiles, "_SIDE", side)
    pixels, _, picture = make_picture(height, width)
    assert picture.shape == pixels.shape
    assert np.array_equal(picture, pixels)
    rng = np.random.default_rng(1)
    for _ in range(60):
        (top, bottom), (left, right) = (sorted(rng.choice(size + 1, 2, replace=False)) for size in (height, width))
        area = slice(top, bottom), slice(left, right)
        assert np.array_equal(picture[area], pixels[area])


def test_a_tile_has_512_pixels_a_side_and_a_crop_decodes_only_those_it_touches(monkeypatch):
    pixels, _, picture = make_picture(1030, 1100)
    sizes = []
    decode = imagecodecs.zstd_decode
    monkeypatch.setattr(imagecodecs, "zstd_decode", lambda data: (out := decode(data), sizes.append(len(out)))[0])
    area = slice(512, 768), slice(400, 656)
    assert np.array_equal(picture[area], pixels[area])
    assert sizes == 2 * [3 * 512 * 512]
    sizes.clear()
    assert np.array_equal(picture[1024:1030, 1024:1100], pixels[1024:, 1024:])
    assert sizes == [3 * 6 * 76]


def test_smooth_pictures_become_much_smaller():
    rows, columns = np.mgrid[:512, :512]
    pixels = np.stack([rows // 3, columns // 3, (rows + columns) // 6], axis=2).astype(np.uint8)
    assert len(encode_tiles(pixels)) < pixels.nbytes / 20


@pytest.mark.parametrize("damage", ["offset", "far offset", "pixels", "tile", "cut", "swapped"])
def test_a_damaged_file_is_an_error(monkeypatch, damage):
    monkeypatch.setattr(tiles, "_SIDE", 16)
    _, data, _ = make_picture(20, 20)
    damaged = {
        "offset": b"\xff" * 16 + data[16:],
        "far offset": b"\x7f" * 16 + data[16:],
        "pixels": data[:-9] + bytes([data[-9] ^ 255]) + data[-8:],
        "tile": data[:40] + bytes(len(data) - 40),
        "cut": data[:20],
        "swapped": data[8:16] + data[:8] + data[16:],
    }[damage]
    picture = TiledPicture(damaged, 20, 20, "a.tiles")
    with pytest.raises(NotPreparedError, match=r"^a.tiles: damaged: remove it and run train.py --prepare again\.$"):
        np.asarray(picture)
