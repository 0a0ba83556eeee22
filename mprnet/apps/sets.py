"""test.py's command line: which sets to score, and how."""

import argparse
from pathlib import Path

from mprnet.apps import command
from mprnet.apps.options import add_running, add_weights
from mprnet.errors import UserError
from mprnet.evaluation.protocols import Benchmark, Protocols
from mprnet.evaluation.scoring import MEASURES
from mprnet.tasks import working_folder

OWN = "pairs"  # the name that --pairs go by
_EXCLUSIVE = (
    ("stage", "stagewise"),
    ("pairs", "dataset"),
    ("pairs", "check"),
    *(("score_only", other) for other in ("weights", "grade", "stage", "stagewise")),
)


def parse(folder: Path, protocols: Protocols) -> argparse.Namespace:
    """Read the command line."""
    names = list(protocols.benchmarks)
    working = working_folder(folder)
    parser = argparse.ArgumentParser(
        prog=command.subcommand, description="Restore and score benchmarks, beside the paper's figures."
    )
    parser.add_argument(
        "--dataset", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}; default: all"
    )
    parser.add_argument("--input_dir", type=Path, default=working / "Datasets", help="where the data sets are")
    parser.add_argument("--result_dir", type=Path, default=working / "results", help="where scores and pictures go")
    add_weights(parser)
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), help="score this stage's images; default: the last's")
    parser.add_argument("--stagewise", action="store_true", help="score all stages in one pass, as in Table 7")
    parser.add_argument("--score_only", type=Path, metavar="DIR", help="score the pictures in DIR or DIR/NAME instead")
    parser.add_argument("--pairs", type=Path, nargs=2, metavar=("INPUT", "TARGET"), help="score your own two folders")
    parser.add_argument(
        "--many_to_one", action="store_true", help="for --pairs: several inputs may belong to one target (1_14 to 1)"
    )
    parser.add_argument("--measure", choices=MEASURES, help=f"for --pairs; default: {protocols.measure}")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images of each set alone")
    parser.add_argument("--save_images", action="store_true", help="keep the results as 8-bit PNG")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps, ...")
    parser.add_argument("--gpus", help="numbers of the GPUs that may be seen, as CUDA_VISIBLE_DEVICES")
    parser.add_argument("--workers", type=int, default=-1, help="processes that score; default: one per core")
    parser.add_argument("--report", action="store_true", help="write report.html: all scores, and the worst to look at")
    parser.add_argument("--table", action="store_true", help="print the paper's tables, and ours in them")
    parser.add_argument(
        "--check", action="store_true", help="read the data sets, say what is wrong with them, and stop"
    )
    add_running(parser, precision="fp32")
    a = parser.parse_args()
    if a.limit is not None and a.limit < 1:
        parser.error("--limit takes at least 1")
    for one, other in _EXCLUSIVE:
        if getattr(a, one) not in (None, False) and getattr(a, other) not in (None, False):
            parser.error(f"--{one} and --{other} do not go together")
    if a.measure and not a.pairs:
        parser.error("--measure is for --pairs: the benchmarks have theirs in benchmarks.yml")
    if a.many_to_one and not a.pairs:
        parser.error("--many_to_one is for --pairs: the benchmarks have one input to each target")
    return a


def choose(protocols: Protocols, a: argparse.Namespace, folder: Path) -> list[Benchmark]:
    """The sets to score: those named, else those that are there.

    Raises:
        UserError: none is there, and nothing else was asked for.
    """
    if a.pairs:
        return [Benchmark(OWN, "pairs", (), 0, a.measure or protocols.measure, None, "")]
    if a.dataset:
        return [protocols.benchmarks[name] for name in a.dataset]
    there = [b for b in protocols.benchmarks.values() if b.locate(a.input_dir) is not None]
    if not there and not a.check and not a.table:
        lines = "".join(f"\n  {b.name}: {b.expected(a.input_dir)}" for b in protocols.benchmarks.values())
        raise UserError(
            f"there is none of the data sets; {folder / 'Datasets/README.md'} says where to get them:{lines}"
        )
    return list(protocols.benchmarks.values()) if a.check else there
