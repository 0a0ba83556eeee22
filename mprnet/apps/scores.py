"""Prints and draws the scores of test.py."""

import argparse
import platform
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch

from mprnet.data.png import write_png
from mprnet.data.tensors import to_uint8
from mprnet.errors import name_some
from mprnet.evaluation.benchmark import Plan, Record
from mprnet.evaluation.paper_tables import average_scores, format_paper_table
from mprnet.evaluation.protocols import Protocols
from mprnet.evaluation.report import Row, Summary, choose_examples, draw_sheet, format_comparison, make_cells
from mprnet.evaluation.sources import Source


def print_scores(
    rows: list[Row], our_averages: Mapping[str, Summary], protocols: Protocols, a: argparse.Namespace, network: str
) -> None:
    """Print our scores beside the paper's, and with --table the paper's tables.

    If all sets of a table are complete, and the paper prints their average, print our average, too.

    Args:
        rows: the lines to print.
        our_averages: the last stage's averages, by benchmark, of complete benchmarks.
        protocols: the task's benchmarks and tables.
        a: the command line.
        network: a description of the network that was scored.
    """
    # The paper's tables are about the last stage.
    is_last_stage = a.stage in (None, 3)
    scores = {name: (s.psnr, s.ssim) for name, s in our_averages.items() if s.psnr is not None and s.ssim is not None}
    if rows:
        for table in protocols.tables:
            if table.average and all(column in scores for column in table.columns):
                psnr, ssim = average_scores([scores[column] for column in table.columns]) or (None, None)
                images, identical = (
                    sum(getattr(our_averages[c], n) for c in table.columns) for n in ("images", "identical")
                )
                paper = table.rows["MPRNet"][-1] if is_last_stage and "MPRNet" in table.rows else None
                rows.append(("average", Summary(psnr, ssim, images, images, identical), paper))
        print(format_comparison(rows))
        print(f"{network}; look into {a.result_dir}")
    if a.table:
        print_tables(protocols, scores if is_last_stage else {})


def print_tables(protocols: Protocols, our_scores: Mapping[str, tuple[float, float]]) -> None:
    """Print the paper's tables with our scores (PSNR and SSIM by benchmark) as the last row."""
    print("\n\n".join(format_paper_table(table, our_scores) for table in protocols.tables))


def print_notes(records: Sequence[Record]) -> None:
    """Print the notes about images, each note once, with the names of its images."""
    notes: dict[str, list[str]] = {}
    for record in records:
        for note in record.get("notes", []):
            notes.setdefault(note, []).append(record["name"])
    for note, names in notes.items():
        print(f"note: {note}: {name_some(names)}")


def write_page(source: Source, numbers: Sequence[int], records: Sequence[Record], plan: Plan, stage: int) -> None:
    """Write page.png: the worst, the median and the best image of a stage. They are restored again for it."""
    rows = []
    for rank, index in choose_examples(records, stage):
        sample = source.read(numbers[index])
        result = plan.restore(numbers[index], sample)[stage]
        psnr, ssim = records[index]["scores"][str(stage)]
        psnr_text = "identical" if psnr is None else f"{psnr:.2f} dB"
        ssim_text = "no SSIM" if ssim is None else f"SSIM {ssim:.4f}"
        title = f"{rank}: {records[index]['name']}, {psnr_text}, {ssim_text}"
        rows.append((title, make_cells(sample.show_degraded(), to_uint8(result), to_uint8(sample.target))))
    path = plan.folder / "page.png"
    path.unlink(missing_ok=True)
    if rows:
        write_png(path, draw_sheet(rows))


def read_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that scores depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
