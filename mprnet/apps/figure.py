"""Draws figures for papers: python -m mprnet.apps.figure compare | stages | curves."""

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mprnet.apps import command
from mprnet.apps.options import add_running_options, load_network, make_restorer
from mprnet.data.pairs import match_pairs
from mprnet.data.png import write_png
from mprnet.data.tensors import to_uint8
from mprnet.errors import UserError
from mprnet.evaluation.figures import FORMATS, ComparisonRow, Crop, draw_comparison
from mprnet.evaluation.report import draw_sheet, make_error_map
from mprnet.evaluation.sources import PairSource, read_8bit
from mprnet.inference.distributed import distributed_world
from mprnet.metrics import psnr
from mprnet.training.curves import draw_curves
from mprnet.training.logs import LOG, NUMBERS


def main() -> None:
    """Read the command line and draw."""
    command.run(_draw)


def _draw() -> int:
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
    compare = kinds.add_parser("compare", help="the results of several methods side by side, with enlarged crops")
    compare.add_argument(
        "methods",
        nargs="+",
        type=_parse_method,
        metavar="NAME=DIR",
        help="a method and the folder of its results, which are matched by file name",
    )
    compare.add_argument("--target", type=Path, metavar="DIR", help="the targets; adds PSNR")
    compare.add_argument(
        "--crop",
        type=_parse_crop,
        nargs="+",
        default=[],
        metavar="[NAME:]LEFT,TOP,WIDTH,HEIGHT",
        help="parts to enlarge, in all images or in one; default: where the methods differ most",
    )
    compare.add_argument(
        "--side",
        type=_parse_side,
        default=72,
        help="height and width in pixels of crops that are chosen automatically; default: 72",
    )
    compare.add_argument("--title", default="")
    stages = kinds.add_parser("stages", help="input, the image of each stage, target and error (Table 7 as pictures)")
    stages.add_argument("--weights", type=Path, required=True, metavar="FILE")
    stages.add_argument("--pairs", type=Path, nargs=2, required=True, metavar=("INPUT", "TARGET"), help="two folders")
    stages.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps, ...")
    add_running_options(stages, precision="fp32")
    curves = kinds.add_parser("curves", help="the training curves of one or several runs")
    curves.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders with a log.csv")
    for kind in (compare, stages):
        kind.add_argument("--images", nargs="+", metavar="NAME", help="file names without suffix; default: the first 4")
    for kind, draw in ((compare, _draw_comparison), (stages, _draw_stages), (curves, _draw_curves)):
        kind.add_argument(
            "--out", type=Path, required=True, metavar="FILE", help="the figure; its suffix chooses the format"
        )
        kind.set_defaults(draw=draw)
    return parser.parse_args()


def _draw_comparison(a: argparse.Namespace) -> None:
    methods: dict[str, Path] = dict(a.methods)
    names = a.target or next(iter(methods.values()))
    # Each method's results, by the target with the same name. Without targets, the first method gives the names.
    results = {name: {p.target: p.input for p in match_pairs(folder, names).pairs} for name, folder in methods.items()}
    common = [path for path in next(iter(results.values())) if all(path in paths for paths in results.values())]
    if not common:
        raise UserError(f"{', '.join(methods)} have no picture in common: {', '.join(map(str, methods.values()))}.")
    rows = []
    for path in _choose({path.stem: path for path in common}, a.images).values():
        images = {name: read_8bit(paths[path], name)[0] for name, paths in results.items()}
        target = read_8bit(path, "target")[0] if a.target else None
        crops = [crop for name, crop in a.crop if name in (None, path.stem)]
        rows.append(ComparisonRow(path.stem, images, target, crops))
    draw_comparison(a.out, rows, a.title, a.side)


def _draw_stages(a: argparse.Namespace) -> None:
    source = PairSource(*a.pairs)
    with distributed_world([-1]) as world:
        restorer = make_restorer(load_network(a.weights.absolute().parent.parent, a.weights)[0], a, world, stage=None)
    rows = []
    for name, number in _choose({name: n for n, name in enumerate(source.names)}, a.images).items():
        sample = source.read(number)
        results = [to_uint8(image) for image in restorer.every_stage(sample.degraded.astype("float32") / 255)]
        images = {"input": sample.degraded, **{f"stage {n}": image for n, image in enumerate(results, 1)}}
        cells = [(f"{label}, {psnr(image, sample.target):.2f} dB", image) for label, image in images.items()]
        rows.append((name, [*cells, ("target", sample.target), make_error_map(results[-1], sample.target)]))
    write_png(a.out, draw_sheet(rows))


def _draw_curves(a: argparse.Namespace) -> None:
    draw_curves(a.out, {str(run): _read_log(run) for run in a.runs})


def _read_log(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's log for ``draw_curves``."""
    path = run / LOG if run.is_dir() else run
    rows: list[dict[str, Any]] = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.append({key: float(value) for key, value in row.items() if value and key in NUMBERS})
            return rows
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); a run's folder holds a {LOG}.") from error
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is not the {LOG} of a run: line {len(rows) + 2} holds something that is not a number."
        ) from error


def _choose(available: Mapping[str, Any], names: list[str] | None) -> dict[str, Any]:
    """Return the entries called ``names``; if there are no names, the first four entries."""
    for name in names or ():
        if name not in available:
            some = ", ".join(list(available)[:8]) or "none"
            raise UserError(f"there is no picture {name}; the first pictures are {some}.")
    return {name: available[name] for name in names or list(available)[:4]}


def _parse_method(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not name or not separator or not folder:
        raise argparse.ArgumentTypeError(f"takes NAME=DIR, not {text}")
    return name, Path(folder)


def _parse_side(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a number of pixels, 1 or more, not {text}")
    return int(text)


def _parse_crop(text: str) -> tuple[str | None, Crop]:
    name, _, numbers = text.rpartition(":")
    values = numbers.split(",")
    if len(values) != 4 or not all(value.isdecimal() for value in values) or "0" in values[2:]:
        raise argparse.ArgumentTypeError(f"takes LEFT,TOP,WIDTH,HEIGHT in pixels, or NAME:LEFT,..., not {text}")
    return name or None, Crop(*map(int, values))


if __name__ == "__main__":
    main()
