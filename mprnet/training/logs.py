"""Logs of a run: its settings, the machine, printed lines, a table of numbers, and curves."""

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.errors import one_line
from mprnet.files import write_atomically
from mprnet.training import meter
from mprnet.training.curves import draw_curves, is_step_row
from mprnet.training.measures import LUMA, MEASURES, RGB
from mprnet.training.state import archive

LOG = "log.csv"
SETTINGS = "settings.yml"
_VALIDATION_COLUMNS = [prefix + measure.column for measure in MEASURES.values() for prefix in ("input_", "", "best_")]
COLUMNS = ("epoch", "step", "lr", "loss", "skipped_steps", *_VALIDATION_COLUMNS, "validation_set", *meter.COLUMNS)
NUMBERS = frozenset(COLUMNS) - {"end"}


class RunLogger:
    """The log of a run: a row of numbers for each epoch, and for each validation and each LOG_STEPS steps within it.

    Writes log.csv, curves.png, log.txt (the printed lines, with the time) and, if tensorboard is installed, its event
    files.

    Args:
        is_main: print and write. Only the main process does; the other processes only keep the rows.

    Attributes:
        history: the rows so far.
    """

    def __init__(self, folder: Path, is_main: bool) -> None:
        self.folder = folder
        self.is_main = is_main
        self.history: list[dict[str, Any]] = []
        self._tensorboard: Any = None
        self._columns: list[str] = []  # of log.csv; empty: the file is not up to date

    def start(self, settings: CfgNode, steps_done: int) -> None:
        """Write settings.yml and environment.json (versions, device, git revision, command), and open TensorBoard.

        Args:
            steps_done: steps before this start. TensorBoard discards its values of later steps.
        """
        if not self.is_main:
            return
        self._write_settings(settings.dump(), steps_done)
        write_atomically(self.folder / "environment.json", json.dumps(_describe_environment(), indent=2).encode())
        with self._optional("TensorBoard"):
            self._tensorboard = _open_tensorboard(self.folder, steps_done)

    def _write_settings(self, text: str, steps_done: int) -> None:
        """Write settings.yml. If an existing one is different, rename it."""
        path = self.folder / SETTINGS
        if path.exists() and _without_resume(path.read_text(encoding="utf-8")) != _without_resume(text):
            archive(path, steps_done)
        write_atomically(path, text.encode())

    def print(self, line: str) -> None:
        """Print a line above the progress bars, and add it to log.txt."""
        if self.is_main:
            tqdm.write(line)
            with open(self.folder / "log.txt", "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def add_row(self, row: dict[str, Any]) -> None:
        """Add a row, and update the files. If they cannot be written, print a warning; the run continues.

        Args:
            row: values of ``COLUMNS``. Columns may be missing.
        """
        self.history.append(row)
        if not self.is_main:
            return
        try:
            self._write(row)
        except Exception as error:
            tqdm.write(f"warning: could not write this line to the log: {_format_row(row)} ({error})", file=sys.stderr)

    def _write(self, row: dict[str, Any]) -> None:
        self._write_table(row)
        self.print(_format_row(row))
        # Drawing takes as long as a short epoch. The last row of a run has a PSNR, so the final curves are complete.
        if "psnr" in row:
            draw_curves(self.folder / "curves.png", {"restored": self.history})
        with self._optional("TensorBoard"):
            self._write_tensorboard(row)

    def _write_table(self, row: dict[str, Any]) -> None:
        """Add a row to the end of log.csv. At first, and if the row needs more columns, write the whole file."""
        path, text = self.folder / LOG, io.StringIO(newline="")
        columns, self._columns = self._columns, []  # if this fails, the next row writes the whole file
        if columns and set(row) <= set(columns) and path.exists():
            csv.DictWriter(text, columns).writerow(row)
            with open(path, "a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        else:
            # A column of luma PSNR is only written if there are values for it.
            used = set().union(*self.history)
            columns = [column for column in COLUMNS if column in used or "luma" not in column]
            writer = csv.DictWriter(text, columns)
            writer.writeheader()
            writer.writerows(self.history)
            write_atomically(path, text.getvalue().encode())
        self._columns = columns

    def _write_tensorboard(self, row: dict[str, Any]) -> None:
        if self._tensorboard is None:
            return
        for name, value in row.items():
            if name in NUMBERS - {"epoch", "step"}:
                self._tensorboard.add_scalar(name, value, row["step"])
        self._tensorboard.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        with self._optional("TensorBoard"):
            if self._tensorboard is not None:
                self._tensorboard.close()

    @contextlib.contextmanager
    def _optional(self, name: str) -> Iterator[None]:
        """Run code that a run can do without. If it fails, print a note and stop using TensorBoard."""
        try:
            yield
        except Exception as error:
            self._tensorboard = None
            self.print(f"note: continuing without {name} ({type(error).__name__}: {one_line(error)})")


def _format_row(row: Mapping[str, Any]) -> str:
    if is_step_row(row):
        return _format_step_row(row)
    line = f"epoch {round(row['epoch'], 3)}: loss {row['loss']:.5f}"
    if row["skipped_steps"]:
        line += f", {row['skipped_steps']} steps skipped (loss or gradient not finite or too large)"
    for measure, title in ((RGB, "validation"), (LUMA, "luma")):
        column = MEASURES[measure].column
        if column in row:
            best = f", best {row[f'best_{column}']:.3f}" if f"best_{column}" in row else ""
            line += f", {title} {row[column]:.3f} dB (input {row[f'input_{column}']:.3f}{best})"
    return line


def _format_step_row(row: Mapping[str, Any]) -> str:
    line = f"epoch {row['epoch']:.3f}, step {row['step']}: loss {row['recent_loss']:.5f}, rate {row['lr']:.3g}"
    line += f", gradient norm {row['grad_norm']:.3g}, {row['samples_per_second']:.3g} samples/s"
    line += f", {row['data_wait']:.0%} waiting for data"
    if "memory_gib" in row:
        line += f", {row['memory_gib']:.1f} GiB"
    return f"{line}, ends {row['end']}"


def _without_resume(settings: str) -> str:
    return re.sub(r"^\s*RESUME:.*\n", "", settings, flags=re.MULTILINE)


def _open_tensorboard(folder: Path, steps_done: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1)


def _describe_environment() -> dict[str, Any]:
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
    """Return the revision of this program's files, or "unknown" outside of a git repository."""
    folder = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
