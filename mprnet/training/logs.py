"""What a run says of itself: the settings it had, the machine, lines, figures, curves."""

import csv
import io
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.files import write_whole
from mprnet.training.curves import draw_curves

LOG = "log.csv"
COLUMNS = ("epoch", "step", "lr", "loss", "skipped_steps", "input_psnr", "psnr", "best_psnr")


class Journal:
    """A run's log: a row of figures for each epoch and for each validation within one.

    Writes log.csv, curves.png, log.txt (what was printed, with the time) and, where tensorboard is installed, its event
    files. Only the main process (``writes``) prints and writes; all keep the rows.
    """

    def __init__(self, folder: Path, writes: bool) -> None:
        self.folder = folder
        self.writes = writes
        self.history: list[dict[str, Any]] = []
        self._tensorboard: Any = None

    def start(self, settings: CfgNode, steps_done: int) -> None:
        """Write settings.yml and environment.json (versions, device, git revision, command).

        Args:
            steps_done: updates before this start; what TensorBoard shows after them is to be replaced.
        """
        if not self.writes:
            return
        write_whole(self.folder / "settings.yml", settings.dump().encode())
        write_whole(self.folder / "environment.json", json.dumps(_environment(), indent=2).encode())
        self._tensorboard = _tensorboard_writer(self.folder, steps_done)

    def say(self, line: str) -> None:
        """Print a line, above any progress bar, and add it to log.txt."""
        if self.writes:
            tqdm.write(line)
            with open(self.folder / "log.txt", "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def add(self, row: dict[str, Any]) -> None:
        """Enter a row: of ``COLUMNS``, those that it has. Files that cannot be written cost a warning, not the run."""
        self.history.append(row)
        if not self.writes:
            return
        try:
            self._write(row)
        except (UserError, OSError) as error:
            tqdm.write(f"warning: the log lacks {_line(row)} ({error})", file=sys.stderr)

    def _write(self, row: dict[str, Any]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(self.history)
        write_whole(self.folder / LOG, text.getvalue().encode())
        draw_curves(self.folder / "curves.png", {"restored": self.history})
        self.say(_line(row))
        if self._tensorboard is not None:
            for name, value in row.items():
                if name not in ("epoch", "step"):
                    self._tensorboard.add_scalar(name, value, row["step"])
            self._tensorboard.flush()

    def close(self) -> None:
        """Let go of TensorBoard's file."""
        if self._tensorboard is not None:
            self._tensorboard.close()


def _line(row: dict[str, Any]) -> str:
    line = f"epoch {row['epoch']}: loss {row['loss']:.5f}"
    if row["skipped_steps"]:
        line += f", {row['skipped_steps']} steps skipped (loss or gradient not finite or too large)"
    if "psnr" in row:
        line += f", validation {row['psnr']:.3f} dB (input {row['input_psnr']:.3f}, best {row['best_psnr']:.3f})"
    return line


def _tensorboard_writer(folder: Path, steps_done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1)


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "git": _git_revision(),
        "command": sys.argv,
    }


def _git_revision() -> str:
    try:
        here = Path(__file__).parent
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip()
