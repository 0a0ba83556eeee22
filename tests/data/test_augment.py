import numpy as np
import pytest

from mprnet.data.augment import random_crop, saturate, symmetry

IMAGE = np.arange(12).reshape(2, 2, 3)


def test_the_eight_symmetries_of_the_square():
    """Where the corner values of a 2x2 image go: a, b above c, d."""
    corners = [
        [[symmetry(IMAGE, which)[row, column, 0] // 3 for column in (0, 1)] for row in (0, 1)] for which in range(8)
    ]
    a, b, c, d = range(4)
    assert corners == [
        [[a, b], [c, d]], [[b, d], [a, c]], [[d, c], [b, a]], [[c, a], [d, b]],
        [[b, a], [d, c]], [[d, b], [c, a]], [[c, d], [a, b]], [[a, c], [b, d]],
    ]  # fmt: skip
    assert np.array_equal(symmetry(IMAGE, 1)[0, 0], IMAGE[0, 1])  # the channels stay


def test_crops_lie_anywhere_and_nowhere_else():
    rng = np.random.default_rng(0)
    places = {(rows.start, columns.start) for rows, columns in (random_crop(rng, 6, 9, 4) for _ in range(500))}
    assert places == {(row, column) for row in range(3) for column in range(6)}
    rows, columns = random_crop(rng, 4, 4, 4)
    assert (rows, columns) == (slice(0, 4), slice(0, 4))


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.2])
def test_saturation(factor):
    """Each channel's distance from the grey value is scaled."""
    image = np.array([[[0.6, 0.4, 0.5], [0.9, 0.1, 0.0]]], np.float32)
    grey = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
    expected = np.clip(grey[..., None] + factor * (image - grey[..., None]), 0, 1)
    result = saturate(image, factor)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert result.dtype == np.float32
    if factor == 1.2:
        assert result[0, 1, 0] == 1.0
        assert result[0, 1, 2] == 0.0
