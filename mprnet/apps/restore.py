"""Restore pictures: what demo.py starts."""

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mprnet.apps import command
from mprnet.apps.options import (
    TIMEOUT,
    add_running,
    add_weights,
    described,
    identity,
    load_network,
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
from mprnet.inference.jobs import Job, find_photos, left_to_do, plan
from mprnet.tasks import TASKS_FOLDER, find_tasks


def main(tasks_folder: Path = TASKS_FOLDER, samples: Path | None = None) -> None:
    """Read the command line and restore.

    Args:
        tasks_folder: the folder that holds the tasks' folders.
        samples: the folder with the sample pictures, which are restored if no picture is named; their results go there,
            too. None: a picture must be named, and results go to the folder restored.
    """
    command.run(partial(_restore, tasks_folder, samples))


def _restore(tasks_folder: Path, samples: Path | None) -> int:
    tasks = find_tasks(tasks_folder)
    a = _parse(tasks, samples)
    if a.web:
        return serve(tasks_folder, list(tasks), a)
    with distributed_world([-1], TIMEOUT) as world:
        if a.task:
            return int(_restore_task(tasks[a.task], a, world)[1] > 0)
        assert samples is not None  # else the command line names a task
        return _restore_samples(tasks, samples, a, world)


def _restore_samples(tasks: Mapping[str, Path], samples: Path, a: argparse.Namespace, world: World) -> int:
    """Restore the samples of all tasks and draw them on one sheet."""
    jobs: dict[str, list[Job]] = {}
    failed = 0
    for name, folder in tasks.items():
        places = {"input_dir": samples / INPUTS / name, "result_dir": a.result_dir / name}
        try:
            jobs[name], failures = _restore_task(folder, argparse.Namespace(**{**vars(a), **places}), world)
        except UserError as error:  # for example, a task without weights
            failures = 1
            print(f"error: {error}", file=sys.stderr)
        failed += failures
    if world.is_main:
        sheet = a.result_dir / "sheet.png"
        write_png(sheet, draw_sheet(jobs, samples / TARGETS))
        print(f"all of them beside their inputs: {sheet}")
    return int(failed > 0)


def _restore_task(folder: Path, a: argparse.Namespace, world: World) -> tuple[list[Job], int]:
    """Restore pictures with the task in ``folder``.

    Returns:
        The jobs, and how many failed in all processes.
    """
    source: Path = a.input_dir
    result_dir: Path = a.result_dir
    model, weights = load_network(folder, a.weights, a.grade)
    photos, closed = find_photos(source, a.recursive, skip=result_dir)
    jobs = plan(photos, source, result_dir, FORMATS[a.format], a.compare)
    restorer = make_restorer(model, a, world, a.stage)
    make_folder(result_dir)
    if world.is_main:
        print(f"{len(jobs)} pictures in {restorer.precision} on {restorer.device}" + _shared_by(world.size))
        for error in closed:
            print(f"error: {error}", file=sys.stderr)
    mine = jobs[world.rank :: world.size]
    missing = left_to_do(mine) if a.skip_existing else mine
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


def _parse(tasks: Mapping[str, Path], samples: Path | None) -> argparse.Namespace:
    """Read the command line; ``input_dir`` and ``result_dir`` are complete afterwards."""
    with_samples = "; with no options the samples of all tasks" if samples else ""
    parser = argparse.ArgumentParser(prog=command.subcommand, description=f"Restore your pictures{with_samples}.")
    parser.add_argument("picture", nargs="?", type=Path, help="a picture or a folder; the same as --input_dir")
    default = "; default: each task to its own samples" if samples else ""
    parser.add_argument("--task", choices=tasks, help=f"what to do to the pictures{default}")
    default = "; default: samples/input/TASK" if samples else ""
    parser.add_argument("--input_dir", type=Path, metavar="PATH", help=f"a folder or one picture{default}")
    default = "samples/output/TASK" if samples else "restored"
    parser.add_argument("--result_dir", type=Path, metavar="FOLDER", help=f"default: {default}")
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
    if a.picture and a.input_dir:
        parser.error("name the pictures once: as PICTURE or with --input_dir")
    a.input_dir = a.picture or a.input_dir
    for option in ("input_dir", "result_dir", "recursive", "compare", "skip_existing", "report"):
        if a.web and getattr(a, option):
            parser.error(f"--{option} does not go with --web, where pictures come and go by the page")
    for option in ("host", "port"):
        if not a.web and getattr(a, option) is not None:
            parser.error(f"--{option} goes with --web: it says where the page is served")
    for option in ("input_dir", "weights"):
        if getattr(a, option) and not a.task:
            parser.error(f"--{option} goes with --task {{{','.join(tasks)}}}: say what is to be done")
    if samples is None and not a.web and not (a.task and a.input_dir):
        parser.error(f"say what to restore: mprnet restore --task {{{','.join(tasks)}}} PICTURE")
    results = samples / OUTPUT if samples else Path("restored")
    if samples and a.task:
        a.input_dir = a.input_dir or samples / INPUTS / a.task
        results = results / a.task
    a.result_dir = a.result_dir or results
    return a
