"""Restore pictures: what demo.py starts."""

import argparse
import sys
from functools import partial
from pathlib import Path

from mprnet.apps import command
from mprnet.apps.options import (
    PATIENCE,
    add_running,
    add_weights,
    choose_weights,
    described,
    identity,
    load,
    make_restorer,
)
from mprnet.apps.page.server import add_page, serve
from mprnet.apps.reports import report_folder
from mprnet.apps.samples import INPUTS, OUTPUT, TARGETS, draw_sheet
from mprnet.data.photo_writing import FORMATS
from mprnet.data.png import write_png
from mprnet.errors import UserError
from mprnet.files import make_folder
from mprnet.inference.distributed import World, distributed_world
from mprnet.inference.folder import restore_all
from mprnet.inference.jobs import Job, find_photos, find_unfinished, plan_jobs


def main(project: Path) -> None:
    """Read the command line and restore.

    Args:
        project: the folder that holds the tasks' folders and samples/.
    """
    command.run(partial(_restore, project))


def _restore(project: Path) -> int:
    a, tasks = _parse(project)
    if a.web:
        return serve(project, tasks, a)
    with distributed_world([-1], PATIENCE) as world:
        if a.task:
            return int(_restore_task(project, a, world)[1] > 0)
        jobs: dict[str, list[Job]] = {}
        failed = 0
        for task in tasks:
            folder = a.result_dir and a.result_dir / task
            try:
                jobs[task], failures = _restore_task(
                    project, argparse.Namespace(**{**vars(a), "task": task, "result_dir": folder}), world
                )
            except UserError as error:  # such as a task without weights
                failures = 1
                print(f"error: {error}", file=sys.stderr)
            failed += failures
        if world.is_main:
            sheet = (a.result_dir or project / OUTPUT) / "sheet.png"
            write_png(sheet, draw_sheet(jobs, project / TARGETS))
            print(f"all of them beside their inputs: {sheet}")
    return int(failed > 0)


def _restore_task(project: Path, a: argparse.Namespace, world: World) -> tuple[list[Job], int]:
    """Restore a task's pictures and say what came of it; the jobs, and how many failed in all processes."""
    weights = choose_weights(project / a.task, a.weights, a.grade)
    source: Path = a.input_dir or project / INPUTS / a.task
    result_dir: Path = a.result_dir or project / OUTPUT / a.task
    photos, closed = find_photos(source, a.recursive, skip=result_dir)
    jobs = plan_jobs(photos, source, result_dir, FORMATS[a.format], a.compare)
    restorer = make_restorer(load(weights, project / a.task), a, world, a.stage)
    make_folder(result_dir)
    if world.is_main:
        print(f"{len(jobs)} pictures in {restorer.precision} on {restorer.device}" + _shared_by(world.size))
        for error in closed:
            print(f"error: {error}", file=sys.stderr)
    mine = jobs[world.rank :: world.size]
    missing = find_unfinished(mine) if a.skip_existing else mine
    report = restore_all(missing, restorer)
    done, failed, skipped = (
        int(n) for n in world.all_reduce(report.done, len(report.failures), len(mine) - len(missing))
    )
    failed += len(closed)
    if world.is_main:
        there = f", {skipped} were there" if skipped else ""
        which = f"; {failed} failed, see above" if failed else ""
        print(f"{done} of {len(jobs)} pictures restored{there}: look into {result_dir}{which}")
        if a.report:
            print(f"look into {report_folder(jobs, result_dir, {**described(a, restorer), **identity(weights)})}")
        if done and a.verbose:
            share = 100 * report.restoring / report.seconds
            print(f"{report.seconds:.1f} s, of which the network ran {share:.0f} %")
    return jobs, failed


def _shared_by(processes: int) -> str:
    return f", shared by {processes} processes" if processes > 1 else ""


def _parse(project: Path) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and the tasks there are."""
    parser = argparse.ArgumentParser(description="Restore your pictures; with no options the samples of all tasks.")
    tasks = sorted(path.parent.name for path in project.glob("*/MPRNet.py"))
    parser.add_argument("--task", choices=tasks, help="what to do to them; default: each task to its own samples")
    parser.add_argument(
        "--input_dir", type=Path, metavar="PATH", help="a folder or one picture; default: samples/input/TASK"
    )
    parser.add_argument("--result_dir", type=Path, metavar="FOLDER", help="default: samples/output/TASK")
    parser.add_argument("--recursive", action="store_true", help="folders within the folder too; their tree is kept")
    add_weights(parser)
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), help="stop after this stage; default: the last")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps, ...")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the results; default: png")
    parser.add_argument("--compare", action="store_true", help="write NAME_compare too: input beside result")
    parser.add_argument(
        "--skip_existing", action="store_true", help="leave out pictures whose result is there and no older"
    )
    parser.add_argument("--report", action="store_true", help="write report.html too: inputs and results in a browser")
    parser.add_argument("--verbose", action="store_true", help="say how long it took, and what share the network had")
    add_running(parser, precision="auto")
    add_page(parser)
    a = parser.parse_args()
    for option in ("input_dir", "result_dir", "recursive", "compare", "skip_existing", "report"):
        if a.web and getattr(a, option):
            parser.error(f"--{option} does not go with --web, where pictures come and go by the page")
    for option in ("host", "port"):
        if not a.web and getattr(a, option) is not None:
            parser.error(f"--{option} goes with --web: it says where the page is served")
    for option in ("input_dir", "weights"):
        if getattr(a, option) and not a.task:
            parser.error(f"--{option} goes with --task {{{','.join(tasks)}}}: say what is to be done")
    return a, tasks
