"""Writes a network as a file that runs without this library: python -m mprnet.apps.export (docs/export.md)."""

import argparse
from pathlib import Path

from mprnet.apps import command
from mprnet.apps.options import add_local_pooling_options, add_weights_options, load_network
from mprnet.errors import UserError
from mprnet.files import make_folder
from mprnet.inference.exporting import (
    LARGEST,
    SMALLEST,
    SUFFIXES,
    AnySize,
    check_onnx,
    largest_difference,
    write_onnx,
    write_torch,
)
from mprnet.model.local_pooling import largest_window, set_local_pooling, training_patch
from mprnet.model.weights import load_model
from mprnet.tasks import TASKS_FOLDER, find_tasks

# The largest difference from PyTorch that an export may have.
TOLERANCE = 1e-4


def main(folder: Path = TASKS_FOLDER) -> None:
    """Read the command line and export.

    Args:
        folder: the folder that holds the tasks' folders.
    """
    command.run(lambda: _export(folder))


def _export(folder: Path) -> int:
    a = _parse(folder)
    if a.format == "onnx":
        check_onnx()
    if a.output:
        if a.output.suffix != SUFFIXES[a.format]:
            raise UserError(f"{a.output}: the names of {a.format} files end in {SUFFIXES[a.format]}.")
        make_folder(a.output.parent)  # fails before the work if files cannot be written there
    model, weights = load_network(folder / a.task, a.weights, a.grade) if a.task else (load_model(a.weights), a.weights)
    patch = a.training_patch or (training_patch(model) if a.local_pooling else None)
    set_local_pooling(model, patch)
    last = model.num_stages
    if a.stage not in (None, "all") and int(a.stage) > last:
        raise UserError(f"{weights} has the stages 1 to {last}, but no stage {a.stage}.")
    network = AnySize(model, None if a.stage == "all" else int(a.stage or last))
    path: Path = a.output or Path(weights.stem + SUFFIXES[a.format])
    run = (write_onnx if a.format == "onnx" else write_torch)(network, path)
    window = largest_window(model)
    print(f"{path}: {', '.join(network.names)}, {path.stat().st_size / 2**20:.1f} MiB, float32")
    print(f"takes all batches, and heights and widths from {SMALLEST} to {LARGEST}, that fit in memory; pads by itself")
    if patch:
        print(
            f"local pooling over windows of up to {window} pixels (a training patch of {patch}); images can be smaller"
        )
    worst = 0.0
    for shape in _comparison_shapes(window):
        difference = largest_difference(run, network, shape)
        worst = max(worst, difference if difference == difference else float("inf"))
        print(f"  batch of {shape[0]}, {shape[1]}x{shape[2]} pixels: largest difference from PyTorch {difference:.1e}")
    if worst > TOLERANCE:
        raise UserError(f"{path} differs from PyTorch by {worst:.1e}, more than {TOLERANCE:.0e}: do not use it.")
    return 0


def _comparison_shapes(window: int) -> list[tuple[int, int, int]]:
    """Return the shapes (batch, height, width) to compare an export with PyTorch at.

    They are the smallest size, a small batch, and an image larger than any window, which earlier stages split in four.
    """
    return [(1, SMALLEST, 2 * SMALLEST), (3, 37, 61), (1, window + 95, window + 130)]


def _parse(folder: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=command.subcommand or "python -m mprnet.apps.export",
        description="Write a network as a file that runs without this library.",
    )
    parser.add_argument(
        "--task",
        choices=find_tasks(folder),
        help="the task whose weights to export; with --weights: the task whose training patch to use",
    )
    add_weights_options(parser)
    parser.add_argument(
        "--format", choices=SUFFIXES, default="onnx", help="onnx (default), or torch: a program of torch.export"
    )
    parser.add_argument(
        "--stage",
        choices=("1", "2", "3", "all"),
        help="the stage whose image to return; default: the last; all: the images of all stages",
    )
    add_local_pooling_options(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the file to write; default: the name of the weights, in the current folder",
    )
    a = parser.parse_args()
    if not a.task and not a.weights:
        parser.error("say what to export: --weights FILE, or --task for the weights of a task")
    return a


if __name__ == "__main__":
    main()
