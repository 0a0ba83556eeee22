"""What a run says of itself: the settings it had, the machine, figures, curves."""

import csv
import io
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

from mprnet.files import write_whole

COLUMNS = ("epoch", "lr", "loss", "skipped_steps", "input_psnr", "psnr", "best_psnr")


def write_start(folder: Path, settings: CfgNode) -> None:
    """settings.yml, every value there was, and environment.json: versions, device, git revision, command."""
    write_whole(folder / "settings.yml", settings.dump().encode())
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "git": _git_revision(),
        "command": sys.argv,
    }
    write_whole(folder / "environment.json", json.dumps(environment, indent=2).encode())


def write_log(folder: Path, history: Sequence[dict[str, Any]]) -> None:
    """log.csv, a line per epoch, and curves.png."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(history)
    write_whole(folder / "log.csv", text.getvalue().encode())
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
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    write_whole(path, file.getvalue())


def _git_revision() -> str:
    try:
        here = Path(__file__).parent
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip()
