import pytest
import torch

from mprnet.training.step import recompute_blocks


@pytest.mark.parametrize("grad", [True, False])
def test_recomputed_blocks_give_the_same_with_and_without_gradients(tiny, grad):
    """Training and validation go through the same blocks."""
    image = torch.rand(1, 3, 16, 16)
    with torch.set_grad_enabled(grad):
        expected = tiny(image)
        recompute_blocks(tiny)
        images = tiny(image)
    for a, b in zip(images, expected, strict=True):
        assert torch.equal(a, b)
    if grad:
        sum(image.mean() for image in images).backward()
        assert all(p.grad is not None for p in tiny.parameters())
