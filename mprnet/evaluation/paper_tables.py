"""Published tables as text, with our scores in them."""

from collections.abc import Mapping, Sequence

import numpy as np

from mprnet.evaluation.protocols import Table
from mprnet.evaluation.scoring import Scores


def error_reductions(scores: Scores, best: Scores) -> Scores:
    """Return by how many per cent the best method's error is smaller, in RMSE and in DSSIM, as in Table 2.

    Without SSIM, DSSIM is None.

    RMSE is proportional to sqrt(10^(-PSNR / 10)), and DSSIM is (1 - SSIM) / 2.

    Args:
        scores: a method's PSNR in dB and SSIM, rounded as they are printed.
        best: the same of the best method.
    """
    rmse = 1 - 10 ** ((scores[0] - best[0]) / 20)
    if scores[1] is None or best[1] is None:
        return 100 * rmse, None
    dssim = 1 - (1 - best[1]) / (1 - scores[1]) if scores[1] < 1 else -np.inf  # no error can be smaller
    return 100 * rmse, 100 * dssim


def format_paper_table(table: Table, our_scores: Mapping[str, Scores]) -> str:
    """Return the paper's table as text, with error reductions in brackets.

    Args:
        table: the paper's table.
        our_scores: our PSNR and SSIM by benchmark: the last row. Without scores for this table, there is no such row.
    """
    columns = [*table.columns, "average"] if table.average else list(table.columns)
    rows: dict[str, Sequence[Scores | None]] = dict(table.rows)
    own = [our_scores.get(column) for column in table.columns]
    only_psnr = all(ssim is None for scores in table.rows.values() for _, ssim in scores)
    if only_psnr:
        own = [pair and (pair[0], None) for pair in own]
    if any(own):
        rows["ours"] = [*own, average_scores(own)] if table.average else own
    bracketed = {len(columns) - 1} if table.average else set(range(len(columns)))
    best = {number: max((scores[number] for scores in table.rows.values()), key=_sort_key) for number in bracketed}
    lines = [[table.name, *columns]]
    lines += [
        [method, *(_format_cell(pair, best.get(n)) for n, pair in enumerate(scores))] for method, scores in rows.items()
    ]
    widths = [max(len(line[number]) for line in lines) + 2 for number in range(len(lines[0]))]
    text = ["".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines]
    measures = "PSNR" if only_psnr else "PSNR / SSIM"
    return "\n".join([*text, f"{measures}; in brackets: by how much the error of the best published method is smaller"])


def _sort_key(scores: Scores) -> tuple[float, float]:
    return scores[0], scores[1] or 0.0


def average_scores(scores: Sequence[Scores | None]) -> Scores | None:
    """Return the means of PSNR and SSIM, rounded as they are printed; None if a value is missing."""
    known = [(psnr, ssim) for psnr, ssim in filter(None, scores) if ssim is not None]
    if not known or len(known) < len(scores):
        return None
    return round(float(np.mean([psnr for psnr, _ in known])), 2), round(float(np.mean([ssim for _, ssim in known])), 3)


def _format_cell(scores: Scores | None, best: Scores | None) -> str:
    if scores is None:
        return "-"
    reductions = error_reductions(scores, best) if best else (None, None)
    cells = []
    for value, reduction, digits in zip(scores, reductions, (2, 3), strict=True):
        if value is not None:
            cells.append(f"{value:.{digits}f}" + ("" if reduction is None else f" ({reduction:.1f}%)"))
    return " / ".join(cells)
