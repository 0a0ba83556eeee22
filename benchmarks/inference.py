"""Time and memory of one forward pass: the published network and ours, with the same weights and input.

    pip install -e ".[bench]"
    python benchmarks/inference.py                                   # each task at 256x256
    python benchmarks/inference.py --task Deraining --size 256 512 1024
    python benchmarks/inference.py --device cuda --task Deblurring --size 720x1280 --peak 790
    python benchmarks/inference.py --memory                          # peak memory, in separate processes

The published network is that of the package spandrel_extra_arches, run eagerly in fp32 (on a GPU without TF32, and also
in bf16). Ours runs in fp32, in the precision `auto`, and compiled if asked for. All run by turns in one process, so
that the machine is in the same state for all. Medians are compared. For all, the number of operations is that of the
published network, 2 per multiplication and addition; ours does fewer operations.

The share of the peak is relative to the fastest matrix product in the same run, or to --peak, in TFLOP/s.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from published import WIDTHS, load_published
from torch import Tensor

from mprnet import MPRNet, Restorer
from mprnet.inference.precision import choose_precision

# Operations of the published networks per pixel.
FLOPS = {"Deblurring": 1.519e12 / 256**2, "Denoising": 1.146e12 / 256**2, "Deraining": 0.282e12 / 256**2}
DOCS = Path(__file__).parents[1] / "docs"
Run = Callable[[], object]


def make_runs(task: str, image: Tensor, device: torch.device, compiled: bool) -> dict[str, Run]:
    """Return the runs to measure, by name; the first is the published network in fp32."""
    torch.manual_seed(0)
    model = MPRNet(*WIDTHS[task]).eval()
    theirs = load_published(model).eval().to(device)
    runs: dict[str, Run] = {"published fp32": lambda: last_stage(theirs(image))}
    if device.type == "cuda":
        half = load_published(model).eval().to(device).bfloat16()
        runs["published bf16"] = lambda: last_stage(half(image.bfloat16()))
    auto = choose_precision("auto", device, WIDTHS[task][0])
    for precision in dict.fromkeys(("fp32", auto)):
        ours = Restorer(model, str(device), precision, tile="none")
        runs[f"ours {precision}" + (" (auto)" if precision == auto else "")] = partial(ours, image)
    if compiled:
        fast = Restorer(model, str(device), "auto", tile="none", compiled=True)
        runs[f"ours {fast.precision}, compiled"] = partial(fast, image)
    return runs


def last_stage(output: Tensor | list[Tensor]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def seconds(run: Run, device: torch.device) -> float:
    """Return the wall-clock time of one call; the device is idle before and after it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of the fastest of ten large matrix products."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.rand(side, side, device=device).to(dtype)
    return max(2 * side**3 / seconds(lambda: a @ a, device) for _ in range(10))


@torch.inference_mode()
def compare(task: str, height: int, width: int, a: argparse.Namespace) -> list[dict[str, object]]:
    """Measure and print one row for each run, and return the rows."""
    image = torch.rand(1, 3, height, width, device=a.device)
    runs = make_runs(task, image, a.device, a.compiled)
    reference = last_stage(runs["published fp32"]()).clamp(0, 1)  # type: ignore[arg-type]
    differences = {name: float((run().float().clamp(0, 1) - reference).abs().max()) for name, run in runs.items()}  # type: ignore[attr-defined]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(a.repeats):
        for name, run in runs.items():
            times[name].append(seconds(run, a.device))
    median = {name: statistics.median(values) for name, values in times.items()}
    peaks = {half: matrix_peak(a.device, torch.bfloat16 if half else torch.float32) for half in (False, True)}
    rows: list[dict[str, object]] = []
    for name in runs:
        speed = FLOPS[task] * height * width / median[name]
        peak = 1e12 * a.peak if a.peak else peaks["bf16" in name]
        rows.append(
            {
                "task": task,
                "size": f"{height}x{width}",
                "network": name,
                "seconds": median[name],
                "ratio": median["published fp32"] / median[name],
                "TFLOP/s": speed / 1e12,
                "share of peak": speed / peak,
                "difference": differences[name],
            }
        )
        print(
            f"{task:10} {height}x{width} {name:22} {median[name]:8.3f} s  {rows[-1]['ratio']:5.2f} times as fast  "
            f"{speed / 1e12:7.3f} TFLOP/s  {speed / peak:4.0%} of a matrix product  difference {differences[name]:.1e}",
            flush=True,
        )
    return rows


def peak_memory(task: str, height: int, width: int, name: str, device: torch.device) -> float:
    """Return by how many bytes the memory of this process grows in one pass. Call it in a new process."""
    small = torch.rand(1, 3, 64, 64, device=device)
    image = torch.rand(1, 3, height, width, device=device)
    model = MPRNet(*WIDTHS[task]).eval()
    ours = None if name == "published" else Restorer(model, str(device), name, tile="none")
    network: Callable[[Tensor], object] = ours or load_published(model).eval().to(device)
    with torch.inference_mode():
        network(small)  # loads libraries
        if device.type == "cuda":
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            network(image)
            return torch.cuda.max_memory_allocated(device) - before
        before = 1024 * int(Path("/proc/self/statm").read_text().split()[1]) * (resource.getpagesize() // 1024)
        network(image)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def compare_memory(task: str, height: int, width: int, a: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name in ("published", "fp32", "bf16"):
        command = [sys.executable, "-W", "ignore", __file__, "--one", name, "--task", task, "--device", str(a.device)]
        output = subprocess.run(
            [*command, "--size", f"{height}x{width}"], check=True, capture_output=True, text=True
        ).stdout
        growth = float(output.split()[-1])
        share = growth / float(rows[0]["bytes"]) if rows else 1.0  # type: ignore[arg-type]
        rows.append({"task": task, "size": f"{height}x{width}", "network": name, "bytes": growth, "share": share})
        print(
            f"{task:10} {height}x{width} {name:10} {growth / 2**30:6.2f} GiB  {share:.2f} of the published", flush=True
        )
    return rows


def draw_figure(rows: list[dict[str, object]], path: Path, machine: str) -> None:
    """Draw how many times as fast as the published network each run is, by task and size."""
    mpl.use("agg")
    groups = list(dict.fromkeys((row["task"], row["size"]) for row in rows))
    names = list(dict.fromkeys(str(row["network"]) for row in rows))
    figure, axes = plt.subplots(figsize=(1.6 + 1.5 * len(groups), 3.4), layout="constrained")
    for number, name in enumerate(names):
        ratios = {(row["task"], row["size"]): row["ratio"] for row in rows if row["network"] == name}
        x = [group + (number - (len(names) - 1) / 2) * 0.8 / len(names) for group in range(len(groups))]
        bars = axes.bar(x, [ratios.get(group, 0) for group in groups], 0.8 / len(names), label=name)  # type: ignore[misc]
        axes.bar_label(bars, fmt=lambda ratio: f"{ratio:.2f}" if ratio else "", fontsize=7)
    axes.set_xticks(range(len(groups)), [f"{task}\n{size}" for task, size in groups], fontsize=8)
    axes.set_ylabel("times as fast as published fp32")
    axes.set_title(machine, fontsize=8)
    figure.legend(fontsize=7, loc="outside lower center", ncols=len(names))
    figure.savefig(path, dpi=120)


def describe_machine(device: torch.device) -> str:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        name = info.get("model name", platform.processor())
        # Virtual machines often hide the name. These two numbers still show the generation.
        if "cpu family" in info and "model" in info:
            name += f" (family {info['cpu family']}, model {info['model']})"
        name = f"{name}, {torch.get_num_threads()} threads"
    return f"{name}, PyTorch {torch.__version__}"


def parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def main() -> None:
    parser = argparse.ArgumentParser(description=Path(__file__).stem)
    parser.add_argument("--task", choices=WIDTHS, nargs="+", default=list(WIDTHS))
    parser.add_argument("--size", type=parse_size, nargs="+", default=[(256, 256)], metavar="HEIGHT[xWIDTH]")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--compiled", action="store_true", help="also measure ours compiled, which takes minutes")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the machine, for the share of the peak")
    parser.add_argument("--save", action="store_true", help="write docs/inference.json and docs/inference.png")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    a = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    if a.one:
        print(peak_memory(a.task[0], *a.size[0], a.one, a.device))
        return
    measure = compare_memory if a.memory else compare
    print(describe_machine(a.device))
    rows = [row for task in a.task for one in a.size for row in measure(task, *one, a)]
    if a.save and not a.memory:
        machine = describe_machine(a.device)
        (DOCS / "inference.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
        draw_figure(rows, DOCS / "inference.png", machine)


if __name__ == "__main__":
    main()
