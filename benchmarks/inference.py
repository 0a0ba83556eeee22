"""Time and memory of one forward pass: the published network beside ours, with the same weights and input.

    pip install -e ".[bench]"
    python benchmarks/inference.py                                   # each task at 256x256
    python benchmarks/inference.py --task Deraining --size 256 512 1024
    python benchmarks/inference.py --device cuda --task Deblurring --size 720x1280 --peak 790
    python benchmarks/inference.py --memory                          # peak memory, a process for each

The published network is the one of the package spandrel_extra_arches, run eagerly in fp32 (on a GPU without TF32, and
in bf16 too). Of ours: fp32, `auto` precision, and compiled if asked for. All take turns in one process, so that they
meet the machine in the same state; what is compared are medians. Arithmetic counts as the published network does it, 2
per multiplication and addition, for all: ours does less.

The share of the peak is that of the fastest matrix product measured in the same run, or of --peak, TFLOP/s.
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
import spandrel
import spandrel_extra_arches
import torch
from torch import Tensor

from mprnet import MPRNet, Restorer
from mprnet.inference.precision import choose_precision

# Constructor arguments of the paper's three networks, and FLOPs for one pixel.
WIDTHS = {"Deblurring": (96, 48, 32, 8), "Denoising": (80, 48, 32, 8), "Deraining": (40, 20, 16, 8)}
FLOPS = {"Deblurring": 1.519e12 / 256**2, "Denoising": 1.146e12 / 256**2, "Deraining": 0.282e12 / 256**2}
DOCS = Path(__file__).parents[1] / "docs"
Run = Callable[[], object]


def published(model: MPRNet) -> torch.nn.Module:
    """The package's network with the weights of ``model``."""
    spandrel_extra_arches.install(ignore_duplicates=True)
    return spandrel.ModelLoader("cpu").load_from_state_dict(model.state_dict()).model.eval()


def contestants(task: str, image: Tensor, device: torch.device, compiled: bool) -> dict[str, Run]:
    """What is measured, by name; the published network in fp32 first."""
    torch.manual_seed(0)
    model = MPRNet(*WIDTHS[task]).eval()
    theirs = published(model).to(device)
    runs: dict[str, Run] = {"published fp32": lambda: first(theirs(image))}
    if device.type == "cuda":
        half = published(model).to(device).bfloat16()
        runs["published bf16"] = lambda: first(half(image.bfloat16()))
    auto = choose_precision("auto", device, WIDTHS[task][0])
    for precision in dict.fromkeys(("fp32", auto)):
        ours = Restorer(model, str(device), precision, tile="none")
        runs[f"ours {precision}" + (" (auto)" if precision == auto else "")] = partial(ours, image)
    if compiled:
        fast = Restorer(model, str(device), "auto", tile="none", compiled=True)
        runs[f"ours {fast.precision}, compiled"] = partial(fast, image)
    return runs


def first(output: Tensor | list[Tensor]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def seconds(run: Run, device: torch.device) -> float:
    """Wall-clock time of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of a few large matrix products."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.rand(side, side, device=device).to(dtype)
    return max(2 * side**3 / seconds(lambda: a @ a, device) for _ in range(10))


@torch.inference_mode()
def compare(task: str, height: int, width: int, a: argparse.Namespace) -> list[dict[str, object]]:
    """One row for each contestant, printed as well."""
    image = torch.rand(1, 3, height, width, device=a.device)
    runs = contestants(task, image, a.device, a.compiled)
    reference = first(runs["published fp32"]()).clamp(0, 1)  # type: ignore[arg-type]
    differences = {name: float((run().float().clamp(0, 1) - reference).abs().max()) for name, run in runs.items()}  # type: ignore[attr-defined]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(a.repeats):
        for name, run in runs.items():
            times[name].append(seconds(run, a.device))
    median = {name: statistics.median(taken) for name, taken in times.items()}
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
    """Bytes by which the memory in use grows for one pass. Meant for a process of its own."""
    small = torch.rand(1, 3, 64, 64, device=device)
    image = torch.rand(1, 3, height, width, device=device)
    model = MPRNet(*WIDTHS[task]).eval()
    ours = None if name == "published" else Restorer(model, str(device), name, tile="none")
    network: Callable[[Tensor], object] = ours or published(model).to(device)
    with torch.inference_mode():
        network(small)  # libraries load
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
        grown = float(output.split()[-1])
        share = grown / float(rows[0]["bytes"]) if rows else 1.0  # type: ignore[arg-type]
        rows.append({"task": task, "size": f"{height}x{width}", "network": name, "bytes": grown, "share": share})
        print(
            f"{task:10} {height}x{width} {name:10} {grown / 2**30:6.2f} GiB  {share:.2f} of the published", flush=True
        )
    return rows


def figure(rows: list[dict[str, object]], path: Path, machine: str) -> None:
    """How many times as fast as the published network each is, by task and size."""
    mpl.use("agg")
    places = list(dict.fromkeys((row["task"], row["size"]) for row in rows))
    names = list(dict.fromkeys(str(row["network"]) for row in rows))
    figure, axes = plt.subplots(figsize=(1.6 + 1.5 * len(places), 3.4), layout="constrained")
    for number, name in enumerate(names):
        ratios = {(row["task"], row["size"]): row["ratio"] for row in rows if row["network"] == name}
        x = [place + (number - (len(names) - 1) / 2) * 0.8 / len(names) for place in range(len(places))]
        bars = axes.bar(x, [ratios.get(place, 0) for place in places], 0.8 / len(names), label=name)  # type: ignore[misc]
        axes.bar_label(bars, fmt=lambda ratio: f"{ratio:.2f}" if ratio else "", fontsize=7)
    axes.set_xticks(range(len(places)), [f"{task}\n{size}" for task, size in places], fontsize=8)
    axes.set_ylabel("times as fast as published fp32")
    axes.set_title(machine, fontsize=8)
    figure.legend(fontsize=7, loc="outside lower center", ncols=len(names))
    figure.savefig(path, dpi=120)


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        name = told.get("model name", platform.processor())
        # Virtual machines often hide the name; these two still tell one generation from another.
        if "cpu family" in told and "model" in told:
            name += f" (family {told['cpu family']}, model {told['model']})"
        name = f"{name}, {torch.get_num_threads()} threads"
    return f"{name}, PyTorch {torch.__version__}"


def size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def main() -> None:
    parser = argparse.ArgumentParser(description=Path(__file__).stem)
    parser.add_argument("--task", choices=WIDTHS, nargs="+", default=list(WIDTHS))
    parser.add_argument("--size", type=size, nargs="+", default=[(256, 256)], metavar="HEIGHT[xWIDTH]")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--compiled", action="store_true", help="ours compiled too, which takes minutes for each")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the machine, for the share")
    parser.add_argument("--save", action="store_true", help="write docs/inference.json and docs/inference.png")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    a = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    if a.one:
        print(peak_memory(a.task[0], *a.size[0], a.one, a.device))
        return
    measure = compare_memory if a.memory else compare
    print(machine(a.device))
    rows = [row for task in a.task for one in a.size for row in measure(task, *one, a)]
    if a.save and not a.memory:
        (DOCS / "inference.json").write_text(json.dumps({"machine": machine(a.device), "rows": rows}, indent=1) + "\n")
        figure(rows, DOCS / "inference.png", machine(a.device))


if __name__ == "__main__":
    main()
