import numpy as np
import pytest

from mprnet import metrics


def test_psnr_by_hand():
    a = np.zeros((4, 4, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 255
    assert metrics.psnr(a, b) == pytest.approx(10 * np.log10(48))
    assert metrics.psnr(a / 255.0, b / 255.0) == pytest.approx(10 * np.log10(48))
    assert metrics.psnr(a, a) == float("inf")


def test_psnr_compares_like_with_like():
    with pytest.raises(ValueError, match="one shape and type"):
        metrics.psnr(np.zeros((4, 4)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match="one shape and type"):
        metrics.psnr(np.zeros((4, 4)), np.zeros((4, 4), np.uint8))
