"""The pictures that a fresh clone brings, of all tasks, on one sheet."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mprnet.data.photos import read_photo
from mprnet.errors import UserError
from mprnet.evaluation.benchmark import eight_bit
from mprnet.evaluation.report import Cell, page
from mprnet.inference.jobs import Job
from mprnet.metrics import psnr

INPUTS, TARGETS, OUTPUT = (Path(name) for name in ("input", "target", "output"))


def draw_sheet(jobs: Mapping[str, Sequence[Job]], targets: Path) -> np.ndarray:
    """A row for each task: every sample beside its result, with their PSNR where there is a target; (H, W, 3) uint8.

    Args:
        jobs: by task; those that there is no result of are left out.
        targets: the folder with TASK/NAME.png, what the samples were made from.
    """
    rows = []
    for task, of_task in jobs.items():
        cells: list[Cell] = []
        for job in of_task:
            if job.result.exists():
                cells += [
                    _cell(job.source, "input", job, targets / task),
                    _cell(job.result, "result", job, targets / task),
                ]
        if cells:
            rows.append((task, cells))
    if not rows:
        raise UserError("none of the samples could be restored.")
    return page(rows)


def _cell(path: Path, kind: str, job: Job, targets: Path) -> Cell:
    """A picture, and its PSNR where it has a target: people put pictures of their own among the samples."""
    image, target = _read(path), targets / job.source.name
    known = target.exists() and _read(target).shape == image.shape
    return f"{job.source.stem}, {kind}" + (f", {psnr(image, _read(target)):.2f} dB" if known else ""), image


def _read(path: Path) -> np.ndarray:
    return eight_bit(read_photo(path).as_float())
