"""What a run says of itself: the settings it had, the machine, figures, curves."""

import csv
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import torch
from yacs.config import CfgNode

from mprnet.files import replacing

COLUMNS = ("epoch", "lr", "loss", "skipped_steps", "input_psnr", "psnr", "best_psnr")


def write_start(folder: Path, settings: CfgNode) -> None:
    """settings.yml, every value there was, and environment.json: versions, device, git revision, command."""
    with replacing(folder / "settings.yml") as unfinished:
        unfinished.write_text(settings.dump(), encoding="utf-8")
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "git": _git_revision(),
        "command": sys.argv,
    }
    with replacing(folder / "environment.json") as unfinished:
        unfinished.write_text(json.dumps(environment, indent=2), encoding="utf-8")


def write_log(folder: Path, history: Sequence[dict[str, Any]]) -> None:
    """log.csv, a line per epoch, and curves.png."""
    with replacing(folder / "log.csv") as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(history)
    _draw_curves(folder / "curves.png", history)


def _draw_curves(path: Path, history: Sequence[dict[str, Any]]) -> None:
    figure = matplotlib.figure.Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([row["epoch"] for row in history], [row["loss"] for row in history])
    left.set(xlabel="epoch", ylabel="training loss, mean per sample", yscale="log")
    validated = [row for row in history if "psnr" in row]
    for column, label in (("psnr", "restored"), ("input_psnr", "input")):
        right.plot([row["epoch"] for row in validated], [row[column] for row in validated], label=label)
    right.set(xlabel="epoch", ylabel="validation PSNR, dB")
    if validated:
        right.legend()
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)


def _git_revision() -> str:
    try:
        here = Path(__file__).parent
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip()
