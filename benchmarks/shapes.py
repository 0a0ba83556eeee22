"""Time and quality of networks of different shapes, from which the shapes of the bundled networks were chosen.

    pip install -e ".[bench]"
    python benchmarks/shapes.py                        # all shapes: time, then an equal, short training of each
    python benchmarks/shapes.py --shapes 16/16/0/2     # only these
    python benchmarks/shapes.py --steps 0              # only the times

A shape is N_FEAT/SCALE_UNETFEATS/SCALE_ORSNETFEATS/NUM_CAB. Time is that of a picture of 512x512 on one thread, by
turns, in seconds of the processor: other programs on the machine hardly change it. Quality is the PSNR of generated
pictures and of six photographs with noise of sigma 25 after an equal, short training. It compares shapes; a full
training gives more.

What is measured is kept in docs/shapes.json, and not measured again; trainings continue where they were stopped. Writes
docs/shapes.png, and prints a table.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from inference import describe_machine
from photographs import load_crops

from mprnet import MPRNet, Restorer, load_model
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.metrics import psnr

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "shapes.json"
# The first generation of the bundled networks. The others are compared with them.
LITE, PLUS = "16/8/8/4", "32/16/16/2"
SHAPES = [LITE, PLUS]
SHAPES += ["16/16/0/1", "16/16/0/2", "16/16/0/3", "16/32/0/1", "16/48/0/1", "16/16/16/1", "16/32/16/2", "24/8/8/2"]
SHAPES += ["32/0/0/2", "32/16/0/2", "32/32/0/1", "32/32/0/2", "32/32/0/3", "32/16/16/1", "16/48/16/4", "16/32/16/6"]
SHAPES += ["48/16/0/1"]
KEYS = ("N_FEAT", "SCALE_UNETFEATS", "SCALE_ORSNETFEATS", "NUM_CAB")
SIZE, BATCH, PATCH, SIGMA = 512, 6, 64, 25


def make_network(shape: str) -> MPRNet:
    return MPRNet(*map(int, shape.split("/"))).eval()


def load_results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"shapes": {}}


def save_result(shape: str, values: dict[str, Any]) -> None:
    results = load_results()
    results["machine"] = describe_machine(torch.device("cpu"))
    results["shapes"].setdefault(shape, {}).update(values)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def measure_times(shapes: list[str], precision: str, rounds: int) -> None:
    """Measure shapes and those that they are compared with, by turns, and save the least times and their ratios."""
    torch.set_num_threads(1)
    image = torch.rand(1, 3, SIZE, SIZE)
    networks = {
        shape: Restorer(make_network(shape), "cpu", precision, tile="none")
        for shape in dict.fromkeys([LITE, PLUS, *shapes])
    }
    times: dict[str, list[float]] = {shape: [] for shape in networks}
    for number in range(rounds):
        for shape, network in networks.items():
            start = time.process_time()
            network(image)
            times[shape].append(time.process_time() - start)
            print(f"round {number + 1}, {precision}: {shape:12} {times[shape][-1]:6.2f} s", flush=True)
    best = {shape: min(values) for shape, values in times.items()}
    for shape in networks:
        # The ratios are those of one run: the machine can be in another state in the next one.
        ratios = {"of lite": best[shape] / best[LITE], "of plus": best[shape] / best[PLUS]}
        values = {"seconds": best[shape], **ratios}
        save_result(shape, {precision: {name: round(value, 3) for name, value in values.items()}})


def train(shape: str, steps: int, folder: Path) -> None:
    """Train a shape for some steps, and save the PSNR of generated pictures and of photographs."""
    run = folder / "Denoising" / "models" / f"{shape.replace('/', '_')}_{steps}"
    settings = {
        **{f"MODEL.{key}": value for key, value in zip(KEYS, shape.split("/"), strict=True)},
        "MODEL.SESSION": run.name,
        "OPTIM.BATCH_SIZE": BATCH,
        "OPTIM.NUM_EPOCHS": 10,
        "OPTIM.LR_INITIAL": 1e-3,
        "OPTIM.GRAD_CLIP": 0.2,
        "OPTIM.WARMUP_EPOCHS": 1,
        "TRAINING.TRAIN_PS": PATCH,
        "TRAINING.VAL_AFTER_EVERY": 10,
        "TRAINING.SAVE_DIR": folder,
        "TRAINING.RESUME": "auto",
        "TRAINING.SAVE_MINUTES": 5,
        "TRAINING.COMPILE": False,
        "TRAINING.WORKERS": 0,
        "SYNTHETIC.DEGRADATION": "noise",
        "SYNTHETIC.PICTURES": 320,
        "SYNTHETIC.SAMPLES_PER_EPOCH": steps * BATCH // 10,
    }
    arguments = [str(item) for pair in settings.items() for item in pair]
    config = ROOT / "Denoising" / "training_lite.yml"
    command = [sys.executable, str(ROOT / "Denoising" / "train.py"), "--config", str(config), *arguments]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    with (run / "log.csv").open() as file:
        generated = float([*csv.DictReader(file)][-1]["best_psnr"])
    restorer = Restorer(load_model(run / "model_best.pth"))
    scores = []
    for number, clean in enumerate(load_crops().values()):
        noisy = gaussian_noise(np.random.default_rng(number), clean, SIGMA)
        scores.append(psnr(restorer(noisy), clean))
    photographs = round(float(np.mean(scores)), 3)
    save_result(shape, {"steps": steps, "generated": round(generated, 3), "photographs": photographs})


def print_table(results: dict[str, dict[str, Any]]) -> None:
    """Print a line for each shape; times also as fractions of those of the first generation."""
    print("| shape | parameters | fp32 | of lite | of plus | bf16 | of lite | of plus | generated | photographs |")
    print("|---" * 10 + "|")
    timed = {shape: values for shape, values in results.items() if "fp32" in values}
    for shape, values in sorted(timed.items(), key=lambda item: item[1]["fp32"]["of plus"]):
        parameters = sum(p.numel() for p in make_network(shape).parameters())
        cells = [shape, f"{parameters / 1e6:.2f} M"]
        for precision in ("fp32", "bf16"):
            t = values.get(precision)
            cells += [f"{t['seconds']:.2f} s", f"{t['of lite']:.2f}", f"{t['of plus']:.2f}"] if t else [""] * 3
        cells += [f"{values[key]:.2f}" if key in values else "" for key in ("generated", "photographs")]
        print("| " + " | ".join(cells) + " |")


def draw_figure(results: dict[str, dict[str, Any]], machine: str) -> None:
    """Draw quality against time, with the limits of time of lite and plus."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for shape, values in results.items():
        if "photographs" in values and "fp32" in values:
            point = values["fp32"]["of plus"], values["photographs"]
            is_first = shape in (LITE, PLUS)
            axes.plot(*point, "o", color="tab:red" if is_first else "tab:blue")
            name = f"{shape} (the first {'lite' if shape == LITE else 'plus'})" if is_first else shape
            axes.annotate(name, point, (4, 4), textcoords="offset points", fontsize=8)
    limits = {"0.65 of the first lite": 0.65 * results[LITE]["fp32"]["of plus"], "the first plus": 1.0}
    for text, limit in limits.items():
        axes.axvline(limit, color="grey", linestyle=":")
        axes.annotate(
            text, (limit, 0.02), (3, 0), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8
        )
    axes.set_xlabel(f"time for {SIZE}x{SIZE} in fp32, of that of the first plus")
    axes.set_ylabel(f"PSNR of six photographs, sigma {SIGMA}, dB")
    steps = sorted({values["steps"] for values in results.values() if "steps" in values})
    axes.set_title(f"after {' or '.join(map(str, steps))} steps; {machine}", fontsize=8)
    axes.margins(x=0.2, y=0.12)
    axes.grid(alpha=0.3)
    figure.savefig(RESULTS.with_suffix(".png"), dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and quality of networks of different shapes.")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="N/U/O/C")
    parser.add_argument("--steps", type=int, default=1500, help="of the short training; 0: only times")
    parser.add_argument("--rounds", type=int, default=3, help="how often each time is measured")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "Denoising" / "checkpoints" / "shapes", help="for the trainings"
    )
    a = parser.parse_args()
    for precision in a.precision:
        known = load_results()["shapes"]
        if missing := [shape for shape in a.shapes if precision not in known.get(shape, {})]:
            measure_times(missing, precision, a.rounds)
    for shape in a.shapes:
        if a.steps and load_results()["shapes"][shape].get("steps") != a.steps:
            train(shape, a.steps, a.folder)
    results = load_results()
    print_table(results["shapes"])
    if any("photographs" in values for values in results["shapes"].values()):
        draw_figure(results["shapes"], results["machine"])


if __name__ == "__main__":
    main()
