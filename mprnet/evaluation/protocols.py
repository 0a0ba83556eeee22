"""Benchmarks as data: where a set lies, how it is scored, what the paper reports (a task's benchmarks.yml)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mprnet.errors import UserError
from mprnet.evaluation.scoring import MEASURES

KINDS = ("pairs", "sidd", "dnd")
Scores = tuple[float, float]  # PSNR and SSIM


@dataclass(frozen=True)
class Benchmark:
    """A set of images that results are reported on.

    Attributes:
        kind: ``pairs`` of pictures, or the files of ``sidd`` or ``dnd``.
        places: where it may lie, relative to the folder of data sets; the first that is there is taken.
        count: images in the published set.
        measure: a name of ``MEASURES``; empty where a server scores.
        paper: the paper's PSNR and SSIM, from ``table``.
        stages: the paper's PSNR by stage, if it reports that (Table 7).
    """

    name: str
    kind: str
    places: tuple[str, ...]
    count: int
    measure: str
    paper: Scores | None
    table: str
    stages: tuple[float, ...] = ()

    def locate(self, datasets: Path) -> Path | None:
        """The set's folder, or None if it is not there."""
        marks = {"pairs": ("input", "target"), "dnd": ("info.mat",), "sidd": ("ValidationNoisyBlocksSrgb.mat",)}
        for place in self.places:
            folder = datasets / place
            if any((folder / mark).exists() for mark in marks[self.kind]):
                return folder
        return None

    def expected(self, datasets: Path) -> str:
        """What is looked for, for people."""
        folder = datasets / self.places[0]
        return {
            "pairs": f"{folder}/{{input,target}}, {self.count:,} pictures each",
            "sidd": f"{folder}/{{ValidationNoisyBlocksSrgb,ValidationGtBlocksSrgb}}.mat",
            "dnd": f"{folder}/info.mat and {folder}/images_srgb/0001.mat to 0050.mat",
        }[self.kind]


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        columns: benchmarks.
        rows: from method to its scores, one for each column.
        average: whether the paper prints the average too (each row's last score), and the error reductions of that
            alone.
    """

    name: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[Scores, ...]]
    average: bool


@dataclass(frozen=True)
class Protocols:
    """A task's benchmarks, and the paper's tables of them.

    Attributes:
        measure: how pairs of one's own are scored unless it is said otherwise.
    """

    measure: str
    benchmarks: dict[str, Benchmark]
    tables: tuple[Table, ...]


def load_protocols(path: Path) -> Protocols:
    """Read a task's benchmarks.yml.

    Raises:
        UserError: it is not there, or not as described in the docstrings of this module.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        benchmarks = {name: _benchmark(name, entry) for name, entry in content["benchmarks"].items()}
        tables = tuple(_table(name, entry) for name, entry in content.get("tables", {}).items())
        measure = str(content["measure"])
        wrong = [c for table in tables for c in table.columns if c not in benchmarks]
        if measure not in MEASURES or wrong:
            raise ValueError(f"unknown {wrong[0] if wrong else measure}")
    except OSError as error:
        raise UserError(f"cannot read the benchmarks {path}: {error.strerror}.") from error
    except KeyError as error:
        raise UserError(f"{path} lacks {error}.") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} does not describe benchmarks: {' '.join(str(error).split())}.") from error
    return Protocols(measure, benchmarks, tables)


def _benchmark(name: str, entry: Mapping[str, Any]) -> Benchmark:
    kind, measure = str(entry.get("kind", "pairs")), str(entry.get("measure", ""))
    if kind not in KINDS or (measure not in MEASURES and kind != "dnd"):
        raise ValueError(f"{name} is of kind {kind}, measured by {measure or 'nothing'}")
    paper = _scores(entry["paper"]) if "paper" in entry else None
    if not isinstance(entry["places"], list) or not entry["places"]:
        raise ValueError(f"{name} needs places: a list of folders")
    places, stages = tuple(map(str, entry["places"])), tuple(map(float, entry.get("stages", ())))
    return Benchmark(name, kind, places, int(entry["count"]), measure, paper, str(entry.get("table", "")), stages)


def _table(name: str, entry: Mapping[str, Any]) -> Table:
    columns = tuple(map(str, entry["columns"]))
    rows = {str(method): tuple(map(_scores, scores)) for method, scores in entry["rows"].items()}
    if not rows:
        raise ValueError(f"{name} has no rows")
    average = bool(entry.get("average", False))
    if any(len(scores) != len(columns) + average for scores in rows.values()):
        raise ValueError(f"{name} has rows that are not as long as its columns")
    return Table(name, columns, rows, average)


def _scores(pair: Any) -> Scores:
    psnr, ssim = pair
    return float(psnr), float(ssim)
