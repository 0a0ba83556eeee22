"""Figures for papers: python -m mprnet.apps.figure compare | stages | curves."""

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mprnet.apps import command
from mprnet.apps.options import add_running, load_network, make_restorer
from mprnet.data.pairs import match_pairs
from mprnet.data.png import write_png
from mprnet.errors import UserError
from mprnet.evaluation.benchmark import eight_bit
from mprnet.evaluation.figures import FORMATS, Compared, Crop, draw_comparison
from mprnet.evaluation.report import error_map, page
from mprnet.evaluation.sources import PairSource, read_8bit
from mprnet.inference.distributed import distributed_world
from mprnet.metrics import psnr
from mprnet.training.curves import draw_curves
from mprnet.training.logs import LOG


def main() -> None:
    """Read the command line and draw."""
    command.run(_figure)


def _figure() -> int:
    a = _parse()
    formats = FORMATS[:1] if a.kind == "stages" else FORMATS
    if a.out.suffix.lower() not in formats:
        raise UserError(f"{a.out}: this figure is written as {' or '.join(formats)}.")
    a.draw(a)
    print(f"look into {a.out}")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=command.subcommand or "python -m mprnet.apps.figure", description="Figures for papers."
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    compare = kinds.add_parser("compare", help="several methods' results beside one another, with enlarged crops")
    compare.add_argument("methods", nargs="+", type=_method, metavar="NAME=DIR", help="results, matched by file names")
    compare.add_argument("--target", type=Path, metavar="DIR", help="what they should be; adds PSNR")
    compare.add_argument(
        "--crop",
        type=_crop,
        nargs="+",
        default=[],
        metavar="[NAME:]LEFT,TOP,WIDTH,HEIGHT",
        help="to enlarge, in all images or in one; default: where the methods differ most",
    )
    compare.add_argument("--side", type=_side, default=72, help="of crops that are not given, pixels; default: 72")
    compare.add_argument("--title", default="")
    stages = kinds.add_parser("stages", help="input, each stage's image, target and error (Table 7 as pictures)")
    stages.add_argument("--weights", type=Path, required=True, metavar="FILE")
    stages.add_argument("--pairs", type=Path, nargs=2, required=True, metavar=("INPUT", "TARGET"), help="two folders")
    stages.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps, ...")
    add_running(stages, precision="fp32")
    curves = kinds.add_parser("curves", help="the training curves of one or several runs")
    curves.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders with a log.csv")
    for kind in (compare, stages):
        kind.add_argument("--images", nargs="+", metavar="NAME", help="file names without suffix; default: the first 4")
    for kind, draw in ((compare, _compare), (stages, _stages), (curves, _curves)):
        kind.add_argument(
            "--out", type=Path, required=True, metavar="FILE", help="the figure; its suffix says the format"
        )
        kind.set_defaults(draw=draw)
    return parser.parse_args()


def _compare(a: argparse.Namespace) -> None:
    methods: dict[str, Path] = dict(a.methods)
    names = a.target or next(iter(methods.values()))
    found = {name: {p.target: p.input for p in match_pairs(folder, names).pairs} for name, folder in methods.items()}
    common = [path for path in next(iter(found.values())) if all(path in of_method for of_method in found.values())]
    if not common:
        raise UserError(f"no picture is there of {', '.join(methods)} alike: {', '.join(map(str, methods.values()))}.")
    rows = []
    for path in _chosen({path.stem: path for path in common}, a.images).values():
        images = {name: read_8bit(of_method[path], name)[0] for name, of_method in found.items()}
        target = read_8bit(path, "target")[0] if a.target else None
        crops = [crop for name, crop in a.crop if name in (None, path.stem)]
        rows.append(Compared(path.stem, images, target, crops))
    draw_comparison(a.out, rows, a.title, a.side)


def _stages(a: argparse.Namespace) -> None:
    source = PairSource(*a.pairs)
    with distributed_world([-1]) as world:
        restorer = make_restorer(load_network(a.weights.absolute().parent.parent, a.weights)[0], a, world, stage=None)
    rows = []
    for name, number in _chosen({name: n for n, name in enumerate(source.names)}, a.images).items():
        sample = source.read(number)
        results = [eight_bit(image) for image in restorer.every_stage(sample.degraded.astype("float32") / 255)]
        shown = {"input": sample.degraded, **{f"stage {n}": image for n, image in enumerate(results, 1)}}
        scored = [(f"{what}, {psnr(image, sample.target):.2f} dB", image) for what, image in shown.items()]
        rows.append((name, [*scored, ("target", sample.target), error_map(results[-1], sample.target)]))
    write_png(a.out, page(rows))


def _curves(a: argparse.Namespace) -> None:
    draw_curves(a.out, {str(run): _history(run) for run in a.runs})


def _history(run: Path) -> list[dict[str, Any]]:
    """A run's rows, as ``draw_curves`` takes them."""
    path = run / LOG if run.is_dir() else run
    rows: list[dict[str, Any]] = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.append({key: float(value) for key, value in row.items() if value})
            return rows
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); a run's folder holds a {LOG}.") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is no run's {LOG}: line {len(rows) + 2} does not hold numbers alone.") from error


def _chosen(there: Mapping[str, Any], names: list[str] | None) -> dict[str, Any]:
    """Those of ``names``, or the first four."""
    for name in names or ():
        if name not in there:
            raise UserError(f"there is no {name} among them, but {', '.join(list(there)[:8]) or 'nothing'}.")
    return {name: there[name] for name in names or list(there)[:4]}


def _method(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not name or not separator or not folder:
        raise argparse.ArgumentTypeError(f"takes NAME=DIR, not {text}")
    return name, Path(folder)


def _side(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a number of pixels from 1 on, not {text}")
    return int(text)


def _crop(text: str) -> tuple[str | None, Crop]:
    name, _, numbers = text.rpartition(":")
    values = numbers.split(",")
    if len(values) != 4 or not all(value.isdecimal() for value in values) or "0" in values[2:]:
        raise argparse.ArgumentTypeError(f"takes LEFT,TOP,WIDTH,HEIGHT in pixels, or NAME:LEFT,..., not {text}")
    return name or None, Crop(*map(int, values))


if __name__ == "__main__":
    main()
