"""Training curves: one run's, or several runs' to be compared."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mprnet.files import write_atomically


def draw_curves(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draw loss and validation PSNR over the epochs; PSNR of different validations of a run is not joined.

    Args:
        path: its suffix says in which format: .png, .pdf, .svg.
        runs: by name, rows as ``Journal.add`` takes them.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    inputs: set[tuple[float, ...]] = set()
    for name, history in runs.items():
        left.plot([row["epoch"] for row in history], [row["loss"] for row in history], label=name)
        validated = _with_gaps([row for row in history if "psnr" in row])
        epochs = [row["epoch"] for row in validated]
        right.plot(epochs, [row["psnr"] for row in validated], label=name)
        given = [row["input_psnr"] for row in validated]
        if given and tuple(given) not in inputs:  # runs of one task were validated on the same pictures, mostly
            inputs.add(tuple(given))
            right.plot(epochs, given, "--", color="grey", label=None if len(inputs) > 1 else "input")
    left.set(xlabel="epoch", ylabel="training loss, mean per sample", yscale="log")
    right.set(xlabel="epoch", ylabel="validation PSNR, dB")
    for axes, is_needed in ((left, len(runs) > 1), (right, bool(inputs))):
        if is_needed:
            for text in axes.legend().get_texts():
                text.set_parse_math(False)  # names may hold $
    file = io.BytesIO()
    figure.savefig(file, format=path.suffix[1:], dpi=110)
    write_atomically(path, file.getvalue())


def _with_gaps(validated: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows, and between those of different ``validation_set`` one that interrupts the line."""
    rows: list[Mapping[str, Any]] = []
    for row in validated:
        if rows and row.get("validation_set") != rows[-1].get("validation_set"):
            rows.append(dict.fromkeys(("epoch", "psnr", "input_psnr"), math.nan))
        rows.append(row)
    return rows
