"""The parts of benchmarks/gpu.py about inference: results in every precision, graphs, tiles, memory, and speed."""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from gpu_parts import Check, find_known_peak, measure_peak
from inference import make_runs
from operations import count_flops, seconds
from published import NETWORKS, WIDTHS, load_published
from torch import Tensor

from mprnet import MPRNet, Restorer
from mprnet.errors import UserError
from mprnet.inference.graphs import Graph
from mprnet.inference.precision import DTYPES, choose_precision, prepare_network
from mprnet.inference.runner import Runner
from mprnet.model.bands import memory_format
from mprnet.model.patches import FULL_GRID

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from golden import golden_image, golden_weights, read_fact

_PASSES = 6  # of one shape: a graph is recorded before the last one
# How far fp32 may be from the published outputs, and from another device.
_TOLERANCE = 1e-4
# How far images in tiles may be from those without, with local pooling: at their seams, tiles are blended.
_TILE_TOLERANCE = 1e-3
_PATCH = 64  # of training, for local pooling
_ROUNDS = 10  # of all networks, by turns
# With less time than this, the networks of a task are not measured.
_LEAST_SECONDS = 10.0


def compare_outputs(check: Check) -> None:
    """Print how far the device's results are from the published ones, and whether replayed graphs give the same.

    Raises:
        ValueError: fp32 is too far, or a graph gives something else.
    """
    cases = {case["task"]: case for case in read_fact("golden_forward.json")["cases"]}
    problems = []
    print("Random weights of tests/facts/golden_forward.json; all stages.\n")
    print("| task | precision | largest difference from the published network | replayed graph |\n|---|---|---|---|")
    for task in [task for task in check.tasks if task in cases] or ["Deraining"]:
        model = MPRNet(*WIDTHS[task]).eval()
        model.load_state_dict(golden_weights(model))
        for precision in find_precisions(check.device, WIDTHS[task][0]):
            difference, graph = compare_output(check.device, model, precision, cases[task])
            print(f"| {task} | {precision} | {difference:.1e} | {graph} |", flush=True)
            if graph == "differs" or (precision == "fp32" and not difference <= _TOLERANCE):
                problems.append(f"{task} in {precision}")
    if problems:
        raise ValueError(f"wrong results: {', '.join(problems)}")


def find_precisions(device: torch.device, channels: int) -> list[str]:
    """Return the precisions that a device supports."""
    precisions = []
    for precision in DTYPES:
        with contextlib.suppress(UserError):
            precisions.append(choose_precision(precision, device, channels))
    return precisions


def compare_output(device: torch.device, model: MPRNet, precision: str, case: dict) -> tuple[float, str]:
    """Return the largest difference from the published outputs, and equal, differs or none for a replayed graph."""
    dtype = DTYPES[precision]
    run = Runner(prepare_network(model, device, dtype), device, None, False)
    image = golden_image(case).to(device).contiguous(memory_format=memory_format(device, dtype))
    first = run(image, FULL_GRID)
    for _ in range(_PASSES - 2 if device.type == "cuda" else 0):
        run(image, FULL_GRID)
    with patch.object(Graph, "replay", autospec=True, side_effect=Graph.replay) as replay:
        last = run(image, FULL_GRID)
    is_equal = all(torch.equal(*pair) for pair in zip(first, last, strict=True))
    differences = [
        (found.cpu()[:, :, ::16, ::16] - torch.tensor(stage["sample"])).abs().max().item()
        for found, stage in zip(last, case["stages"], strict=True)
    ]
    return max(differences), ("equal" if is_equal else "differs") if replay.called else "none"


def make_model(check: Check) -> MPRNet:
    """Return the smallest network of the check, with random weights that are the same on every machine."""
    model = MPRNet(*NETWORKS[check.tasks[-1]]).eval()
    model.load_state_dict(golden_weights(model))
    return model


def make_image(check: Check) -> Tensor:
    """Return a random picture, (1, 3, H, W) float32."""
    width, height = check.restored
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def compare_tiles(check: Check) -> None:
    """Print how far tiles and local pooling on the device are from those on the CPU, in fp32.

    Raises:
        ValueError: too far.
    """
    width, height = check.restored
    model, image = make_model(check), make_image(check)[:, :, : height // 3, : width // 3]  # the CPU is slow
    print(f"{check.tasks[-1]}, {image.shape[3]}x{image.shape[2]} pixels, fp32.\n")
    print("| | largest difference from the CPU |\n|---|---|")
    worst = 0.0
    for name, options in {
        "whole": {"tile": "none"},
        "tiles": {"tile": 128},
        "local pooling": {"tile": "none", "local_pooling": _PATCH},
        "tiles, local pooling": {"tile": 128, "local_pooling": _PATCH},
        "self-ensemble": {"tile": "none", "ensemble": True},
    }.items():
        there, here = (Restorer(model, str(device), "fp32", **options)(image) for device in (check.device, "cpu"))
        difference = (there - here).abs().max().item()
        print(f"| {name} | {difference:.1e} |", flush=True)
        worst = max(worst, difference)
    if not worst <= _TOLERANCE:
        raise ValueError(f"the device differs from the CPU by {worst:.1e}")


def survive_shortage(check: Check) -> None:
    """Print what happens if memory runs out in the middle of a picture.

    Raises:
        ValueError: the picture differs from one that was restored with enough memory.
        UserError: it is not restored at all.
    """
    image = make_image(check).to(check.device)
    restorer = Restorer(make_model(check), str(check.device), "fp32", local_pooling=_PATCH)
    expected = restorer(image)
    tiles: list[int] = []
    restorer.on_tile = lambda done, total: tiles.append(total)
    with limit_memory(check.device, restorer, image):
        found = restorer(image)
    difference = (found - expected).abs().max().item()
    print(f"{check.tasks[-1]}, {image.shape[3]}x{image.shape[2]} pixels, fp32, half of the memory that this takes.\n")
    print(f"| | |\n|---|---|\n| tiles | {tiles[-1] if tiles else 'none'} |")
    print(f"| largest difference from the picture without tiles | {difference:.1e} |")
    if not tiles:
        raise ValueError("memory did not run out")
    if not difference <= _TILE_TOLERANCE:
        raise ValueError("the picture differs")


@contextlib.contextmanager
def limit_memory(device: torch.device, restorer: Restorer, image: Tensor) -> Iterator[None]:
    """In this context, a GPU has half of the memory that restoring ``image`` takes. On a CPU, the first pass fails."""
    if device.type != "cuda":
        run, passes = restorer._run, iter([True])

        def fail_once(*arguments: object) -> list[Tensor]:
            if next(passes, False):
                raise torch.OutOfMemoryError("out of memory, for a rehearsal")
            return run(*arguments)  # type: ignore[arg-type]

        with patch.object(restorer, "_run", fail_once):
            yield
        return
    torch.cuda.reset_peak_memory_stats(device)
    restorer(image)
    before, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((before + (peak - before) / 2) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@torch.inference_mode()
def measure_speed(check: Check) -> None:
    """Print the time of a pass of the published network and of ours, for each task.

    All networks of a task run by turns, and medians are compared.
    """
    peaks = {is_bf16: measure_peak(check, is_bf16) for is_bf16 in (True, False)}
    known = find_known_peak(check.device, is_bf16=True)
    width, height = check.restored
    print(f"{width}x{height} pixels; TFLOP/s are of the operations of the published network. Products of matrices")
    print(f"reach {peaks[True]:,.4g} TFLOP/s in bf16{f'; the data sheet says {known:,.0f}' if known else ''}.\n")
    print("| task | network | ms | published fp32 / this | TFLOP/s | of the products |\n|---|---|---|---|---|---|")
    for task in check.tasks:
        if check.seconds_left < _LEAST_SECONDS:
            print(f"| {task} | no time left |  |  |  |  |", flush=True)
            continue
        model = MPRNet(*NETWORKS[task]).eval()
        image = make_image(check).to(check.device)
        operations = count_flops(load_published(model), image.shape)
        medians = time_by_turns(check, make_runs(model, image, check.device, compiled=False))
        for name, median in medians.items():
            speed = operations / median / 1e12
            # There are no products in full fp32 to compare with.
            share = f"{speed / peaks[True]:.0%}" if "bf16" in name or "fp16" in name else ""
            ratio = medians["published fp32"] / median
            print(f"| {task} | {name} | {1000 * median:.1f} | {ratio:.2f} | {speed:.3g} | {share} |", flush=True)


def time_by_turns(check: Check, runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median of the seconds of each run, after the warm-up of all; fewer rounds if time is short."""
    for run in runs.values():
        for _ in range(_PASSES if check.device.type == "cuda" else 1):
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.time() + check.seconds_left / 2
    while not times["published fp32"] or (len(times["published fp32"]) < _ROUNDS and time.time() < end):
        for name, run in runs.items():
            times[name].append(seconds(run, check.device))
    return {name: statistics.median(values) for name, values in times.items()}
