"""Restores pictures: the program behind demo.py."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from mprnet.apps import command
from mprnet.apps.options import (
    TIMEOUT,
    add_png_option,
    add_running_options,
    add_weights_options,
    describe_running,
    identify_weights,
    load_network,
    make_restorer,
)
from mprnet.apps.page.server import add_page_options, serve
from mprnet.apps.reports import write_folder_report
from mprnet.apps.samples import INPUTS, OUTPUT, TARGETS, draw_samples
from mprnet.data.photo_writing import FORMATS
from mprnet.data.png import write_png
from mprnet.errors import UserError
from mprnet.files import make_folder
from mprnet.inference.distributed import World, distributed_world
from mprnet.inference.folder import restore_all
from mprnet.inference.jobs import Found, Job, describe_others, find_photos, find_unfinished, plan_jobs
from mprnet.inference.outcomes import Report
from mprnet.inference.restorer import Restorer
from mprnet.tasks import TASKS_FOLDER, find_tasks


def main(tasks_folder: Path = TASKS_FOLDER, samples: Path | None = None) -> None:
    """Read the command line and restore.

    Args:
        tasks_folder: the folder that holds the tasks' folders.
        samples: the folder of the sample pictures. They are restored if the command line names no picture, and the
            results go to this folder, too. None: the command line must name a picture, and results go to ./restored.
    """
    command.run(partial(_restore, tasks_folder, samples))


def _restore(tasks_folder: Path, samples: Path | None) -> int:
    tasks = find_tasks(tasks_folder)
    a = _parse(tasks, samples)
    if a.web:
        return serve(tasks_folder, list(tasks), a, samples / INPUTS if samples else None)
    with distributed_world([-1], TIMEOUT) as world:
        if a.task:
            return int(_restore_task(tasks[a.task], a, world)[1] > 0)
        assert samples is not None  # without samples, the command line must name a task
        return _restore_samples(tasks, samples, a, world)


def _restore_samples(tasks: Mapping[str, Path], samples: Path, a: argparse.Namespace, world: World) -> int:
    """Restore the samples of all tasks, and draw them on one sheet. Return the exit status."""
    jobs: dict[str, list[Job]] = {}
    failed = 0
    for name, folder in tasks.items():
        folders = {"input_dir": samples / INPUTS / name, "result_dir": a.result_dir / name}
        try:
            jobs[name], failures = _restore_task(folder, argparse.Namespace(**{**vars(a), **folders}), world)
        except UserError as error:  # for example, a task without weights
            failures = 1
            print(f"error: {error}", file=sys.stderr)
        failed += failures
    if world.is_main:
        sheet = a.result_dir / "sheet.png"
        write_png(sheet, draw_samples(jobs, samples / TARGETS))
        print(f"all samples beside their results: {sheet}")
    return int(failed > 0)


def _restore_task(folder: Path, a: argparse.Namespace, world: World) -> tuple[list[Job], int]:
    """Restore pictures with the task in ``folder``.

    Returns:
        The jobs, and the number of failures in all processes.
    """
    source: Path = a.input_dir
    result_dir: Path = a.result_dir
    model, weights = load_network(folder, a.weights, a.grade)

    def plan() -> tuple[Found, list[Job]]:
        found = find_photos(source, a.recursive, skip=result_dir)
        return found, plan_jobs(found.photos, source, result_dir, FORMATS[a.format], a.compare)

    # Processes take jobs by their numbers. If each had its own list, a picture that is added meanwhile shifts them.
    found, jobs = world.ask_main(plan)
    restorer = make_restorer(model, a, world, a.stage)
    make_folder(result_dir)
    if world.is_main:
        print(f"{len(jobs)} pictures in {restorer.precision} on {restorer.device}" + _describe_sharing(world.size))
        for error in found.errors:
            print(f"error: {error}", file=sys.stderr)
    report, not_tried = _restore_jobs(jobs, restorer, a, world)
    done, failed, not_tried = (int(n) for n in world.all_reduce(report.done, len(report.failures), not_tried))
    skipped = len(jobs) - done - failed - not_tried
    failed += len(found.errors) + not_tried
    if world.is_main:
        if report.stopped:
            print(f"error: {report.stopped}", file=sys.stderr)
        skipped_text = f", {skipped} skipped" if skipped else ""
        failed_text = f"; {failed} failed, see above" if failed else ""
        print(f"{done} of {len(jobs)} pictures restored{skipped_text}: look into {result_dir}{failed_text}")
        if found.others:
            print(describe_others(found.others, source))
        if a.report:
            facts = {**describe_running(a, restorer), **identify_weights(weights)}
            print(f"look into {write_folder_report(jobs, result_dir, facts)}")
        if done and a.verbose:
            share = 100 * report.restoring / report.seconds
            print(f"{report.seconds:.1f} s; the network ran {share:.0f} % of this time")
    return jobs, failed


def _restore_jobs(jobs: Sequence[Job], restorer: Restorer, a: argparse.Namespace, world: World) -> tuple[Report, int]:
    """Restore jobs; the processes of the run share them. Return the report, and how many jobs were not tried."""
    if world.size == 1:
        unfinished = find_unfinished(jobs) if a.skip_existing else jobs
        report = restore_all(unfinished, restorer, a.verbose, a.png_level, len(unfinished))
        return report, len(unfinished) - report.done - len(report.failures)
    taken = world.share(jobs, str(a.result_dir))
    # Not before a job is taken: other processes write results meanwhile, and all must count the same jobs.
    remaining = (job for job in taken if not a.skip_existing or find_unfinished([job]))
    report = restore_all(remaining, restorer, a.verbose, a.png_level)
    if report.stopped:  # its device cannot send to the other processes, either
        raise UserError(report.stopped)
    return report, 0


def _describe_sharing(processes: int) -> str:
    return f", shared by {processes} processes" if processes > 1 else ""


def _parse(tasks: Mapping[str, Path], samples: Path | None) -> argparse.Namespace:
    """Read the command line, and fill in the defaults of ``input_dir`` and ``result_dir``."""
    with_samples = "; with no options the samples of all tasks" if samples else ""
    parser = argparse.ArgumentParser(prog=command.subcommand, description=f"Restore your pictures{with_samples}.")
    parser.add_argument("picture", nargs="?", type=Path, help="a picture or a folder; the same as --input_dir")
    default = "; default: each task with its own samples" if samples else ""
    parser.add_argument("--task", choices=tasks, help=f"how to restore the pictures{default}")
    default = "; default: samples/input/TASK" if samples else ""
    parser.add_argument("--input_dir", type=Path, metavar="PATH", help=f"a folder or one picture{default}")
    default = "samples/output/TASK" if samples else "restored"
    parser.add_argument("--result_dir", type=Path, metavar="FOLDER", help=f"where results go; default: {default}")
    parser.add_argument(
        "--recursive", action="store_true", help="restore pictures in subfolders, too; results get the same subfolders"
    )
    add_weights_options(parser)
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), help="stop after this stage; default: the last")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps, ...")
    parser.add_argument("--format", choices=FORMATS, default="png", help="format of the results; default: png")
    add_png_option(parser)
    parser.add_argument("--compare", action="store_true", help="also write NAME_compare: the input beside the result")
    parser.add_argument(
        "--skip_existing", action="store_true", help="skip pictures that have a result which is not older"
    )
    parser.add_argument("--report", action="store_true", help="also write report.html: inputs and results in a browser")
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="print how long it took, for how much of this time the network ran, and the tracebacks of unknown errors",
    )
    add_running_options(parser, precision="auto")
    page_options = add_page_options(parser)
    a = parser.parse_args()
    if a.picture and a.input_dir:
        parser.error("name the pictures once: as PICTURE or with --input_dir")
    if a.picture and not a.task and not a.web:
        parser.error(f"name the task: --task {{{','.join(tasks)}}}")
    a.input_dir = a.picture or a.input_dir
    for option in ("input_dir", "result_dir", "recursive", "compare", "skip_existing", "report", "png_level"):
        if a.web and getattr(a, option):
            parser.error(f"--{option} does not go with --web: visitors upload pictures and download results")
    for option in page_options:
        if not a.web and getattr(a, option) != parser.get_default(option):
            parser.error(f"--{option} goes with --web: it is about the page")
    if a.png_level and a.format != "png":
        parser.error("--png_level goes with --format png")
    for option in ("input_dir", "weights"):
        if getattr(a, option) and not a.task:
            parser.error(f"--{option} goes with --task {{{','.join(tasks)}}}: name the task")
    if samples is None and not a.web and not (a.task and a.input_dir):
        parser.error(f"say what to restore: mprnet restore --task {{{','.join(tasks)}}} PICTURE")
    results = samples / OUTPUT if samples else Path("restored")
    if samples and a.task:
        a.input_dir = a.input_dir or samples / INPUTS / a.task
        results = results / a.task
    a.result_dir = a.result_dir or results
    return a
