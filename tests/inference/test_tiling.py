import numpy as np
import pytest
import torch
from conftest import ROOT

from mprnet import Restorer, UserError, load_model
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.inference import tiling
from mprnet.model.layers import ChannelAttention

BUNDLED = ROOT / "Denoising" / "pretrained_models" / "model_denoising_lite.safetensors"


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 257, 1001])
@pytest.mark.parametrize("size", [64, 72, 128, 512])
def test_shares_add_up_to_one_and_tiles_overlap(length, size):
    begins, shares = tiling.starts(length, size), tiling.shares(length, size)
    total = torch.zeros(length)
    for begin, share in zip(begins, shares, strict=True):
        assert begin % 4 == 0
        assert len(share) <= size
        total[begin : begin + len(share)] += share
    assert begins[0] == 0
    assert begins[-1] + len(shares[-1]) == length
    torch.testing.assert_close(total, torch.ones(length), atol=1e-6, rtol=0)
    for i in range(len(begins) - 1):
        assert begins[i] + len(shares[i]) - begins[i + 1] >= tiling.overlap(size) - 3
        # What lies at a tile's edge is dropped.
        assert not shares[i][-5:].any()
        assert not shares[i + 1][:5].any()


def nearsighted(tiny):
    """Without attention and features beyond the first convolution, a pixel depends on its neighbours alone."""
    with torch.no_grad():
        for layer in (tiny.tail, tiny.sam12.conv2, tiny.sam23.conv2):
            layer.weight.zero_()
    return tiny


@pytest.mark.parametrize("size", [(64, 64), (97, 201), (130, 40)])
def test_tiles_of_an_identity_are_the_image(tiny, size):
    image = np.random.default_rng(0).random((*size, 3)).astype(np.float32)
    np.testing.assert_allclose(Restorer(nearsighted(tiny), "cpu", tile=64)(image), image, atol=1e-6)


class Allocator:
    """Fails as PyTorch does once more than so many pixels are asked for at a time."""

    def __init__(self, restorer: Restorer, pixels: int) -> None:
        self.run, self.pixels, self.sizes = restorer._run, pixels, []
        restorer._run = self

    def __call__(self, batch):
        self.sizes.append(batch.shape[-1])
        if batch.shape[0] * batch.shape[2] * batch.shape[3] > self.pixels:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        return self.run(batch)


def test_out_of_memory_halves_the_tiles_and_goes_on(tiny, capsys):
    restorer = Restorer(tiny, "cpu")
    allocator = Allocator(restorer, 150 * 150)
    image = np.random.default_rng(0).random((300, 500, 3)).astype(np.float32)
    restored = restorer(image)
    assert allocator.sizes[:3] == [504, 248, 120]
    assert max(allocator.sizes[2:]) == 120
    err = capsys.readouterr().err
    assert "in tiles of 248" in err
    assert "in tiles of 120" in err
    np.testing.assert_allclose(restored, Restorer(tiny, "cpu", tile=120)(image), atol=1e-6)
    # The next picture starts with what was found to fit.
    allocator.sizes.clear()
    restorer(image)
    assert max(allocator.sizes) == 120


def test_out_of_memory_in_the_end_is_a_sentence(tiny):
    image = np.zeros((300, 500, 3), np.float32)
    restorer = Restorer(tiny, "cpu")
    Allocator(restorer, 10)
    with pytest.raises(UserError, match=r"not enough memory on cpu for 500x300 pixels in tiles of 64"):
        restorer(image)
    restorer = Restorer(tiny, "cpu", tile="none")
    allocator = Allocator(restorer, 10)
    with pytest.raises(UserError, match="without tiles"):
        restorer(image)
    assert len(allocator.sizes) == 1


def test_other_errors_are_not_taken_for_it(tiny):
    restorer = Restorer(tiny, "cpu")
    restorer._run = lambda batch: [][0]
    with pytest.raises(IndexError):
        restorer(np.zeros((64, 64, 3), np.float32))


def test_tiles_are_as_large_as_memory_allows(tiny, monkeypatch):
    restorer = Restorer(tiny, "cpu")
    allocator = Allocator(restorer, 10**9)
    image = np.zeros((400, 600, 3), np.float32)
    for free in (10**9, 100 * 10**6, 30 * 10**6):
        monkeypatch.setattr("mprnet.inference.memory.available", lambda device, limit, free=free: free)
        allocator.sizes.clear()
        restorer(image)
        side = max(allocator.sizes)
        need = restorer._need.bytes(1, side, side if side < 600 else 400)
        assert need <= 0.85 * free
        if side < 600:
            larger = restorer._need.bytes(1, side + 16, side + 16)
            assert larger > 0.85 * free - 600 * 400 * 12
    assert side < 300
    monkeypatch.setattr("mprnet.inference.memory.available", lambda device, limit: 2**20)
    with pytest.raises(
        UserError, match=r"600x400 pixels need at least 0\.0 GiB, in tiles of 64, and 0\.0 GiB are free"
    ):
        restorer(image)


def test_with_local_pooling_a_tile_holds_a_window_and_its_halo(tiny):
    restorer = Restorer(tiny, "cpu", tile=64, local_pooling=64)
    allocator = Allocator(restorer, 10**9)
    windows = [m.window for m in restorer._run.run._model.modules() if isinstance(m, ChannelAttention)]
    assert max(map(max, windows)) == 96
    restorer(np.zeros((300, 300, 3), np.float32))
    assert max(allocator.sizes) == 96 + 96 + 8


@pytest.mark.parametrize("tile", ["some", 63, "63", -1])
def test_no_such_tiles(tiny, tile):
    with pytest.raises(UserError, match="a tile is auto, none or at least 64 pixels, not"):
        Restorer(tiny, "cpu", tile=tile)


def noisy_photograph() -> np.ndarray:
    clean = np.hstack([dead_leaves(5, 0, 256), dead_leaves(5, 1, 256)])
    return gaussian_noise(np.random.default_rng(1), clean, 25).astype(np.float32) / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def test_tiles_give_nearly_what_the_whole_gives_and_local_pooling_comes_closer():
    model, image = load_model(BUNDLED), noisy_photograph()
    scores = {}
    for patch in (False, 64):
        whole = Restorer(model, "cpu", local_pooling=patch)(image)
        scores[patch] = psnr(Restorer(model, "cpu", tile=192, local_pooling=patch)(image), whole)
    assert scores[64] > scores[False] > 40
    assert scores[64] > 50


@pytest.mark.parametrize("patch", [False, 64])
def test_no_seam_shows_in_a_flat_picture(patch):
    """The mean gradient across seams equals that elsewhere within 2 %."""
    model = load_model(BUNDLED)
    flat = np.full((1200, 320, 3), 128, np.uint8)
    noisy = gaussian_noise(np.random.default_rng(2), flat, 25).astype(np.float32) / 255
    restored = Restorer(model, "cpu", tile=200, local_pooling=patch)(noisy)
    size = 200
    begins, shares = tiling.starts(320, size), tiling.shares(320, size)
    seam = np.zeros(320, bool)
    for begin, share in zip(begins, shares, strict=True):
        seam[begin : begin + size] |= ((share > 0) & (share < 1)).numpy()
    assert 25 < seam.sum() < 80
    gradient = np.abs(np.diff(restored, axis=1)).mean(axis=(0, 2))
    seam = seam[1:] & seam[:-1]
    away = ~seam
    away[:8] = away[-8:] = False  # the picture's own border is another matter
    assert gradient[seam].mean() == pytest.approx(gradient[away].mean(), rel=0.02)
