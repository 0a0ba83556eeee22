"""Denoises the boxes of DND, and writes them in the format of its server."""

import argparse
import contextlib
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mprnet.apps.options import describe_running
from mprnet.data.formats import dnd
from mprnet.data.png import write_png
from mprnet.data.tensors import to_uint8
from mprnet.errors import UserError
from mprnet.evaluation.resuming import process_remaining
from mprnet.files import file_stamp, write_atomically
from mprnet.inference.distributed import World
from mprnet.inference.restorer import Restorer


def write_submission(
    restorer: Restorer | None, dataset: Path | None, a: argparse.Namespace, weights: dict[str, str], world: World
) -> list[str]:
    """Write the submission and check it. If an earlier run with the same settings was interrupted, continue it.

    Args:
        restorer: None if --score_only names results of another program.
        dataset: DND's folder; None if it is not there.
        a: test.py's arguments.
        weights: of ``restorer``, from ``identify_weights``.
        world: its processes share the images.

    Returns:
        Sentences about what is wrong with the submission.

    Raises:
        UserError: DND is not there or is broken, or the results cannot be written.
    """
    if restorer is None:
        raise UserError("only DND's server has the targets: --score_only cannot score DND.")
    if dataset is None:
        raise UserError(f"DND is not there: expected {a.input_dir}/DND/test/info.mat and images_srgb/0001.mat, ...")
    boxes = dnd.read_boxes(dataset)
    photographs = [dataset / "images_srgb" / f"{number + 1:04d}.mat" for number in range(len(boxes))]
    key = json.dumps(
        {
            "weights": weights["sha256"],
            "stage": restorer.stage or "last",
            **describe_running(a, restorer),
            "data": hashlib.sha256(file_stamp(dataset / "info.mat", *photographs).encode()).hexdigest(),
        }
    )
    # Each combination of weights and settings has its own folder, so files in it never come from other settings.
    folder: Path = a.result_dir / "DND" / f"submission_{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    numbers = range(len(boxes))[: a.limit or None]

    def is_done(number: int) -> bool:
        return _is_done(folder, number, boxes, a)

    def process(number: int) -> str:
        try:
            _denoise(restorer, dataset, number, boxes[number], folder, a)
        except UserError as error:
            return str(error)
        return ""

    write_settings = partial(write_atomically, folder / "settings.json", key.encode())
    worker = contextlib.nullcontext(process)
    failures = process_remaining(folder, numbers, is_done, write_settings, worker, world, "DND")
    return _report(folder, numbers, boxes, world, failures)


def _is_done(folder: Path, number: int, boxes: np.ndarray, a: argparse.Namespace) -> bool:
    pictures = [_picture_path(folder, number, box) for box in range(dnd.BOXES)] if a.save_images else []
    is_complete = not dnd.find_submission_problem(dnd.submission_path(folder, number), boxes[number])
    return is_complete and all(path.exists() for path in pictures)


def _denoise(
    restorer: Restorer, dataset: Path, number: int, boxes: np.ndarray, folder: Path, a: argparse.Namespace
) -> None:
    image = dnd.read_image(dataset, number)
    crops = [image[top:bottom, left:right] for top, left, bottom, right in boxes]
    for crop, (top, left, bottom, right) in zip(crops, boxes, strict=True):
        if crop.shape[:2] != (bottom - top, right - left) or not crop.size:
            raise UserError(f"photograph {number + 1} of {dataset} is too small for its boxes: download it again.")
    results = [restorer(crop) for crop in crops]
    if a.save_images:
        for box, result in enumerate(results):
            write_png(_picture_path(folder, number, box), to_uint8(result), a.png_level)
    dnd.write_submission(results, dnd.submission_path(folder, number))


def _picture_path(folder: Path, number: int, box: int) -> Path:
    return folder.with_name(folder.name.replace("submission", "images")) / f"{number + 1:04d}_{box + 1:02d}.png"


def _report(folder: Path, numbers: Sequence[int], boxes: np.ndarray, world: World, failures: list[str]) -> list[str]:
    """On rank 0, check all files of the submission, print how many are right, and return the problems."""
    if not world.is_main:
        return []
    found = (dnd.find_submission_problem(dnd.submission_path(folder, number), boxes[number]) for number in numbers)
    problems = failures + [f"{problem}." for problem in found if problem]
    if not problems and len(numbers) == dnd.IMAGES:
        print(f"DND: the submission in {folder} is complete, {dnd.IMAGES} files, and as the server wants it")
    else:
        valid = len(numbers) - sum(bool(problem) for problem in problems[len(failures) :])
        print(f"DND: {valid} files in {folder} are as the server wants them; it wants {dnd.IMAGES}")
    return problems
