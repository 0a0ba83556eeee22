import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import ROOT

from mprnet import Restorer, UserError, load_model
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.inference import tiling
from mprnet.inference.out_of_memory import is_out_of_memory
from mprnet.model.layers import ChannelAttention

BUNDLED = ROOT / "Denoising" / "pretrained_models" / "model_denoising_lite.safetensors"


@pytest.mark.parametrize("length", [65, 68, 72, 73, 100, 257, 300, 1001, 6000])
@pytest.mark.parametrize("size", [64, 72, 128, 512])
@pytest.mark.parametrize("least", [64, 128, 400])
def test_spans_cover_a_side_and_their_weights_add_up_to_one(length, size, least):
    spans = tiling.make_spans(length, size, least)
    total = torch.zeros(length)
    for span in spans:
        assert span.start % 4 == 0
        assert 0 <= span.start < span.stop <= length
        assert span.stop - span.start <= size
        assert len(span.weight) == span.stop - span.start
        total[span.start : span.stop] += span.weight
        # A tile whose middle is the middle of the padded image is split there. Other tiles have the weight 0 there.
        middle = (length + 7) // 8 * 4
        if span.split:
            assert span.start + (span.stop - span.start + 7) // 8 * 4 == middle
        elif span.start < middle < span.stop:
            assert not span.weight[middle - span.start - 8 : middle - span.start + 8].any()
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert [span.split for span in spans].count(True) == 1
    assert float(min(span.weight.min() for span in spans)) >= -1e-6
    torch.testing.assert_close(total, torch.ones(length), atol=1e-6, rtol=0)
    for first, second in pairwise(spans):
        assert first.stop - second.start >= min(tiling.min_overlap(size), length) - 8
        # The weight at the edges of tiles is 0.
        assert not first.weight[-5:].any()
        assert not second.weight[:5].any()


def make_identity(tiny):
    """Set the last convolutions to zero, so that the network returns its input."""
    with torch.no_grad():
        for layer in (tiny.tail, tiny.sam12.conv2, tiny.sam23.conv2):
            layer.weight.zero_()
    return tiny


@pytest.mark.parametrize("size", [(64, 64), (97, 201), (130, 40)])
def test_tiles_of_an_identity_network_give_the_image(tiny, size):
    image = np.random.default_rng(0).random((*size, 3)).astype(np.float32)
    np.testing.assert_allclose(Restorer(make_identity(tiny), "cpu", tile=64)(image), image, atol=1e-6)


class LimitedMemory:
    """Raises the error of PyTorch if a batch has more than ``pixels`` pixels."""

    def __init__(self, restorer: Restorer, pixels: int) -> None:
        self.run, self.pixels, self.sizes, self.counts = restorer._run, pixels, [], []
        restorer._run = self

    def __call__(self, batch, grid):
        self.sizes.append(batch.shape[-1])
        self.counts.append(len(batch))
        if batch.shape[0] * batch.shape[2] * batch.shape[3] > self.pixels:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        return self.run(batch, grid)


def test_after_out_of_memory_tiles_are_halved(tiny, capsys):
    restorer, expected = Restorer(tiny, "cpu"), Restorer(tiny, "cpu", tile=120)
    for each in (restorer, expected):
        each._run = lambda batch, grid: [batch.sqrt()]
    memory = LimitedMemory(restorer, 150 * 150)
    image = np.random.default_rng(0).random((300, 500, 3)).astype(np.float32)
    restored = restorer(image)
    assert memory.sizes[0] == 504
    assert max(memory.sizes[2:]) == 120
    err = capsys.readouterr().err
    assert "in tiles of 248" in err
    assert "in tiles of 120" in err
    np.testing.assert_allclose(restored, expected(image), atol=1e-6)
    # The next picture starts with the size that fitted.
    memory.sizes.clear()
    restorer(image)
    assert max(memory.sizes) == 120
    memory.sizes.clear()
    restorer(image[:100, :110])
    assert max(memory.sizes) == 112


def test_after_graphs_are_dropped_the_same_size_is_tried_once_more(tiny):
    restorer = Restorer(tiny, "cpu")
    restorer._run = lambda batch, grid: [batch]
    memory = LimitedMemory(restorer, 150 * 150)
    restorer._fitting._make_room = lambda: True
    restorer(np.zeros((200, 200, 3), np.float32))
    assert memory.sizes[:2] == [200, 200]
    assert max(memory.sizes[2:]) == 96


@pytest.mark.parametrize("released", [0, 10**9])
def test_what_can_be_released_is_dropped_before_a_picture_is_cut_into_tiles(tiny, monkeypatch, released):
    """For example CUDA graphs. They stay if there is enough memory."""
    free, calls = [10**9], []

    def make_room() -> bool:
        calls.append(free[0])
        free[0] += released
        return True

    monkeypatch.setattr("mprnet.inference.runner.Runner.make_room", lambda runner: make_room())
    monkeypatch.setattr("mprnet.inference.memory.free_memory", lambda device, limit: free[0])
    monkeypatch.setattr("mprnet.inference.tile_size._FILES", 0)
    restorer = Restorer(tiny, "cpu")
    memory = LimitedMemory(restorer, 10**9)
    image = torch.zeros(1, 3, 96, 200)
    restorer(image)
    assert calls == []
    free[0] = restorer._tile_sizes.estimate.peak(1, 96, 200)  # too little: some is left for other programs
    restorer(image)
    assert len(calls) == 1
    assert (memory.sizes[1:] == [200]) == (released == 10**9)


def test_tiles_grow_again_after_a_shortage(tiny):
    """After 8 pictures a larger size is tried; if it fails, the next attempt comes after 16."""
    restorer = Restorer(tiny, "cpu")
    restorer._run = lambda batch, grid: [batch]
    memory = LimitedMemory(restorer, 150 * 150)
    image = np.zeros((200, 200, 3), np.float32)

    def largest_tiles(count: int) -> list[int]:
        found = []
        for _ in range(count):
            memory.sizes.clear()
            restorer(image)
            found.append(max(memory.sizes))
        return found

    assert largest_tiles(1) == [200]  # then 96
    assert largest_tiles(8) == [96] * 8
    assert largest_tiles(1) == [192]  # fails
    assert largest_tiles(16) == [96] * 16
    memory.pixels = 10**9  # the other program has ended
    assert largest_tiles(18) == [192] * 16 + [200] * 2


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "GET was unable to find an engine to execute this computation",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    ],
)
def test_words_of_libraries_for_a_lack_of_memory_are_known(message):
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))


def test_out_of_memory_with_the_smallest_tiles_raises_a_clear_error(tiny):
    image = np.zeros((300, 500, 3), np.float32)
    restorer = Restorer(tiny, "cpu")
    LimitedMemory(restorer, 10)
    with pytest.raises(UserError, match=r"not enough memory on cpu for 500x300 pixels in tiles of 64"):
        restorer(image)
    restorer = Restorer(tiny, "cpu", tile="none")
    memory = LimitedMemory(restorer, 10)
    with pytest.raises(UserError, match="without tiles"):
        restorer(image)
    assert len(memory.sizes) == 1


def test_the_smallest_tiles_are_tried_before_giving_up(tiny):
    """With local pooling, the smallest tiles of this network have 128 pixels, more than half of 200."""
    restorer = Restorer(tiny, "cpu", local_pooling=16)
    memory = LimitedMemory(restorer, 130 * 130)
    restorer(np.zeros((200, 200, 3), np.float32))
    assert memory.sizes[0] == 200
    assert max(memory.sizes[1:]) == 128


def test_before_tiles_fewer_images_are_restored_at_a_time(tiny):
    batch = torch.rand(5, 3, 64, 72)
    expected = Restorer(tiny, "cpu").every_stage(batch)
    restorer = Restorer(tiny, "cpu")
    memory = LimitedMemory(restorer, 2 * 64 * 72)
    for stage, whole in zip(restorer.every_stage(batch), expected, strict=True):
        torch.testing.assert_close(stage, whole, atol=1e-5, rtol=0)
    assert memory.counts == [5, 3, 2, 1, 2]
    assert set(memory.sizes) == {72}
    # Later batches have fewer images. Only a GPU restores several at a time.
    restorer(torch.rand(2, 3, 128, 144))  # what fits of larger images says nothing of more pixels
    restorer.device = torch.device("cuda")
    assert restorer.batch_size(64, 72) == 2


def test_images_that_do_not_fit_at_a_time_are_not_tried(tiny, monkeypatch):
    restorer = Restorer(tiny, "cpu")
    memory = LimitedMemory(restorer, 10**9)
    monkeypatch.setattr("mprnet.inference.tile_size._FILES", 0)
    need = restorer._tile_sizes.estimate.peak(2, 64, 72) + 2 * 2 * 64 * 72 * 12  # results and pictures beside them
    monkeypatch.setattr("mprnet.inference.memory.free_memory", lambda device, limit: 1.01 * need / 0.85)
    restorer(torch.rand(5, 3, 64, 72))
    assert memory.counts == [2, 1, 2]
    assert set(memory.sizes) == {72}
    restorer.device = torch.device("cuda")
    assert restorer.batch_size(64, 72) == 2


def test_other_errors_are_not_taken_for_out_of_memory(tiny):
    restorer = Restorer(tiny, "cpu")
    restorer._run = lambda batch, grid: [][0]
    with pytest.raises(IndexError):
        restorer(np.zeros((64, 64, 3), np.float32))


def test_tiles_are_as_large_as_fit_in_memory(tiny, monkeypatch):
    image = np.zeros((400, 600, 3), np.float32)
    images = 2 * 600 * 400 * 12  # the result and a picture beside it
    monkeypatch.setattr("mprnet.inference.tile_size._FILES", 0)
    for free in (10**9, 100 * 10**6, 30 * 10**6):
        restorer = Restorer(tiny, "cpu")
        restorer._run = lambda batch, grid: [batch]
        memory = LimitedMemory(restorer, 10**9)
        monkeypatch.setattr("mprnet.inference.memory.free_memory", lambda device, limit, free=free: free)
        restorer(image)
        side = max(memory.sizes)
        need = restorer._tile_sizes.estimate.peak(1, side, side if side < 600 else 400)
        assert need <= 0.85 * free - images
        if side < 600:
            assert restorer._tile_sizes.estimate.peak(1, side + 16, side + 16) > 0.85 * free - images
        # If a little less memory is free the next time, the tiles keep their size.
        monkeypatch.setattr("mprnet.inference.memory.free_memory", lambda device, limit, free=free: 0.97 * free)
        memory.sizes.clear()
        restorer(image)
        assert max(memory.sizes) == side
    assert side < 300
    monkeypatch.setattr("mprnet.inference.memory.free_memory", lambda device, limit: 2**20)
    with pytest.raises(UserError, match=r"1 MiB are free on cpu, and 600x400 pixels need \d+ MiB more, even"):
        restorer(image)


@pytest.mark.parametrize(("ensemble", "every_stage", "copies"), [(False, False, 2), (False, True, 4), (True, True, 6)])
def test_memory_for_images_beside_the_network_is_counted(tiny, monkeypatch, ensemble, every_stage, copies):
    """The results and one more, and the ensemble's turned image and mean."""
    restorer = Restorer(tiny, "cpu", ensemble=ensemble)
    counted: list[int] = []
    restore = restorer._fitting.restore
    monkeypatch.setattr(restorer._fitting, "restore", lambda *words: counted.append(words[2]) or restore(*words))
    (restorer.every_stage if every_stage else restorer)(np.zeros((8, 8, 3), np.float32))
    assert set(counted) == {copies}


def test_free_memory_goes_back_to_the_system_after_each_tile(tiny, monkeypatch):
    """The next tile can have another shape."""
    counts: list[int] = []
    restorer = Restorer(tiny, "cpu", tile=64)
    restorer._run = lambda batch, grid: counts.append(0) or [batch]
    monkeypatch.setattr(tiling, "trim", lambda: counts.append(1))
    restorer(np.zeros((64, 150, 3), np.float32))
    assert counts == [0, 1] * (len(counts) // 2)
    assert len(counts) > 4


def test_on_the_cpu_some_memory_is_left_for_files(tiny, monkeypatch):
    sizes = Restorer(tiny, "cpu")._tile_sizes
    need = sizes.estimate.peak(1, 64, 64) + 2 * 64 * 64 * 12
    for reserve, fits in ((0, False), (2**27, True)):
        monkeypatch.setattr("mprnet.inference.memory.free_memory", lambda *_, free=need + reserve: 1.01 * free / 0.85)
        assert sizes.fits(1, 64, 64, copies=2) == fits
    monkeypatch.setattr("mprnet.inference.memory.free_memory", lambda *_: 1.01 * need / 0.85)
    sizes.device = torch.device("cuda")
    assert sizes.fits(1, 64, 64, copies=2)


@pytest.mark.parametrize("free", [2**20, -(2**29)])
def test_the_memory_that_is_missing_is_enough(tiny, monkeypatch, free):
    """A program that uses more than ``limit`` before its first picture has less than none."""
    restorer = Restorer(tiny, "cpu", limit=2**26)
    monkeypatch.setattr("mprnet.inference.memory.free_memory", lambda device, limit: free)
    with pytest.raises(UserError, match=rf"^{max(0, free) >> 20} MiB are free on cpu of the 64 MiB allowed") as raised:
        restorer(np.zeros((64, 64, 3), np.float32))
    missing = int(re.search(r"need (\d+) MiB more", str(raised.value))[1]) + 1  # it is rounded
    monkeypatch.setattr("mprnet.inference.memory.free_memory", lambda device, limit: free + missing * 2**20)
    restorer(np.zeros((64, 64, 3), np.float32))


def test_with_local_pooling_tiles_are_larger_than_a_window(tiny):
    restorer = Restorer(tiny, "cpu", tile=64, local_pooling=64)
    memory = LimitedMemory(restorer, 10**9)
    windows = [m.window for m in restorer._run.run._model.modules() if isinstance(m, ChannelAttention)]
    assert max(map(max, windows)) == 96
    restorer(np.zeros((300, 300, 3), np.float32))
    assert max(memory.sizes) == 96 + 96 + 8


@pytest.mark.parametrize("tile", ["some", 63, "63", -1, 128.5, None, float("nan")])
def test_invalid_tile_sizes_raise_a_clear_error(tiny, tile):
    with pytest.raises(UserError, match="a tile is auto, none or at least 64 pixels, not"):
        Restorer(tiny, "cpu", tile=tile)


def noisy_photograph() -> np.ndarray:
    clean = np.hstack([dead_leaves(5, 0, 256), dead_leaves(5, 1, 256)])
    return gaussian_noise(np.random.default_rng(1), clean, 25).astype(np.float32) / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def test_tiles_nearly_equal_the_whole_image_and_more_so_with_local_pooling():
    model, image = load_model(BUNDLED), noisy_photograph()[:136]
    scores = {}
    for patch in (False, 64):
        whole = Restorer(model, "cpu", local_pooling=patch)(image)
        scores[patch] = psnr(Restorer(model, "cpu", tile=192, local_pooling=patch)(image), whole)
    assert scores[64] > scores[False] > 40
    assert scores[64] > 50


@pytest.mark.parametrize("patch", [False, 64])
def test_seams_are_invisible_in_a_flat_picture(patch):
    """The mean gradient across seams equals the mean gradient elsewhere within 2 %."""
    model = load_model(BUNDLED)
    flat = np.full((320, 320, 3), 128, np.uint8)
    noisy = gaussian_noise(np.random.default_rng(2), flat, 25).astype(np.float32) / 255
    restored = Restorer(model, "cpu", tile=200, local_pooling=patch)(noisy)
    is_seam = np.zeros(320, bool)
    for span in tiling.make_spans(320, 200):
        is_seam[span.start : span.stop] |= ((span.weight > 0) & (span.weight < 1)).numpy()
    assert 10 < is_seam.sum() < 160
    gradient = np.abs(np.diff(restored, axis=1)).mean(axis=(0, 2))
    is_seam = is_seam[1:] & is_seam[:-1]
    is_elsewhere = ~is_seam
    is_elsewhere[:8] = is_elsewhere[-8:] = is_elsewhere[152:168] = (
        False  # the border and the middle of the image are not compared
    )
    assert gradient[is_seam].mean() == pytest.approx(gradient[is_elsewhere].mean(), rel=0.02)
