"""What came out, for people: averages, tables beside the paper's, a page of pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mprnet.evaluation.benchmark import Record
from mprnet.evaluation.protocols import Benchmark, Scores, Table

_CELL, _HEAD, _GAP = 320, 22, 4
_ERROR_GAIN = 4
# Of ``comparison``'s lines.
_COLUMNS = ("{:28}", "{:>12}", "{:>9}", "{:>8}", "{:>8}", "{:>9}", "{:>8}", "{:>8}")


@dataclass(frozen=True)
class Summary:
    """A set's averages for one stage.

    Attributes:
        psnr: mean over the images that are not identical to their targets (whose PSNR is infinite); None if there are
            none.
        ssim: mean over all scored images; None if there are none.
        images: how many were scored, ``of`` so many that there should be.
        identical: how many are identical to their targets, and left out of ``psnr``.
    """

    psnr: float | None
    ssim: float | None
    images: int
    of: int
    identical: int


# What a line of figures is about, ours, and the paper's PSNR and SSIM, as far as it reports them.
Row = tuple[str, Summary, tuple[float, float | None] | None]
# A picture of ``page`` and what stands above it: (H, W, 3) uint8.
Cell = tuple[str, np.ndarray]


def summarise(records: Sequence[Record], stage: int, of: int) -> Summary:
    """Average a stage's scores; ``of`` is how many images the whole set has."""
    scores = [record["scores"][str(stage)] for record in records if str(stage) in record.get("scores", {})]
    finite = [psnr for psnr, _ in scores if psnr is not None]
    return Summary(
        float(np.mean(finite)) if finite else None,
        float(np.mean([ssim for _, ssim in scores])) if scores else None,
        len(scores),
        of,
        len(scores) - len(finite),
    )


def comparison(rows: Sequence[Row]) -> str:
    """Lines with ours, the paper's and the difference; a set that is not whole is marked, and has no difference."""
    lines, remarks = comparison_cells(rows)
    return "\n".join([*("".join(map(str.format, _COLUMNS, line)) for line in lines), *remarks])


def comparison_cells(rows: Sequence[Row]) -> tuple[list[list[str]], list[str]]:
    """``comparison``'s lines cell by cell, the first being the heads; and the remarks below them."""
    lines = [["", "images", *("PSNR", "paper", "diff."), *("SSIM", "paper", "diff.")]]
    incomplete = False
    remarks = []
    for name, summary, paper in rows:
        whole = summary.images == summary.of
        incomplete |= not whole
        if summary.identical:
            remarks.append(
                f"{name}: {summary.identical} images are identical to their targets, which is an infinite PSNR"
            )
        line = [name, f"{summary.images:,}{'' if whole else f' of {summary.of:,} *'}"]
        ours = (summary.psnr, summary.ssim)
        for value, theirs, digits in zip(ours, paper or (None, None), (2, 3), strict=True):
            difference = value - theirs if whole and value is not None and theirs is not None else None
            line += ["-" if value is None else f"{value:.{digits}f}", "-" if theirs is None else f"{theirs:.{digits}f}"]
            line.append("-" if difference is None else f"{difference:+.{digits}f}")
        lines.append(line)
    if remarks:
        remarks.append("identical images are left out of the mean PSNR")
    if incomplete:
        remarks.insert(0, "* not the whole set: not to be compared with the paper's figures")
    return lines, remarks


def error_reductions(scores: Scores, best: Scores) -> Scores:
    """By how many per cent the best method's error is smaller than this one's, in RMSE and in DSSIM, as in Table 2.

    RMSE is proportional to sqrt(10^(-PSNR / 10)), DSSIM is (1 - SSIM) / 2; from averages as they are printed.
    """
    rmse = 1 - 10 ** ((scores[0] - best[0]) / 20)
    dssim = 1 - (1 - best[1]) / (1 - scores[1]) if scores[1] < 1 else -np.inf  # no error that could be smaller
    return 100 * rmse, 100 * dssim


def paper_table(table: Table, ours: Mapping[str, Scores]) -> str:
    """The paper's table, error reductions in brackets, and below it a row of ``ours``, where they are known."""
    columns = [*table.columns, "average"] if table.average else list(table.columns)
    rows: dict[str, Sequence[Scores | None]] = dict(table.rows)
    own = [ours.get(column) for column in table.columns]
    if any(own):
        rows["ours"] = [*own, average(own)] if table.average else own
    bracketed = {len(columns) - 1} if table.average else set(range(len(columns)))
    best = {number: max(scores[number] for scores in table.rows.values()) for number in bracketed}
    lines = [[table.name, *columns]]
    lines += [[method, *(_cell(pair, best.get(n)) for n, pair in enumerate(scores))] for method, scores in rows.items()]
    widths = [max(len(line[number]) for line in lines) + 2 for number in range(len(lines[0]))]
    shown = ["".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([*shown, "PSNR / SSIM; in brackets, by how much the error of the paper's best is smaller"])


def average(scores: Sequence[tuple[float, float | None] | None]) -> Scores | None:
    """The mean, rounded as it is printed; None if one is missing."""
    known = [(psnr, ssim) for psnr, ssim in filter(None, scores) if ssim is not None]
    if not known or len(known) < len(scores):
        return None
    return round(float(np.mean([psnr for psnr, _ in known])), 2), round(float(np.mean([ssim for _, ssim in known])), 3)


def _cell(scores: Scores | None, best: Scores | None) -> str:
    if scores is None:
        return "-"
    psnr, ssim = scores
    if best is None:
        return f"{psnr:.2f} / {ssim:.3f}"
    rmse, dssim = error_reductions(scores, best)
    return f"{psnr:.2f} ({rmse:.1f}%) / {ssim:.3f} ({dssim:.1f}%)"


def ranked(records: Sequence[Record], stage: int) -> list[tuple[str, int]]:
    """The worst, the median and the best image by PSNR: (which, number in ``records``); fewer if there are fewer."""
    order = worst_first(records, stage)
    places = {"worst": 0, "median": (len(order) - 1) // 2, "best": len(order) - 1}
    chosen: dict[int, str] = {}
    for which, place in places.items():
        if order:
            chosen.setdefault(order[place], which)
    return [(which, number) for number, which in chosen.items()]


def worst_first(records: Sequence[Record], stage: int) -> list[int]:
    """Numbers in ``records`` of those that have scores, by PSNR, and by name where it is the same."""
    scored = [n for n, record in enumerate(records) if str(stage) in record.get("scores", {})]
    return sorted(scored, key=lambda n: (_sortable(records[n]["scores"][str(stage)][0]), records[n]["name"]))


def _sortable(psnr: float | None) -> float:
    return float("inf") if psnr is None else psnr


def compared(degraded: np.ndarray, result: np.ndarray, target: np.ndarray) -> list[Cell]:
    """A row's cells of ``page``: the three images, each (H, W, 3) uint8, and the error times 4."""
    return [("input", degraded), ("result", result), ("target", target), error_map(result, target)]


def error_map(result: np.ndarray, target: np.ndarray) -> Cell:
    """Absolute differences times 4, clipped; images (H, W, 3) uint8."""
    error = np.clip(_ERROR_GAIN * np.abs(result.astype(int) - target.astype(int)), 0, 255).astype(np.uint8)
    return f"error x {_ERROR_GAIN}", error


def page(rows: Sequence[tuple[str, Sequence[Cell]]]) -> np.ndarray:
    """A picture with rows of images, (H, W, 3) uint8.

    Args:
        rows: each a title and its cells.
    """
    font = ImageFont.load_default(14)
    width = max(len(cells) for _, cells in rows) * (_CELL + _GAP) + _GAP
    strips = []
    for title, cells in rows:
        fitted = [(name, _fitted(image)) for name, image in cells]
        strip = Image.new("RGB", (width, 2 * _HEAD + max(image.shape[0] for _, image in fitted) + _GAP), "white")
        draw = ImageDraw.Draw(strip)
        draw.text((_GAP, 3), title.encode(errors="replace").decode(), "black", font)
        for number, (name, image) in enumerate(fitted):
            left = _GAP + number * (_CELL + _GAP)
            draw.text((left, _HEAD + 2), name, "black", font)
            strip.paste(Image.fromarray(image), (left, 2 * _HEAD))
        strips.append(strip)
    whole = Image.new("RGB", (width, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        whole.paste(strip, (0, top))
        top += strip.height
    return np.asarray(whole)


def _fitted(image: np.ndarray) -> np.ndarray:
    """As large as a cell allows; small images are enlarged by whole pixels."""
    height, width = image.shape[:2]
    scale = _CELL / max(height, width)
    if scale >= 1:
        return np.repeat(np.repeat(image, int(scale), 0), int(scale), 1)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def paper_rows(benchmark: Benchmark, summaries: Mapping[int, Summary]) -> list[Row]:
    """``comparison``'s rows for a set, one for each stage; the last stage's is the set's own."""
    rows: list[Row] = []
    last = max(summaries)
    for stage, summary in sorted(summaries.items()):
        name = benchmark.name if len(summaries) == 1 else f"{benchmark.name}, stage {stage}"
        paper: tuple[float, float | None] | None = benchmark.paper if stage == last == 3 else None
        if paper is None and stage <= len(benchmark.stages):
            paper = (benchmark.stages[stage - 1], None)
        rows.append((name, summary, paper))
    return rows
