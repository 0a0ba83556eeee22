"""Draws the sample pictures of all tasks and their results on one sheet."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mprnet.data.photo_reading import read_photo
from mprnet.data.tensors import to_uint8
from mprnet.errors import UserError
from mprnet.evaluation.report import Cell, draw_sheet
from mprnet.inference.jobs import Job
from mprnet.metrics import psnr

INPUTS, TARGETS, OUTPUT = (Path(name) for name in ("input", "target", "output"))


def draw_samples(jobs: Mapping[str, Sequence[Job]], targets: Path) -> np.ndarray:
    """Draw a row for each task: each sample beside its result, with PSNR if there is a target; (H, W, 3) uint8.

    Args:
        jobs: by task. Jobs without a result are left out.
        targets: the folder of the targets, TASK/NAME.png.

    Raises:
        UserError: no sample has a result.
    """
    rows = []
    for task, task_jobs in jobs.items():
        cells: list[Cell] = []
        for job in task_jobs:
            if os.path.exists(job.result):
                cells += [
                    _make_cell(job.source, "input", job, targets / task),
                    _make_cell(job.result, "result", job, targets / task),
                ]
        if cells:
            rows.append((task, cells))
    if not rows:
        raise UserError("none of the samples could be restored.")
    return draw_sheet(rows)


def _make_cell(path: Path, kind: str, job: Job, targets: Path) -> Cell:
    """Return a picture with its name and, if it has a target, its PSNR. Users' own pictures have no target."""
    image, target = _read(path), targets / job.source.name
    has_target = target.exists() and _read(target).shape == image.shape
    return f"{job.source.stem}, {kind}" + (f", {psnr(image, _read(target)):.2f} dB" if has_target else ""), image


def _read(path: Path) -> np.ndarray:
    return to_uint8(read_photo(path).as_float())
