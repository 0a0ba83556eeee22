"""Writes report.html: the results of test.py and demo.py, for a browser."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mprnet.apps.scores import read_versions
from mprnet.data.photo_reading import read_photo
from mprnet.data.tensors import to_uint8
from mprnet.evaluation.benchmark import Plan, Record
from mprnet.evaluation.html import HtmlFigure, HtmlTable, write_html
from mprnet.evaluation.report import Row, make_comparison, make_error_map, sort_worst_first
from mprnet.evaluation.sources import Source
from mprnet.inference.jobs import Job

_NAME = "report.html"
_MOST_SHOWN = 12  # pictures in a report, so that every browser can open it


def write_set_report(
    source: Source, numbers: Sequence[int], records: Sequence[Record], plan: Plan, rows: Sequence[Row], stage: int
) -> Path:
    """Write a benchmark's report: averages beside the paper's, all scores, and the worst images; the worst first.

    Args:
        source, numbers, plan: as for ``evaluate``. Images that are shown are restored again.
        records: as ``evaluate`` returns them.
        rows: the averages, as for ``format_comparison``.
        stage: images are sorted by the scores of this stage.

    Returns:
        The path of the report.
    """
    order = sort_worst_first(records, stage)
    averages, remarks = make_comparison(rows)
    stages = sorted({s for n in order for s in records[n]["scores"]})
    head = ["image", *(f"{measure}, stage {s}" for s in stages for measure in ("PSNR", "SSIM"))]
    lines = [
        [records[n]["name"], *(text for s in stages for text in _format_scores(*records[n]["scores"][s]))]
        for n in order
    ]
    path = plan.folder / _NAME
    write_html(
        path,
        f"{plan.key['benchmark']}, restored",
        [
            HtmlTable("Averages", averages[0], averages[1:], remarks),
            HtmlTable("All images, worst first", head, lines),
        ],
        (_make_figure(source, numbers[n], records[n], plan, stage) for n in order[:_MOST_SHOWN]),
        _format_facts({**plan.key, **read_versions()}),
        f"The {_MOST_SHOWN} worst of {len(order)} images are shown, as JPEG." if len(order) > _MOST_SHOWN else "",
    )
    return path


def write_folder_report(jobs: Sequence[Job], folder: Path, facts: Mapping[str, Any]) -> Path:
    """Write a folder's report: pictures and their results. It leaves out pictures that have no result.

    Args:
        jobs: the pictures and their results.
        folder: where the report goes.
        facts: how the results were made.

    Returns:
        The path of the report.
    """
    done = [job for job in jobs if os.path.exists(job.result)]  # False also for names that the system refuses
    path = folder / _NAME
    note = f"{_MOST_SHOWN} of {len(done)} pictures are shown, as JPEG." if len(done) > _MOST_SHOWN else ""
    write_html(
        path,
        f"{len(done)} pictures, restored",
        [],
        _make_folder_figures(done),
        _format_facts({**facts, **read_versions()}),
        note,
    )
    return path


def _format_scores(psnr: float | None, ssim: float | None) -> tuple[str, str]:
    return "identical" if psnr is None else f"{psnr:.2f}", "-" if ssim is None else f"{ssim:.4f}"


def _make_figure(source: Source, number: int, record: Record, plan: Plan, stage: int) -> HtmlFigure:
    """Restore an image again, and show its input, the result of each stage, its target and its error."""
    sample = source.read(number)
    target = to_uint8(sample.target)
    results = {s: to_uint8(result) for s, result in plan.restore(number, sample).items()}
    stages = {f"stage {s}": result for s, result in results.items() if s != stage}
    error, differences = make_error_map(results[stage], target)
    layers = {"input": sample.show_degraded(), **stages, "result": results[stage], "target": target, error: differences}
    psnr, ssim = _format_scores(*record["scores"][str(stage)])
    return HtmlFigure(record["name"], f"PSNR {psnr}, SSIM {ssim}", layers, "input", "result")


def _make_folder_figures(jobs: Sequence[Job]) -> Iterator[HtmlFigure]:
    for job in jobs[:_MOST_SHOWN]:
        with suppress(Exception):  # demo.py has reported pictures that cannot be read, whatever the error
            before, after = (to_uint8(read_photo(path).as_float()) for path in (job.source, job.result))
            size = f"{before.shape[1]} x {before.shape[0]} pixels"
            yield HtmlFigure(str(job.source), size, {"input": before, "result": after}, "input", "result")


def _format_facts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: "no" if value is None or value is False else str(value) for name, value in values.items()}
