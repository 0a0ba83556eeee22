"""Time and memory of one forward pass: the published network and ours, with the same weights and input.

    pip install -e ".[bench]"
    python benchmarks/inference.py                                   # each task at 256x256
    python benchmarks/inference.py --task Deraining --size 256 512 1024
    python benchmarks/inference.py --device cuda --task Deblurring --size 720x1280 --peak 790
    python benchmarks/inference.py --network paper lite plus         # also the shapes of the bundled networks
    python benchmarks/inference.py --operations                      # which operations of ours take the time
    python benchmarks/inference.py --memory                          # peak memory, in separate processes

The published network is that of the package spandrel_extra_arches, run eagerly in fp32 (on a GPU without TF32, and also
in bf16). Ours runs in fp32, in the precision `auto`, and compiled if asked for. All run by turns in one process, so
that the machine is in the same state for all. Medians are compared. For all, the number of operations is that of the
published network, 2 per multiplication and addition; ours does fewer operations.

The share of the peak is relative to the fastest matrix product in the same run, or to --peak, in TFLOP/s. The speed of
a large 3x3 convolution is printed beside it. Where other programs run, --threads 1 gives steadier figures.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from arguments import parse_count, parse_device, parse_size
from operations import convolution_peak, costliest_operations, count_flops, matrix_peak, print_operations, seconds
from published import WIDTHS, load_published
from torch import Tensor

from mprnet import MPRNet, Restorer, load_model
from mprnet.apps.options import parse_positive
from mprnet.inference.precision import DTYPES, choose_precision
from mprnet.tasks import GRADES, available_weights, find_task

DOCS = Path(__file__).parents[1] / "docs"
NETWORKS = ("paper", *GRADES)
Run = Callable[[], object]


def make_network(task: str, network: str) -> MPRNet:
    """Return the paper's network of a task, with random weights, or a bundled one."""
    torch.manual_seed(0)
    if network == "paper":
        return MPRNet(*WIDTHS[task]).eval()
    return load_model(available_weights(find_task(task))[network])


def make_runs(model: MPRNet, image: Tensor, device: torch.device, compiled: bool) -> dict[str, Run]:
    """Return the runs to measure, by name; the first is the published network in fp32."""
    theirs = load_published(model).eval().to(device)
    runs: dict[str, Run] = {"published fp32": lambda: last_stage(theirs(image))}
    if device.type == "cuda":
        half = load_published(model).eval().to(device).bfloat16()
        runs["published bf16"] = lambda: last_stage(half(image.bfloat16()))
    auto = choose_precision("auto", device, model.config["n_feat"])
    for precision in dict.fromkeys(("fp32", auto)):
        ours = Restorer(model, str(device), precision, tile="none")
        runs[f"ours {precision}" + (" (auto)" if precision == auto else "")] = partial(ours, image)
    if compiled:
        fast = Restorer(model, str(device), "auto", tile="none", compiled=True)
        runs[f"ours {fast.precision}, compiled"] = partial(fast, image)
    return runs


def last_stage(output: Tensor | list[Tensor]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def measure_peaks(device: torch.device) -> dict[str, float]:
    """Measure and print the FLOP/s of large products and convolutions. Return those of the products, by precision."""
    peaks = {}
    for name in ("fp32", "bf16"):
        peaks[name] = matrix_peak(device, DTYPES[name])
        convolution = convolution_peak(device, DTYPES[name])
        print(f"{name}: a matrix product reaches {peaks[name] / 1e12:.3f} TFLOP/s, ", end="")
        print(f"a 3x3 convolution {convolution / 1e12:.3f} TFLOP/s", flush=True)
    return peaks


@torch.inference_mode()
def compare(task: str, network: str, height: int, width: int, a: argparse.Namespace) -> list[dict[str, object]]:
    """Measure and print one row for each run, and return the rows."""
    image = torch.rand(1, 3, height, width, device=a.device)
    model = make_network(task, network)
    operations = count_flops(load_published(model), image.shape)
    runs = make_runs(model, image, a.device, a.compiled)
    reference = last_stage(runs["published fp32"]()).clamp(0, 1)  # type: ignore[arg-type]
    differences = {name: float((run().float().clamp(0, 1) - reference).abs().max()) for name, run in runs.items()}  # type: ignore[attr-defined]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(a.repeats):
        for name, run in runs.items():
            times[name].append(seconds(run, a.device))
    median = {name: statistics.median(values) for name, values in times.items()}
    rows: list[dict[str, object]] = []
    for name in runs:
        speed = operations / median[name]
        peak = 1e12 * a.peak if a.peak else a.peaks["bf16" if "bf16" in name else "fp32"]
        rows.append(
            {
                "task": title(task, network),
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
            f"{rows[-1]['task']:15} {height}x{width} {name:22} {median[name]:8.3f} s  "
            f"{rows[-1]['ratio']:5.2f} times as fast  "
            f"{speed / 1e12:7.3f} TFLOP/s  {speed / peak:4.0%} of a matrix product  difference {differences[name]:.1e}",
            flush=True,
        )
    return rows


def title(task: str, network: str) -> str:
    return task if network == "paper" else f"{task} {network}"


@torch.inference_mode()
def show_operations(task: str, network: str, height: int, width: int, a: argparse.Namespace) -> list[dict[str, object]]:
    """Print the costliest operations of our network, in fp32 and in the precision `auto`. Return no rows."""
    image = torch.rand(1, 3, height, width, device=a.device)
    runs = make_runs(make_network(task, network), image, a.device, compiled=False)
    for name in [name for name in runs if name.startswith("ours")]:
        print(f"\n{title(task, network)} {height}x{width}, {name}\n")
        print_operations(costliest_operations(runs[name], a.device))
    return []


def peak_memory(task: str, network: str, height: int, width: int, name: str, device: torch.device) -> float:
    """Return by how many bytes the memory of this process grows in one pass. Call it in a new process."""
    small = torch.rand(1, 3, 64, 64, device=device)
    image = torch.rand(1, 3, height, width, device=device)
    model = make_network(task, network)
    ours = None if name == "published" else Restorer(model, str(device), name, tile="none")
    run: Callable[[Tensor], object] = ours or load_published(model).eval().to(device)
    with torch.inference_mode():
        run(small)  # loads libraries
        if device.type == "cuda":
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            run(image)
            return torch.cuda.max_memory_allocated(device) - before
        before = 1024 * int(Path("/proc/self/statm").read_text().split()[1]) * (resource.getpagesize() // 1024)
        run(image)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def compare_memory(task: str, network: str, height: int, width: int, a: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name in ("published", "fp32", "bf16"):
        command = [sys.executable, "-W", "ignore", __file__, "--one", name, "--task", task, "--device", str(a.device)]
        output = subprocess.run(
            [*command, "--network", network, "--size", f"{height}x{width}"], check=True, capture_output=True, text=True
        ).stdout
        growth = float(output.split()[-1])
        share = growth / float(rows[0]["bytes"]) if rows else 1.0  # type: ignore[arg-type]
        subject = title(task, network)
        rows.append({"task": subject, "size": f"{height}x{width}", "network": name, "bytes": growth, "share": share})
        print(
            f"{subject:15} {height}x{width} {name:10} {growth / 2**30:6.2f} GiB  {share:.2f} of the published",
            flush=True,
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
        threads = torch.get_num_threads()
        name = f"{name}, {threads} thread{'s' * (threads > 1)}"
    return f"{name}, PyTorch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=Path(__file__).stem)
    parser.add_argument("--task", choices=WIDTHS, nargs="+", default=list(WIDTHS))
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=["paper"], help="default: the paper's sizes")
    parser.add_argument("--size", type=parse_size, nargs="+", default=[(256, 256)], metavar="HEIGHT[xWIDTH]")
    parser.add_argument("--repeats", type=parse_count, default=5)
    parser.add_argument("--device", type=parse_device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=parse_count, help="of the CPU; 1: times are the processor's")
    parser.add_argument("--compiled", action="store_true", help="also measure ours compiled, which takes minutes")
    parser.add_argument("--operations", action="store_true", help="the ten costliest operations instead of the time")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--peak", type=parse_positive, help="TFLOP/s of the machine, for the share of the peak")
    parser.add_argument("--save", action="store_true", help="write docs/inference.json and docs/inference.png")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    a = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    if a.threads:
        torch.set_num_threads(a.threads)
    if a.one:
        print(peak_memory(a.task[0], a.network[0], *a.size[0], a.one, a.device))
        return
    measure = compare_memory if a.memory else show_operations if a.operations else compare
    machine = describe_machine(a.device)
    print(machine)
    if measure is compare:
        a.peaks = measure_peaks(a.device)
    choices = product(a.task, a.network, a.size)
    rows = [row for task, network, size in choices for row in measure(task, network, *size, a)]
    if a.save and measure is compare:
        (DOCS / "inference.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
        draw_figure(rows, DOCS / "inference.png", machine)


if __name__ == "__main__":
    main()
