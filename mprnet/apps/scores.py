"""What test.py says and draws of scores."""

import argparse
import platform
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch

from mprnet.data.png import write_png
from mprnet.evaluation.benchmark import Plan, Record, eight_bit
from mprnet.evaluation.protocols import Protocols
from mprnet.evaluation.report import Row, Summary, average, compared, comparison, page, paper_table, ranked
from mprnet.evaluation.sources import Source


def print_scores(
    rows: list[Row], ours: Mapping[str, Summary], protocols: Protocols, a: argparse.Namespace, network: str
) -> None:
    """Print ours beside the paper's, with averages where all of a table's sets are whole; with --table, the tables.

    Args:
        ours: the last stage's averages, by data set.
        network: what to say of what was scored.
    """
    # Another stage's images are not what the paper's tables are about.
    final = a.stage in (None, 3)
    scores = {name: (s.psnr, s.ssim) for name, s in ours.items() if s.psnr is not None and s.ssim is not None}
    if rows:
        for table in protocols.tables:
            if table.average and all(column in scores for column in table.columns):
                psnr, ssim = average([scores[column] for column in table.columns]) or (None, None)
                images, identical = (sum(getattr(ours[c], n) for c in table.columns) for n in ("images", "identical"))
                paper = table.rows["MPRNet"][-1] if final and "MPRNet" in table.rows else None
                rows.append(("average", Summary(psnr, ssim, images, images, identical), paper))
        print(comparison(rows))
        print(f"{network}; look into {a.result_dir}")
    if a.table:
        print_tables(protocols, scores if final else {})


def print_tables(protocols: Protocols, ours: Mapping[str, tuple[float, float]]) -> None:
    """Print the paper's tables, and ours (PSNR and SSIM by data set) in them."""
    print("\n\n".join(paper_table(table, ours) for table in protocols.tables))


def print_notes(records: Sequence[Record]) -> None:
    """Print what was noted of images, each note once."""
    notes: dict[str, list[str]] = {}
    for record in records:
        for note in record.get("notes", []):
            notes.setdefault(note, []).append(record["name"])
    for note, names in notes.items():
        print(f"note: {note}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}")


def write_page(source: Source, numbers: Sequence[int], records: Sequence[Record], plan: Plan, stage: int) -> None:
    """Write page.png: the worst, median and best image of a stage; restored anew, as results are not kept."""
    rows = []
    for which, place in ranked(records, stage):
        sample = source.read(numbers[place])
        result = plan.restore(numbers[place], sample)[stage]
        psnr, ssim = records[place]["scores"][str(stage)]
        shown = "identical" if psnr is None else f"{psnr:.2f} dB"
        title = f"{which}: {records[place]['name']}, {shown}, SSIM {ssim:.4f}"
        rows.append((title, compared(sample.degraded, eight_bit(result), eight_bit(sample.target))))
    path = plan.folder / "page.png"
    path.unlink(missing_ok=True)
    if rows:
        write_png(path, page(rows))


def versions() -> dict[str, str]:
    """Of what scores depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
