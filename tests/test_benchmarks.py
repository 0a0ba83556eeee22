"""What the benchmarks count, the table of the costliest operations, and the benchmarks' arguments."""

import re
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


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("folder", "--pictures 0", "--pictures: takes a whole number above 0, not 0"),
        ("folder", "--width -5", "--width: takes a whole number above 0, not -5"),
        ("inference", "--repeats 0", "--repeats: takes a whole number above 0, not 0"),
        ("inference", "--size 64 64x0", "--size: takes a whole number above 0, not 0"),
        ("inference", "--size x64", "--size: takes a whole number above 0, not $"),
        ("inference", "--size 64x60", "--size: takes multiples of 8, not 64x60"),
        ("inference", "--device none", "--device: there is no device none here"),
        ("inference", "--peak 0", "--peak: takes a number above 0, not 0"),
    ],
)
def test_wrong_arguments_are_refused(import_benchmark, monkeypatch, capsys, name, arguments, sentence):
    benchmark = import_benchmark(name)
    monkeypatch.setattr("sys.argv", [name, *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        benchmark.main()
    assert re.search(f"error: argument {sentence}", capsys.readouterr().err, re.MULTILINE)


def test_sizes_are_heights_and_widths(import_benchmark):
    parse_size = import_benchmark("arguments").parse_size
    assert (parse_size("64"), parse_size("720x1280")) == ((64, 64), (720, 1280))
