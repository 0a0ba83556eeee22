"""Results for people: averages beside the paper's figures, and sheets of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mprnet.evaluation.benchmark import Record
from mprnet.evaluation.protocols import Benchmark
from mprnet.evaluation.scoring import NO_SSIM, Scores

_CELL, _HEAD, _GAP = 320, 22, 4  # pixels of a sheet: side of a cell, height of a line of text, gap between cells
_ERROR_GAIN = 4
# How ``format_comparison`` aligns its columns.
_COLUMNS = ("{:28}", "{:>12}", "{:>9}", "{:>8}", "{:>8}", "{:>9}", "{:>8}", "{:>8}")


@dataclass(frozen=True)
class Summary:
    """The averages of a set of images for one stage.

    Attributes:
        psnr: mean in dB over the images that are not identical to their targets (their PSNR would be infinite). None
            if there are no such images.
        ssim: mean over the scored images that have an SSIM; None if there are none.
        images: number of scored images.
        of: number of images in the whole set.
        identical: number of images that are identical to their targets. ``psnr`` does not include them.
        without_ssim: number of scored images that are too small for SSIM. ``ssim`` does not include them.
    """

    psnr: float | None
    ssim: float | None
    images: int
    of: int
    identical: int
    without_ssim: int = 0


# A line of a comparison: its name, our averages, and the paper's PSNR and SSIM. None: the paper does not report it.
Row = tuple[str, Summary, Scores | None]
# A cell of a sheet: its caption and its image, (H, W, 3) uint8.
Cell = tuple[str, np.ndarray]


def summarise(records: Sequence[Record], stage: int, of: int) -> Summary:
    """Return the averages of a stage's scores; ``of`` is the number of images in the whole set."""
    scores = [record["scores"][str(stage)] for record in records if str(stage) in record.get("scores", {})]
    finite = [psnr for psnr, _ in scores if psnr is not None]
    ssims = [ssim for _, ssim in scores if ssim is not None]
    return Summary(
        float(np.mean(finite)) if finite else None,
        float(np.mean(ssims)) if ssims else None,
        len(scores),
        of,
        len(scores) - len(finite),
        len(scores) - len(ssims),
    )


def format_comparison(rows: Sequence[Row]) -> str:
    """Return a text table: our averages, the paper's, and their difference. Incomplete sets have a mark instead."""
    lines, remarks = make_comparison(rows)
    return "\n".join([*("".join(map(str.format, _COLUMNS, line)) for line in lines), *remarks])


def make_comparison(rows: Sequence[Row]) -> tuple[list[list[str]], list[str]]:
    """Return the cells of ``format_comparison``'s table, the head first, and the remarks to print below it."""
    lines = [["", "images", *("PSNR", "paper", "diff."), *("SSIM", "paper", "diff.")]]
    incomplete = False
    remarks, without_ssim = [], []
    for name, summary, paper in rows:
        is_complete = summary.images == summary.of
        incomplete |= not is_complete
        if summary.identical:
            remarks.append(f"{name}: {summary.identical} images are identical to their targets: their PSNR is infinite")
        if summary.without_ssim:
            count = f"{summary.without_ssim} of {summary.images} images"
            without_ssim.append(f"{name}: {count} are {NO_SSIM}: its mean is over the others")
        line = [name, f"{summary.images:,}{'' if is_complete else f' of {summary.of:,} *'}"]
        values = (summary.psnr, summary.ssim)
        for value, paper_value, digits in zip(values, paper or (None, None), (2, 3), strict=True):
            difference = value - paper_value if is_complete and value is not None and paper_value is not None else None
            line += [
                "-" if value is None else f"{value:.{digits}f}",
                "-" if paper_value is None else f"{paper_value:.{digits}f}",
            ]
            line.append("-" if difference is None else f"{difference:+.{digits}f}")
        lines.append(line)
    if remarks:
        remarks.append("identical images are left out of the mean PSNR")
    remarks += without_ssim
    if incomplete:
        remarks.insert(0, "* not the whole set: do not compare it with the paper's figures")
    return lines, remarks


def choose_examples(records: Sequence[Record], stage: int) -> list[tuple[str, int]]:
    """Return the worst, the median and the best image by PSNR: (rank, number in ``records``). No image comes twice."""
    order = sort_worst_first(records, stage)
    positions = {"worst": 0, "median": (len(order) - 1) // 2, "best": len(order) - 1}
    chosen: dict[int, str] = {}
    for rank, position in positions.items():
        if order:
            chosen.setdefault(order[position], rank)
    return [(rank, number) for number, rank in chosen.items()]


def sort_worst_first(records: Sequence[Record], stage: int) -> list[int]:
    """Return the numbers in ``records`` of the scored images, sorted by PSNR, then by name."""
    scored = [n for n, record in enumerate(records) if str(stage) in record.get("scores", {})]
    return sorted(scored, key=lambda n: (_psnr_or_infinity(records[n]["scores"][str(stage)][0]), records[n]["name"]))


def _psnr_or_infinity(psnr: float | None) -> float:
    return float("inf") if psnr is None else psnr


def make_cells(degraded: np.ndarray, result: np.ndarray, target: np.ndarray) -> list[Cell]:
    """Return a row of cells: the three images, each (H, W, 3) uint8, and the error of the result."""
    return [("input", degraded), ("result", result), ("target", target), make_error_map(result, target)]


def make_error_map(result: np.ndarray, target: np.ndarray) -> Cell:
    """Return the absolute differences times 4, clipped; images (H, W, 3) uint8."""
    error = np.clip(_ERROR_GAIN * np.abs(result.astype(int) - target.astype(int)), 0, 255).astype(np.uint8)
    return f"error x {_ERROR_GAIN}", error


def draw_sheet(rows: Sequence[tuple[str, Sequence[Cell]]]) -> np.ndarray:
    """Draw rows of images on one sheet, (H, W, 3) uint8.

    Args:
        rows: the title and the cells of each row.
    """
    font = ImageFont.load_default(14)
    width = max(len(cells) for _, cells in rows) * (_CELL + _GAP) + _GAP
    strips = []
    for title, cells in rows:
        fitted = [(name, _fit_cell(image)) for name, image in cells]
        strip = Image.new("RGB", (width, 2 * _HEAD + max(image.shape[0] for _, image in fitted) + _GAP), "white")
        draw = ImageDraw.Draw(strip)
        draw.text((_GAP, 3), title.encode(errors="replace").decode(), "black", font)
        for number, (name, image) in enumerate(fitted):
            left = _GAP + number * (_CELL + _GAP)
            draw.text((left, _HEAD + 2), name, "black", font)
            strip.paste(Image.fromarray(image), (left, 2 * _HEAD))
        strips.append(strip)
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return np.asarray(sheet)


def _fit_cell(image: np.ndarray) -> np.ndarray:
    """Return the image as large as fits in a cell. Small images are enlarged by a whole factor, without blur."""
    height, width = image.shape[:2]
    scale = _CELL / max(height, width)
    if scale >= 1:
        return np.repeat(np.repeat(image, int(scale), 0), int(scale), 1)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def make_rows(benchmark: Benchmark, summaries: Mapping[int, Summary]) -> list[Row]:
    """Return the lines of a benchmark for ``format_comparison``, one for each stage.

    Args:
        summaries: averages by stage. The paper's PSNR and SSIM are beside those of stage 3, if it is the last one.
    """
    rows: list[Row] = []
    last = max(summaries)
    for stage, summary in sorted(summaries.items()):
        name = benchmark.name if len(summaries) == 1 else f"{benchmark.name}, stage {stage}"
        paper: Scores | None = benchmark.paper if stage == last == 3 else None
        if paper is None and stage <= len(benchmark.stages):
            paper = (benchmark.stages[stage - 1], None)
        rows.append((name, summary, paper))
    return rows
