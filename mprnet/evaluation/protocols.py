"""Reads a task's benchmarks.yml: where each benchmark is, how it is scored, and what the paper reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mprnet.data.folders import find_first
from mprnet.errors import UserError, one_line
from mprnet.evaluation.scoring import MEASURES

KINDS = ("pairs", "sidd", "dnd")
Scores = tuple[float, float]  # PSNR and SSIM


@dataclass(frozen=True)
class Benchmark:
    """A test set with its protocol.

    Attributes:
        kind: ``pairs`` (folders of pictures), or ``sidd`` or ``dnd`` (the files of these data sets).
        places: folders where it can be, relative to the folder of data sets. The first one that exists is used.
        count: number of images in the published set.
        measure: a name of ``MEASURES``; empty if a server scores the results.
        paper: the paper's PSNR in dB and SSIM, or None.
        stages: the paper's PSNR of each stage in dB, if the paper reports it (Table 7).
    """

    name: str
    kind: str
    places: tuple[str, ...]
    count: int
    measure: str
    paper: Scores | None
    stages: tuple[float, ...] = ()

    def locate(self, datasets: Path) -> Path | None:
        """Return the folder of the benchmark, or None if it is not in ``datasets``."""
        entries = {"pairs": ("input", "target"), "dnd": ("info.mat",), "sidd": ("ValidationNoisyBlocksSrgb.mat",)}
        return find_first((datasets / place for place in self.places), entries[self.kind])

    def describe_files(self, datasets: Path) -> str:
        """Return a text that says which files and folders the benchmark needs in ``datasets``."""
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
        columns: names of benchmarks.
        rows: each method's scores, one for each column.
        average: True if the paper's table has a column of averages, too. Then each row ends with its average, and the
            table has error reductions for the averages only.
    """

    name: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[Scores, ...]]
    average: bool


@dataclass(frozen=True)
class Protocols:
    """A task's benchmarks, and the paper's tables about them.

    Attributes:
        measure: the measure for the user's own pairs, unless the user names another one. The validation of a training
            reports it too.
    """

    measure: str
    benchmarks: dict[str, Benchmark]
    tables: tuple[Table, ...]


def load_protocols(path: Path) -> Protocols:
    """Read a task's benchmarks.yml.

    Raises:
        UserError: the file does not exist, or is not as the docstrings of this module say.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        benchmarks = {name: _make_benchmark(name, entry) for name, entry in content["benchmarks"].items()}
        tables = tuple(_make_table(name, entry) for name, entry in content.get("tables", {}).items())
        measure = str(content["measure"])
        unknown = [c for table in tables for c in table.columns if c not in benchmarks]
        if measure not in MEASURES or unknown:
            raise ValueError(f"unknown {unknown[0] if unknown else measure}")
    except OSError as error:
        raise UserError(f"cannot read the benchmarks {path}: {error.strerror}.") from error
    except KeyError as error:
        raise UserError(f"{path} has no key {error}.") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} does not describe benchmarks: {one_line(error)}.") from error
    return Protocols(measure, benchmarks, tables)


def _make_benchmark(name: str, entry: Mapping[str, Any]) -> Benchmark:
    kind, measure = str(entry.get("kind", "pairs")), str(entry.get("measure", ""))
    if kind not in KINDS or (measure not in MEASURES and kind != "dnd"):
        raise ValueError(f"{name}: kind {kind} or measure {measure or 'none'} is unknown")
    paper = _make_scores(entry["paper"]) if "paper" in entry else None
    if not isinstance(entry["places"], list) or not entry["places"]:
        raise ValueError(f"{name} needs places: a list of folders")
    places, stages = tuple(map(str, entry["places"])), tuple(map(float, entry.get("stages", ())))
    return Benchmark(name, kind, places, int(entry["count"]), measure, paper, stages)


def _make_table(name: str, entry: Mapping[str, Any]) -> Table:
    columns = tuple(map(str, entry["columns"]))
    rows = {str(method): tuple(map(_make_scores, scores)) for method, scores in entry["rows"].items()}
    if not rows:
        raise ValueError(f"{name} has no rows")
    average = bool(entry.get("average", False))
    if any(len(scores) != len(columns) + average for scores in rows.values()):
        raise ValueError(f"{name} has rows whose length does not fit its columns")
    return Table(name, columns, rows, average)


def _make_scores(pair: Any) -> Scores:
    psnr, ssim = pair
    return float(psnr), float(ssim)
