import numpy as np
import pytest

from mprnet.data.augment import crop_centre, random_crop, saturate, symmetry

IMAGE = np.arange(12).reshape(2, 2, 3)


def test_the_eight_symmetries_of_the_square():
    """The positions of the corners of a 2x2 image, a, b above c, d, under each symmetry."""
    corners = [
        [[symmetry(IMAGE, number)[row, column, 0] // 3 for column in (0, 1)] for row in (0, 1)] for number in range(8)
    ]
    a, b, c, d = range(4)
    assert corners == [
        [[a, b], [c, d]], [[b, d], [a, c]], [[d, c], [b, a]], [[c, a], [d, b]],
        [[b, a], [d, c]], [[d, b], [c, a]], [[c, d], [a, b]], [[a, c], [b, d]],
    ]  # fmt: skip
    assert np.array_equal(symmetry(IMAGE, 1)[0, 0], IMAGE[0, 1])  # the channels stay


def test_crops_have_every_valid_position_and_no_other():
    rng = np.random.default_rng(0)
    positions = {(rows.start, columns.start) for rows, columns in (random_crop(rng, 6, 9, 4) for _ in range(500))}
    assert positions == {(row, column) for row in range(3) for column in range(6)}
    rows, columns = random_crop(rng, 4, 4, 4)
    assert (rows, columns) == (slice(0, 4), slice(0, 4))


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.2])
def test_saturation(factor):
    """The difference of each channel from the grey value is multiplied by the factor."""
    image = np.array([[[0.6, 0.4, 0.5], [0.9, 0.1, 0.0]]], np.float32)
    grey = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
    expected = np.clip(grey[..., None] + factor * (image - grey[..., None]), 0, 1)
    result = saturate(image, factor)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert result.dtype == np.float32
    if factor == 1.2:
        assert result[0, 1, 0] == 1.0
        assert result[0, 1, 2] == 0.0


def test_the_centre_is_cropped():
    image = np.arange(5 * 4).reshape(5, 4, 1)
    assert np.array_equal(crop_centre(image, 2), image[1:3, 1:3])
    assert np.array_equal(crop_centre(image, 4), image[0:4])
    assert crop_centre(image, 9).shape == crop_centre(image, 0).shape == (5, 4, 1)
