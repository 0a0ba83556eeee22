"""report.html: what test.py and demo.py have to show, for a browser."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mprnet.apps.scores import versions
from mprnet.data.photos import read_photo
from mprnet.errors import UserError
from mprnet.evaluation.benchmark import Plan, Record, eight_bit
from mprnet.evaluation.html import Figure, Listing, write_html
from mprnet.evaluation.report import Row, comparison_cells, error_map, worst_first
from mprnet.evaluation.sources import Source
from mprnet.inference.jobs import Job

_NAME = "report.html"
_SHOWN = 12  # pictures in a report, so that any browser opens it


def report_set(
    source: Source, numbers: Sequence[int], records: Sequence[Record], plan: Plan, rows: Sequence[Row], stage: int
) -> Path:
    """Write a data set's report: averages beside the paper's, all scores, the worst pictures; worst first.

    Args:
        numbers, records, plan: as for ``evaluate``; what is shown is restored anew, as results are not kept.
        rows: the averages, as for ``comparison``.
        stage: whose scores decide which is the worst.

    Returns:
        The file.
    """
    order = worst_first(records, stage)
    averages, remarks = comparison_cells(rows)
    scores = sorted({s for n in order for s in records[n]["scores"]})
    head = ["image", *(f"{measure}, stage {s}" for s in scores for measure in ("PSNR", "SSIM"))]
    lines = [[records[n]["name"], *(w for s in scores for w in _words(*records[n]["scores"][s]))] for n in order]
    path = plan.folder / _NAME
    write_html(
        path,
        f"{plan.key['benchmark']}, restored",
        [
            Listing("Averages", averages[0], averages[1:], remarks),
            Listing("All images, worst first", head, lines),
        ],
        (_scored(source, numbers[n], records[n], plan, stage) for n in order[:_SHOWN]),
        _facts({**plan.key, **versions()}),
        f"The {_SHOWN} worst of {len(order)} images are shown, as JPEG." if len(order) > _SHOWN else "",
    )
    return path


def report_folder(jobs: Sequence[Job], folder: Path, facts: Mapping[str, Any]) -> Path:
    """Write a folder's report: its pictures and what became of them; those without a result are left out.

    Args:
        facts: how the results were made.

    Returns:
        The file.
    """
    done = [job for job in jobs if job.result.exists()]
    path = folder / _NAME
    note = f"{_SHOWN} of {len(done)} pictures are shown, as JPEG." if len(done) > _SHOWN else ""
    write_html(path, f"{len(done)} pictures, restored", [], _restored(done), _facts({**facts, **versions()}), note)
    return path


def _words(psnr: float | None, ssim: float) -> tuple[str, str]:
    return ("identical" if psnr is None else f"{psnr:.2f}"), f"{ssim:.4f}"


def _scored(source: Source, number: int, record: Record, plan: Plan, stage: int) -> Figure:
    sample = source.read(number)
    target = eight_bit(sample.target)
    results = {s: eight_bit(result) for s, result in plan.restore(number, sample).items()}
    stages = {f"stage {s}": result for s, result in results.items() if s != stage}
    error, differences = error_map(results[stage], target)
    layers = {"input": sample.degraded, **stages, "result": results[stage], "target": target, error: differences}
    psnr, ssim = _words(*record["scores"][str(stage)])
    return Figure(record["name"], f"PSNR {psnr}, SSIM {ssim}", layers, "input", "result")


def _restored(jobs: Sequence[Job]) -> Iterator[Figure]:
    for job in jobs[:_SHOWN]:
        with suppress(UserError):  # a picture that is not to be read was reported when it was to be restored
            before, after = (eight_bit(read_photo(path).as_float()) for path in (job.source, job.result))
            size = f"{before.shape[1]} x {before.shape[0]} pixels"
            yield Figure(str(job.source), size, {"input": before, "result": after}, "input", "result")


def _facts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: "no" if value in (None, False) else str(value) for name, value in values.items()}
