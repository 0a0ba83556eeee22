"""The parts of benchmarks/gpu.py about training: waits of a step, the loader that feeds it, and time and memory."""

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from gpu_parts import Check, find_known_peak, measure_peak
from loading import TimedLoader, prepare_pairs
from published import NETWORKS
from training import count_operations

from mprnet import MPRNet
from mprnet.inference.distributed import World
from mprnet.training.keys import get_defaults
from mprnet.training.loading import choose_workers, load_batches, stop_workers
from mprnet.training.mixup import draw_mixup
from mprnet.training.samples import TrainingSamples
from mprnet.training.step import Stepper

# What may wait, in a training step of each.
WAITS: dict[str, list[object]] = {
    "fp32": [],
    "bf16, two parts, clipping, EMA": [
        *("TRAINING.PRECISION", "bf16", "OPTIM.ACCUMULATE", 2),
        *("OPTIM.GRAD_CLIP", 1.0, "OPTIM.EMA", 0.99),
    ],
    "fp16, checkpointing": ["TRAINING.PRECISION", "fp16", "TRAINING.CHECKPOINTING", True],
}
# Of training.py. The compiled ones take minutes at first, so they are last.
VARIANTS = ["ours bf16", "ours fp32", "ours bf16, compiled"]
STEPS_OF_A_RECIPE = 400_000
_SECONDS_TO_PRINT = 5.0  # that a part keeps at its end


def make_stepper(check: Check, task: str, options: list[object]) -> Stepper:
    """Return a new network of a task, and what makes its training steps."""
    torch.manual_seed(0)
    settings = get_defaults()
    settings.merge_from_list(options)
    return Stepper(MPRNet(*NETWORKS[task]).train(), settings, World(0, 1, check.device))


def make_batch(check: Check, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random images, degraded and target, as the loader gives them: uint8, pinned for a GPU."""
    images = torch.randint(0, 256, (2, count, 3, check.patch, check.patch)).byte()
    degraded, target = images.pin_memory() if check.device.type == "cuda" else images
    return degraded, target


@contextlib.contextmanager
def forbid_waits(device: torch.device) -> Iterator[list[int]]:
    """In this context, waiting for the device is an error, except in Tensor.tolist. Yield a list with an item for each
    call of it.
    """
    calls: list[int] = []
    tolist = torch.Tensor.tolist

    def set_mode(mode: str) -> None:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode(mode)

    def allowed(tensor: torch.Tensor) -> object:
        calls.append(tensor.numel())
        set_mode("default")
        try:
            return tolist(tensor)
        finally:
            set_mode("error")

    with patch.object(torch.Tensor, "tolist", allowed):
        set_mode("error")
        try:
            yield calls
        finally:
            set_mode("default")


def count_waits(check: Check) -> None:
    """Print how often a training step waits for the device. PyTorch raises an error if it waits elsewhere."""
    count = min(check.batch, 4)
    print("| step | waits for the device |\n|---|---|")
    for name, options in WAITS.items():
        stepper = make_stepper(check, check.tasks[-1], options)
        mixup = draw_mixup(count, 1.0, [0])
        for _ in range(2):  # the first steps allocate what the later ones use again
            stepper.update(*make_batch(check, count), (count, count), mixup, get_flags=lambda: (0.0, 0.0))
        batch = make_batch(check, count)
        with forbid_waits(check.device) as calls:
            stepper.update(*batch, (count, count), mixup, get_flags=lambda: (0.0, 0.0))
        print(f"| {name} | {len(calls)} |", flush=True)
    if check.device.type != "cuda":
        print("\nRehearsed: on this device, PyTorch does not notice waits.")


def measure_feeding(check: Check) -> None:
    """Print how fast the loader reads prepared pictures, and the time of steps that it feeds.

    If a step does not fit in memory, the batch is halved.
    """
    while True:
        try:
            return measure_fed_steps(check)
        except torch.OutOfMemoryError:
            if check.batch == 1:
                raise
        torch.cuda.empty_cache()
        check = dataclasses.replace(check, batch=check.batch // 2)


def measure_fed_steps(check: Check) -> None:
    """Do what ``measure_feeding`` says, for one size of batches."""
    workers, task = choose_workers(), check.tasks[0]
    width, height = check.picture
    stepper = make_stepper(check, task, ["TRAINING.PRECISION", "bf16"])
    batch, counts = make_batch(check, check.batch), (check.batch, check.batch)
    times = []
    for _ in range(2 + 2 * check.steps):
        start = time.perf_counter()
        stepper.update(*batch, counts)  # reads from the device at its end
        times.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as name:
        data = prepare_pairs(Path(name), 2 * check.batch, width, height, check.patch)[1]
        data.pairs = list(data.pairs) * check.steps  # an epoch of more steps: the first one waits for the workers
        loader = TimedLoader(TrainingSamples(data, 0), check.batch, workers, check.device.type == "cuda")
        loader.run(1)
        loader.run(5)
        waited, start = 0.0, time.perf_counter()
        loader.sampler.epoch += 1
        batches = load_batches(loader.loader)
        for _ in range(2 * check.steps):
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            stepper.update(*batch, counts)
        seconds = time.perf_counter() - start
        stop_workers(loader.loader)
    print(
        f"Pairs of {width}x{height}, prepared; {workers} workers; {task} in bf16, batches of {check.batch}. The loader "
        f"alone gives {loader.speeds[-1]:,.0f} samples a second.\n"
    )
    print("| steps of | seconds for a step | waited for data |\n|---|---|---|")
    print(f"| the same batch again and again | {statistics.mean(times[2:]):.4f} | |")
    print(f"| the loader's batches | {seconds / (2 * check.steps):.4f} | {100 * waited / seconds:.1f} % |")


def measure_steps(check: Check) -> None:
    """Print time and memory of a training step, for each task."""
    peaks = {is_bf16: measure_peak(check, is_bf16) for is_bf16 in (True, False)}
    known = {is_bf16: find_known_peak(check.device, is_bf16) for is_bf16 in (True, False)}
    for is_bf16, name in ((True, "bf16"), (False, "TF32")):
        sheet = f"; the data sheet says {known[is_bf16]:,.0f}" if known[is_bf16] else ""
        print(f"Products of matrices in {name} reach {peaks[is_bf16]:,.4g} TFLOP/s{sheet}.\n")
    print("Convolutions of fp32 steps compute in TF32, as in training.\n")
    print(f"| task | step | batch | seconds | GiB | TFLOP/s | of the products | {STEPS_OF_A_RECIPE:,} steps |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for variant in VARIANTS:
        for task in check.tasks:
            cells = measure_step(check, task, variant, peaks["bf16" in variant])
            cells += [""] * (6 - len(cells))
            print(f"| {task} | {variant.removeprefix('ours ')} | {' | '.join(cells)} |", flush=True)


def measure_step(check: Check, task: str, variant: str, peak: float) -> list[str]:
    """Return the cells of a row of the table, or what has failed. If the batch does not fit in memory, it is halved."""
    batch = check.batch
    while True:
        seconds = check.seconds_left - _SECONDS_TO_PRINT
        if seconds <= 0:
            return [str(batch), "no time left"]
        command = [sys.executable, str(Path(__file__).with_name("training.py")), "--only", variant, "--tf32"]
        command += ["--task", task, "--batch", str(batch), "--patch", str(check.patch), "--steps", str(check.steps)]
        try:
            run = subprocess.run(
                [*command, "--device", str(check.device)],
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [str(batch), "no time left"]
        if run.returncode == 0:
            break
        if "out of memory" not in run.stderr or batch == 1:
            problem = (run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1]
            return [str(batch), f"failed: {problem[:200].replace('|', '/')}"]
        batch //= 2
    result = json.loads(run.stdout.splitlines()[-1])
    speed = count_operations(task, batch, check.patch) / result["seconds"] / 1e12
    # Smaller batches need more steps for as many samples.
    hours = STEPS_OF_A_RECIPE * result["seconds"] * check.batch / batch / 3600
    memory = f"{result['bytes'] / 2**30:.1f}"
    return [
        str(batch),
        f"{result['seconds']:.4f}",
        memory,
        f"{speed:.3g}",
        f"{100 * speed / peak:.0f} %",
        f"{hours:,.1f} hours",
    ]
