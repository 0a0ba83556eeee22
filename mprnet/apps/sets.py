"""The command line of test.py: which benchmarks to score, and how."""

import argparse
from pathlib import Path

from mprnet.apps import command
from mprnet.apps.options import add_png_option, add_running_options, add_weights_options
from mprnet.errors import UserError
from mprnet.evaluation.protocols import Benchmark, Protocols
from mprnet.evaluation.scoring import MEASURES
from mprnet.tasks import working_folder

OWN_PAIRS = "pairs"  # the name of the benchmark that --pairs makes
_EXCLUSIVE = (
    ("stage", "stagewise"),
    ("pairs", "dataset"),
    ("pairs", "check"),
    *(("score_only", other) for other in ("weights", "grade", "stage", "stagewise")),
)


def parse_arguments(folder: Path, protocols: Protocols) -> argparse.Namespace:
    """Read the command line. Options that do not go together end the program with a message."""
    names = list(dict.fromkeys([*protocols.sets(), *protocols.benchmarks]))
    default_folder = working_folder(folder)
    parser = argparse.ArgumentParser(
        prog=command.subcommand, description="Restore and score benchmarks, and print the scores beside the paper's."
    )
    parser.add_argument(
        "--dataset",
        nargs="+",
        choices=names,
        metavar="NAME",
        help=f"data sets or single benchmarks to score, of {', '.join(names)}; default: all that are there",
    )
    parser.add_argument("--input_dir", type=Path, default=default_folder / "Datasets", help="where the data sets are")
    parser.add_argument(
        "--result_dir", type=Path, default=default_folder / "results", help="where scores and pictures go"
    )
    add_weights_options(parser)
    parser.add_argument(
        "--stage", type=int, choices=(1, 2, 3), help="score the images of this stage; default: the last"
    )
    parser.add_argument("--stagewise", action="store_true", help="score all stages in one pass, as in Table 7")
    parser.add_argument("--score_only", type=Path, metavar="DIR", help="score the pictures in DIR or DIR/NAME instead")
    parser.add_argument("--pairs", type=Path, nargs=2, metavar=("INPUT", "TARGET"), help="score your own two folders")
    parser.add_argument(
        "--many_to_one", action="store_true", help="for --pairs: several inputs may belong to one target (1_14 to 1)"
    )
    parser.add_argument("--measure", choices=MEASURES, help=f"for --pairs; default: {protocols.measure}")
    parser.add_argument("--limit", type=int, metavar="N", help="score only the first N images of each set")
    parser.add_argument("--save_images", action="store_true", help="write the results as 8-bit PNG")
    add_png_option(parser)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps, ...")
    parser.add_argument("--gpus", help="numbers of the GPUs to use, as in CUDA_VISIBLE_DEVICES")
    parser.add_argument("--workers", type=int, default=-1, help="processes that score; default: one per core")
    parser.add_argument("--report", action="store_true", help="write report.html: all scores, and the worst images")
    parser.add_argument("--table", action="store_true", help="print the paper's tables with our scores in them")
    parser.add_argument(
        "--check", action="store_true", help="read the data sets, say what is wrong with them, and stop"
    )
    add_running_options(parser, precision="fp32")
    a = parser.parse_args()
    if a.limit is not None and a.limit < 1:
        parser.error("--limit takes at least 1")
    for one, other in _EXCLUSIVE:
        if getattr(a, one) not in (None, False) and getattr(a, other) not in (None, False):
            parser.error(f"--{one} and --{other} do not go together")
    if a.png_level and not a.save_images:
        parser.error("--png_level is for --save_images")
    if a.measure and not a.pairs:
        parser.error("--measure is for --pairs: the benchmarks have theirs in benchmarks.yml")
    if a.many_to_one and not a.pairs:
        parser.error("--many_to_one is for --pairs: the benchmarks have one input to each target")
    return a


def choose_benchmarks(protocols: Protocols, a: argparse.Namespace, folder: Path) -> list[Benchmark]:
    """Return the benchmarks to score: those that the command line names, else those that are there.

    With --check, all benchmarks are returned. With --table, the result can be empty.

    Raises:
        UserError: no benchmark is there, and the command line has neither --check nor --table.
    """
    if a.pairs:
        return [Benchmark(OWN_PAIRS, OWN_PAIRS, "pairs", (), 0, a.measure or protocols.measure, None)]
    if a.dataset:
        return protocols.select(a.dataset)
    available = [b for b in protocols.benchmarks.values() if b.locate(a.input_dir) is not None]
    if not available and not a.check and not a.table:
        lines = "".join(f"\n  {b.set}: {b.describe_files(a.input_dir)}" for b in protocols.sets().values())
        raise UserError(
            f"none of the data sets is there; {folder / 'Datasets/README.md'} says where to get them:{lines}"
        )
    return list(protocols.benchmarks.values()) if a.check else available
