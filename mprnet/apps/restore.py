"""Restore pictures: what demo.py starts."""

import argparse
import sys
from functools import partial
from pathlib import Path

from mprnet.apps import command
from mprnet.apps.options import PATIENCE, add_running, choose_weights, load, make_restorer
from mprnet.data.photo_writing import FORMATS
from mprnet.files import make_folder
from mprnet.inference.distributed import joined_world
from mprnet.inference.folder import restore_all
from mprnet.inference.jobs import find_photos, left_to_do, plan


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
    with joined_world([-1], PATIENCE) as world:
        restorer = make_restorer(load(weights, project / arguments.task), arguments, world, arguments.stage)
        make_folder(result_dir)
        if world.is_main:
            print(f"{len(jobs)} pictures in {restorer.precision} on {restorer.device}" + _shared_by(world.size))
            for error in closed:
                print(f"error: {error}", file=sys.stderr)
        mine = jobs[world.rank :: world.size]
        missing = left_to_do(mine) if arguments.skip_existing else mine
        report = restore_all(missing, restorer)
        done, failed, skipped = (int(n) for n in world.sum(report.done, len(report.failures), len(mine) - len(missing)))
        failed += len(closed)
    if world.is_main:
        there = f", {skipped} were there" if skipped else ""
        which = f"; {failed} failed, see above" if failed else ""
        print(f"{done} of {len(jobs)} pictures restored{there}: look into {result_dir}{which}")
        if done and arguments.verbose:
            share = 100 * report.restoring / report.seconds
            print(f"{report.seconds:.1f} s, of which the network ran {share:.0f} %")
    return 1 if failed else 0


def _shared_by(processes: int) -> str:
    return f", shared by {processes} processes" if processes > 1 else ""


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
    parser.add_argument(
        "--skip_existing", action="store_true", help="leave out pictures whose result is there and no older"
    )
    parser.add_argument("--verbose", action="store_true", help="say how long it took, and what share the network had")
    add_running(parser, precision="auto")
    return parser.parse_args()
