"""Training curves of one run, or of several runs for comparison."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mprnet.files import write_atomically


def is_step_row(row: Mapping[str, Any]) -> bool:
    """True if a row of the log is neither for the end of an epoch nor for a validation."""
    return row["epoch"] % 1 != 0 and "psnr" not in row


def draw_curves(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draw loss and validation RGB PSNR over the epochs. A pale line is the loss of the latest steps.

    The PSNR line has a gap where ``validation_set`` changes, because those values cannot be compared.

    Args:
        path: its suffix is the format: .png, .pdf or .svg.
        runs: for each run's name, its rows as ``RunLogger.add_row`` takes them.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    drawn_inputs: set[tuple[float, ...]] = set()
    for name, history in runs.items():
        rows = [row for row in history if not is_step_row(row)]
        (line,) = left.plot([row["epoch"] for row in rows], [row["loss"] for row in rows], label=name)
        recent = [(row["epoch"], row["recent_loss"]) for row in history if "recent_loss" in row]
        if len(recent) > len(rows):
            left.plot(*zip(*recent, strict=True), color=line.get_color(), alpha=0.4, linewidth=0.8, zorder=1)
        validated = _add_gaps([row for row in history if "psnr" in row])
        epochs = [row["epoch"] for row in validated]
        right.plot(epochs, [row["psnr"] for row in validated], label=name)
        input_psnr = [row["input_psnr"] for row in validated]
        # Runs of one task usually have the same validation pictures. Their line is drawn once.
        if input_psnr and tuple(input_psnr) not in drawn_inputs:
            drawn_inputs.add(tuple(input_psnr))
            right.plot(epochs, input_psnr, "--", color="grey", label=None if len(drawn_inputs) > 1 else "input")
    left.set(xlabel="epoch", ylabel="training loss, mean per sample", yscale="log")
    right.set(xlabel="epoch", ylabel="validation RGB PSNR, dB")
    for axes, has_legend in ((left, len(runs) > 1), (right, bool(drawn_inputs))):
        if has_legend:
            for text in axes.legend().get_texts():
                text.set_parse_math(False)  # a name may contain $
    file = io.BytesIO()
    figure.savefig(file, format=path.suffix[1:], dpi=110)
    write_atomically(path, file.getvalue())


def _add_gaps(validated: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows, with a row of NaN, which interrupts the line, wherever ``validation_set`` changes."""
    rows: list[Mapping[str, Any]] = []
    for row in validated:
        if rows and row.get("validation_set") != rows[-1].get("validation_set"):
            rows.append(dict.fromkeys(("epoch", "psnr", "input_psnr"), math.nan))
        rows.append(row)
    return rows
