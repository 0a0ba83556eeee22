"""Time and peak memory of one training step: ours, and a plain step of the published network.

    pip install -e ".[bench]"
    python benchmarks/training.py --task Deraining --batch 4 --patch 128

The plain step runs the network of the package spandrel_extra_arches in fp32, with the same loss and Adam. Ours is the
step of the trainer, with the settings in VARIANTS. Each runs in a separate process, so that peak memory can be
measured. They run by turns, so that the machine is in the same state for all. Memory is the growth of the process from
before the network is made (on CUDA: the peak of the allocator).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from operations import count_flops
from published import NETWORKS, load_published

from mprnet import MPRNet
from mprnet.inference.distributed import World
from mprnet.training.keys import get_defaults
from mprnet.training.losses import RestorationLoss
from mprnet.training.step import Stepper

VARIANTS: dict[str, dict[str, object]] = {
    "ours fp32": {},
    "ours bf16": {"PRECISION": "bf16"},
    "ours bf16, checkpointing": {"PRECISION": "bf16", "CHECKPOINTING": True},
    "ours bf16, compiled": {"PRECISION": "bf16", "COMPILE": True},
}
PLAIN = "published plain"


def plain_step(task: str, device: torch.device) -> Callable[[torch.Tensor, torch.Tensor], object]:
    """Return a training step of the published network."""
    network = load_published(MPRNet(*NETWORKS[task]), device).train().requires_grad_()
    optimizer = torch.optim.Adam(network.parameters(), 2e-4)
    restoration_loss = RestorationLoss(0.05).to(device)

    def step(degraded: torch.Tensor, target: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss = restoration_loss(network(degraded), target)
        loss.backward()
        optimizer.step()

    return step


def our_step(task: str, variant: str, device: torch.device) -> Callable[[torch.Tensor, torch.Tensor], object]:
    """Return a training step of the trainer."""
    settings = get_defaults()
    for key, value in VARIANTS[variant].items():
        settings.TRAINING[key] = value
    stepper = Stepper(MPRNet(*NETWORKS[task]).train(), settings, World(0, 1, device))

    def step(degraded: torch.Tensor, target: torch.Tensor) -> None:
        stepper.update(degraded, target, (len(target), len(target)))

    return step


def count_operations(task: str, batch: int, patch: int) -> float:
    """Return the floating-point operations of a step: forward, and twice as many backward."""
    with torch.device("meta"):
        network = MPRNet(*NETWORKS[task])
    return 3 * count_flops(network, (batch, 3, patch, patch))


def measure(
    task: str, variant: str, batch: int, patch: int, steps: int, device: torch.device, tf32: bool = False
) -> dict[str, float]:
    """Return the median seconds of a step, after two steps to warm up, and the peak memory in bytes.

    Args:
        tf32: convolve in TF32 on GPUs that can, as training does. The published step is in fp32.
    """
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = plain_step(task, device) if variant == PLAIN else our_step(task, variant, device)
    degraded, target = torch.rand(2, batch, 3, patch, patch, device=device)
    times = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        step(degraded, target)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {"seconds": statistics.median(times[2:]), "bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of a training step.")
    parser.add_argument("--task", choices=NETWORKS, default="Deraining")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2, help="how often each variant is measured")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, to print the share of it")
    parser.add_argument(
        "--tf32", action="store_true", help="convolve in TF32 in fp32 steps, as PyTorch does by default"
    )
    parser.add_argument("--only", choices=[PLAIN, *VARIANTS], help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.only:
        print(json.dumps(measure(a.task, a.only, a.batch, a.patch, a.steps, torch.device(a.device), a.tf32)))
        return
    names = [PLAIN, *VARIANTS]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(a.rounds):
        for name in names:
            run = subprocess.run(
                [sys.executable, *sys.argv, "--only", name], stdout=subprocess.PIPE, text=True, check=True
            )
            results[name].append(json.loads(run.stdout.splitlines()[-1]))
    print(f"{a.task}, {a.batch} x {a.patch}x{a.patch} on {a.device}, {torch.get_num_threads()} threads")
    work = count_operations(a.task, a.batch, a.patch)
    print(f"a step is {work / 1e12:.2f} TFLOP")
    plain = {key: min(r[key] for r in results[PLAIN]) for key in ("seconds", "bytes")}
    for name in names:
        best = {key: min(r[key] for r in results[name]) for key in ("seconds", "bytes")}
        print(
            f"{name:26} {best['seconds']:8.3f} s  {plain['seconds'] / best['seconds']:5.2f} times as fast  "
            f"{best['bytes'] / 2**30:6.2f} GiB  {best['bytes'] / plain['bytes']:5.2f} of the memory  "
            f"{work / best['seconds'] / 1e12:6.2f} TFLOP/s"
            + (f", {work / best['seconds'] / 1e10 / a.peak:.0f} % of the peak" if a.peak else "")
            + f"; 400,000 steps: {400_000 * best['seconds'] / 3600:,.0f} hours"
        )


if __name__ == "__main__":
    main()
