"""Reads a task's benchmarks.yml: where each benchmark is, how it is scored, and what the paper reports."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mprnet.data.folders import find_first
from mprnet.errors import UserError, one_line
from mprnet.evaluation.scoring import MEASURES, Scores
from mprnet.evaluation.sources import AddedNoise

KINDS = ("pairs", "noise", "sidd", "dnd")


@dataclass(frozen=True)
class Benchmark:
    """A test set with its protocol.

    Attributes:
        set: the data set. ``kind`` ``noise`` makes several benchmarks of one.
        kind: ``pairs`` (folders of pictures), ``noise`` (a folder of clean pictures, to which noise is added), or
            ``sidd`` or ``dnd`` (the files of these data sets).
        places: folders where it can be, relative to the folder of data sets. The first one that exists is used.
        count: number of images in the published set.
        measure: a name of ``MEASURES``; empty if a server scores the results.
        paper: the paper's PSNR in dB and SSIM, or None.
        stages: the paper's PSNR of each stage in dB, if the paper reports it (Table 7).
        noise: of ``kind`` ``noise``.
    """

    name: str
    set: str
    kind: str
    places: tuple[str, ...]
    count: int
    measure: str
    paper: Scores | None
    stages: tuple[float, ...] = ()
    noise: AddedNoise | None = None

    def locate(self, datasets: Path) -> Path | None:
        """Return the folder of the benchmark, or None if it is not in ``datasets``."""
        entries = {
            "pairs": ("input", "target"),
            "noise": ("",),
            "dnd": ("info.mat",),
            "sidd": ("ValidationNoisyBlocksSrgb.mat",),
        }
        return find_first((datasets / place for place in self.places), entries[self.kind])

    def describe_files(self, datasets: Path) -> str:
        """Return a text that says which files and folders the benchmark needs in ``datasets``."""
        folder = datasets / self.places[0]
        return {
            "pairs": f"{folder}/{{input,target}}, {self.count:,} pictures each",
            "noise": f"{folder}, {self.count:,} pictures",
            "sidd": f"{folder}/{{ValidationNoisyBlocksSrgb,ValidationGtBlocksSrgb}}.mat",
            "dnd": f"{folder}/info.mat and {folder}/images_srgb/0001.mat to 0050.mat",
        }[self.kind]


@dataclass(frozen=True)
class Table:
    """A table of the paper, or of others.

    Attributes:
        columns: names of benchmarks.
        rows: each method's scores, one for each column. SSIM is None in all of them if the table has only PSNR.
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

    def sets(self) -> dict[str, Benchmark]:
        """Return the data sets by name, each with its first benchmark."""
        sets: dict[str, Benchmark] = {}
        for benchmark in self.benchmarks.values():
            sets.setdefault(benchmark.set, benchmark)
        return sets

    def select(self, names: Iterable[str]) -> list[Benchmark]:
        """Return the benchmarks that ``names`` name, by their own names or those of their data sets."""
        chosen = [b for name in names for b in self.benchmarks.values() if name in (b.name, b.set)]
        return list(dict.fromkeys(chosen))


def load_protocols(path: Path) -> Protocols:
    """Read a task's benchmarks.yml.

    Raises:
        UserError: the file does not exist, or is not as the docstrings of this module say.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = content["benchmarks"].items()
        benchmarks = {b.name: b for name, entry in entries for b in _make_benchmarks(name, entry)}
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


def _make_benchmarks(name: str, entry: Mapping[str, Any]) -> Iterator[Benchmark]:
    """Yield the benchmark of an entry; of kind ``noise``, one for each sigma, unclipped and clipped."""
    kind, measure = str(entry.get("kind", "pairs")), str(entry.get("measure", ""))
    if kind not in KINDS or (measure not in MEASURES and kind != "dnd"):
        raise ValueError(f"{name}: kind {kind} or measure {measure or 'none'} is unknown")
    paper = _make_scores(entry["paper"]) if "paper" in entry else None
    if not isinstance(entry["places"], list) or not entry["places"]:
        raise ValueError(f"{name} needs places: a list of folders")
    places, stages = tuple(map(str, entry["places"])), tuple(map(float, entry.get("stages", ())))
    benchmark = Benchmark(name, name, kind, places, int(entry["count"]), measure, paper, stages)
    if kind != "noise":
        yield benchmark
        return
    for clipped in (False, True):
        for sigma in entry["sigma"]:
            noise = AddedNoise(float(sigma), clipped, int(entry["seed"]))
            yield replace(benchmark, name=f"{name}_{sigma}{'_clipped' if clipped else ''}", noise=noise)


def _make_table(name: str, entry: Mapping[str, Any]) -> Table:
    columns = tuple(map(str, entry["columns"]))
    rows = {str(method): tuple(map(_make_scores, scores)) for method, scores in entry["rows"].items()}
    if not rows:
        raise ValueError(f"{name} has no rows")
    average = bool(entry.get("average", False))
    if any(len(scores) != len(columns) + average for scores in rows.values()):
        raise ValueError(f"{name} has rows whose length does not fit its columns")
    return Table(name, columns, rows, average)


def _make_scores(scores: Any) -> Scores:
    """Return PSNR and SSIM, from a pair of numbers or from PSNR alone."""
    psnr, ssim = scores if isinstance(scores, list) else (scores, None)
    return float(psnr), None if ssim is None else float(ssim)
