"""What a run says of itself: the settings it had, the machine, lines, figures, curves."""

import contextlib
import csv
import importlib.util
import io
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.files import write_atomically
from mprnet.training.curves import draw_curves
from mprnet.training.state import keep_until

LOG = "log.csv"
SETTINGS = "settings.yml"
COLUMNS = ("epoch", "step", "lr", "loss", "skipped_steps", "input_psnr", "psnr", "best_psnr", "validation_set")


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
        self._write_settings(settings.dump(), steps_done)
        write_atomically(self.folder / "environment.json", json.dumps(_environment(), indent=2).encode())
        with self._optional("TensorBoard"):
            self._tensorboard = _tensorboard_writer(self.folder, steps_done)

    def _write_settings(self, text: str, steps_done: int) -> None:
        """Write settings.yml. What was in it stays readable under another name if it is not the same."""
        path = self.folder / SETTINGS
        if path.exists() and _without_resume(path.read_text(encoding="utf-8")) != _without_resume(text):
            keep_until(path, steps_done)
        write_atomically(path, text.encode())

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
        except Exception as error:
            tqdm.write(f"warning: the log lacks {_line(row)} ({error})", file=sys.stderr)

    def _write(self, row: dict[str, Any]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(self.history)
        write_atomically(self.folder / LOG, text.getvalue().encode())
        self.say(_line(row))
        if "psnr" in row:  # which the last row has, too; drawing takes as long as some short epochs
            draw_curves(self.folder / "curves.png", {"restored": self.history})
        with self._optional("TensorBoard"):
            self._write_tensorboard(row)

    def _write_tensorboard(self, row: dict[str, Any]) -> None:
        if self._tensorboard is None:
            return
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self._tensorboard.add_scalar(name, value, row["step"])
        self._tensorboard.flush()

    def close(self) -> None:
        """Let go of TensorBoard's file."""
        with self._optional("TensorBoard"):
            if self._tensorboard is not None:
                self._tensorboard.close()

    @contextlib.contextmanager
    def _optional(self, name: str) -> Iterator[None]:
        """Do in here what a run can go on without, whatever happens; the first failure is said, and ends its use."""
        try:
            yield
        except Exception as error:
            self._tensorboard = None
            self.say(f"note: going on without {name} ({type(error).__name__}: {' '.join(str(error).split())})")


def _line(row: dict[str, Any]) -> str:
    line = f"epoch {row['epoch']}: loss {row['loss']:.5f}"
    if row["skipped_steps"]:
        line += f", {row['skipped_steps']} steps skipped (loss or gradient not finite or too large)"
    if "psnr" in row:
        line += f", validation {row['psnr']:.3f} dB (input {row['input_psnr']:.3f}, best {row['best_psnr']:.3f})"
    return line


def _without_resume(settings: str) -> str:
    return re.sub(r"^\s*RESUME:.*\n", "", settings, flags=re.MULTILINE)


def _tensorboard_writer(folder: Path, steps_done: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

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
