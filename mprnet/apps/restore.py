"""Restore pictures: what demo.py starts."""

import argparse
import sys
from functools import partial
from pathlib import Path

from mprnet.apps import command
from mprnet.data.photo_writing import FORMATS
from mprnet.errors import UserError
from mprnet.files import make_folder
from mprnet.inference.folder import find_photos, plan, restore_all
from mprnet.inference.restorer import Restorer
from mprnet.model.weights import load_model


def main(project: Path) -> None:
    """Read the command line and restore.

    Args:
        project: the folder that holds the tasks' folders and samples/.
    """
    command.run(partial(_restore, project))


def _restore(project: Path) -> int:
    arguments = _parse(project)
    weights = choose_weights(project / arguments.task, arguments.weights)
    source: Path = arguments.input_dir or project / "samples" / "input" / arguments.task
    result_dir: Path = arguments.result_dir or project / "samples" / "output"
    photos, closed = find_photos(source, arguments.recursive, skip=result_dir)
    jobs = plan(photos, source, result_dir, FORMATS[arguments.format], arguments.compare)
    restorer = Restorer(load_model(weights), arguments.device, stage=arguments.stage)
    make_folder(result_dir)
    for error in closed:
        print(f"error: {error}", file=sys.stderr)
    failures = closed + restore_all(jobs, restorer)
    done = len(jobs) - len(failures) + len(closed)
    failed = f"; {len(failures)} failed, see above" if failures else ""
    print(f"{done} of {len(jobs)} pictures restored, on {restorer.device}: look into {result_dir}{failed}")
    return 1 if failures else 0


def _parse(project: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Restore your pictures.")
    tasks = sorted(path.parent.name for path in project.glob("*/MPRNet.py"))
    parser.add_argument("--task", required=True, choices=tasks)
    parser.add_argument(
        "--input_dir", type=Path, metavar="PATH", help="a folder or one picture; default: samples/input/TASK"
    )
    parser.add_argument("--result_dir", type=Path, metavar="FOLDER", help="default: samples/output")
    parser.add_argument("--recursive", action="store_true", help="folders within the folder too; their tree is kept")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="default: the published ones if they are there, else the bundled"
    )
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), help="stop after this stage; default: the last")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps, ...")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the results; default: png")
    parser.add_argument("--compare", action="store_true", help="write NAME_compare too: input beside result")
    return parser.parse_args()


def choose_weights(task: Path, named: Path | None) -> Path:
    """The weights to use for the task in the folder ``task``: those named, else the published, else the bundled.

    Prints which, so that nobody takes the bundled weights' results for the paper's.

    Raises:
        UserError: none of them is there.
    """
    folder = task / "pretrained_models"
    published = folder / f"model_{task.name.lower()}.pth"
    bundled = folder / f"model_{task.name.lower()}_lite.safetensors"
    if named is not None:
        print(f"{task.name} with {named}")
        return named
    if published.exists():
        print(f"{task.name} with the published weights, {published}")
        return published
    if bundled.exists():
        print(f"{task.name} with the bundled lite weights, {bundled} (a small network, not the paper's)")
        return bundled
    raise UserError(
        f"there are no weights for {task.name}: put the published model_{task.name.lower()}.pth into {folder}, or name "
        "a file with --weights."
    )
