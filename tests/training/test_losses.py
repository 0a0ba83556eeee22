import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from mprnet.training.losses import RestorationLoss, charbonnier


def expected_laplacian(image: np.ndarray) -> np.ndarray:
    """Laplacian of one channel in float64: blur, keep every second pixel times 4, blur again, subtract."""
    weights = np.array([0.05, 0.25, 0.4, 0.25, 0.05])
    kernel = np.outer(weights, weights)
    blurred = correlate(image, kernel, mode="nearest")
    subsampled = np.zeros_like(blurred)
    subsampled[::2, ::2] = 4 * blurred[::2, ::2]
    return image - correlate(subsampled, kernel, mode="nearest")


def expected_charbonnier(difference: np.ndarray) -> float:
    """Charbonnier loss in float64."""
    return float(np.sqrt(difference**2 + 1e-6).mean())


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (5, 6)])
def test_laplacian(size):
    image = torch.rand(2, 3, *size)
    found = RestorationLoss(0.05).laplacian(image).numpy()
    for n in range(2):
        for c in range(3):
            np.testing.assert_allclose(found[n, c], expected_laplacian(image[n, c].double().numpy()), atol=1e-6)


def test_charbonnier():
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert charbonnier(a, b).item() == pytest.approx(expected_charbonnier((a - b).double().numpy()), rel=1e-6)
    assert charbonnier(a, a).item() == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("weight", [0.05, 0.0, 1.0])
def test_the_loss_is_summed_over_the_stages(weight):
    target = torch.rand(2, 3, 8, 10)
    images = [torch.rand(2, 3, 8, 10) for _ in range(3)]
    expected = 0.0
    for image in images:
        difference = (image - target).double().numpy()
        edges = np.stack([expected_laplacian(channel) for picture in difference for channel in picture])
        expected += expected_charbonnier(difference) + weight * expected_charbonnier(edges)
    assert RestorationLoss(weight)(images, target).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_in_fp32_and_all_stages_get_a_gradient():
    images = [torch.rand(1, 3, 8, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    loss = RestorationLoss(0.05)(images, torch.rand(1, 3, 8, 8))
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(image.grad is not None and image.grad.abs().sum() > 0 for image in images)
