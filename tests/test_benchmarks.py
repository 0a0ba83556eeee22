"""What the benchmarks count: operations, and the table of the costliest ones."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mprnet import MPRNet

CPU = torch.device("cpu")


@pytest.fixture
def modules(import_benchmark):
    """The modules of benchmarks/ that count operations."""
    return SimpleNamespace(operations=import_benchmark("operations"), training=import_benchmark("training"))


def test_operations_of_a_convolution(modules):
    layer = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    by_hand = 2 * (3 * 5 * 3 * 3) * (4 * 6) * 2  # products and sums, for each pixel of two images
    assert modules.operations.count_flops(layer, (2, 3, 4, 6)) == by_hand


@torch.inference_mode()
def test_operations_of_a_network(modules, tiny):
    """Bands, which compute some rows twice, are not counted: operations grow as the pixels do, except in attention."""
    count = modules.operations.count_flops
    a, b = count(tiny, (1, 3, 1024, 1024)), count(tiny, (1, 3, 2048, 1024))
    assert 1.999 * a < b <= 2 * a
    network = MPRNet(*modules.training.NETWORKS["tiny"])
    assert modules.training.count_operations("tiny", 2, 32) == 3 * count(network, (2, 3, 32, 32))


def test_peaks_are_positive_and_with_one_thread_of_the_processor(modules, monkeypatch):
    operations = modules.operations
    assert operations.matrix_peak(CPU, torch.float32, 64) > 0
    assert operations.convolution_peak(CPU, torch.float32, channels=4, side=8) > 0
    ticks = iter([10.0, 12.0])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(operations.time, "process_time", lambda: next(ticks))
    assert operations.seconds(lambda: None, CPU) == 2


@torch.inference_mode()
def test_the_table_of_the_costliest_operations(modules, capsys):
    layers = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(16, 4, 1)).eval()
    image = torch.rand(1, 4, 64, 64)
    found = modules.operations.costliest_operations(lambda: layers(image), CPU, count=100)
    shares = [operation.share for operation in found]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    # Some operations only call others; they are not said to compute.
    (convolution,) = (o for o in found if "1x4x64x64, 16x4x3x3" in o.name and o.flops is not None)
    assert convolution.calls == 1
    assert convolution.flops * convolution.seconds == pytest.approx(2 * (4 * 16 * 3 * 3) * 64 * 64)

    assert len(modules.operations.costliest_operations(lambda: layers(image), CPU, count=3)) == 3
    modules.operations.print_operations(found)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(found)
    assert all(line.count("|") == 6 and "%" in line for line in lines[2:])
