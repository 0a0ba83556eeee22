"""Denoise DND's boxes and write what its server wants."""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mprnet.apps.options import described
from mprnet.data.formats import dnd
from mprnet.data.png import write_png
from mprnet.errors import UserError
from mprnet.evaluation.benchmark import eight_bit
from mprnet.evaluation.sources import file_stamp
from mprnet.files import make_folder, write_atomically
from mprnet.inference.distributed import World
from mprnet.inference.restorer import Restorer


def submit(
    restorer: Restorer | None, place: Path | None, a: argparse.Namespace, weights: dict[str, str], world: World
) -> list[str]:
    """Write the submission, going on where an earlier run with the same settings was interrupted, and check it.

    Args:
        place: DND's folder.
        a: test.py's arguments.

    Returns:
        Sentences about what is wrong with it.

    Raises:
        UserError: DND is not there or broken, or the results cannot be written.
    """
    if restorer is None:
        raise UserError("DND's targets are with its server alone: --score_only cannot score it.")
    if place is None:
        raise UserError(f"DND is not there: expected are {a.input_dir}/DND/test/info.mat and images_srgb/0001.mat, ...")
    boxes = dnd.read_boxes(place)
    photographs = [place / "images_srgb" / f"{number + 1:04d}.mat" for number in range(len(boxes))]
    key = json.dumps(
        {
            "weights": weights["sha256"],
            "stage": restorer.stage or "last",
            **described(a, restorer),
            "data": hashlib.sha256(file_stamp(place / "info.mat", *photographs).encode()).hexdigest(),
        }
    )
    # Each network's and setting's has a folder of its own, so that what is there is never another one's.
    folder: Path = a.result_dir / "DND" / f"submission_{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    numbers = range(len(boxes))[: a.limit or None]
    with world.fail_together():  # all look before anybody writes, or they share out different lists
        make_folder(folder)
        if world.is_main:
            write_atomically(folder / "settings.json", key.encode())
        todo = [n for n in numbers if not _is_done(folder, n, boxes, a)]
    broken: list[str] = []
    for number in tqdm(todo[world.rank :: world.size], "DND", unit="image", leave=False, disable=not world.is_main):
        try:
            _denoise(restorer, place, number, boxes[number], folder, a)
        except UserError as error:
            broken.append(str(error))
    world.barrier()
    return _report(folder, numbers, boxes, world, broken)


def _is_done(folder: Path, number: int, boxes: np.ndarray, a: argparse.Namespace) -> bool:
    pictures = [_picture(folder, number, box) for box in range(dnd.BOXES)] if a.save_images else []
    whole = not dnd.find_submission_problem(dnd.submission_path(folder, number), boxes[number])
    return whole and all(path.exists() for path in pictures)


def _denoise(
    restorer: Restorer, place: Path, number: int, boxes: np.ndarray, folder: Path, a: argparse.Namespace
) -> None:
    image = dnd.read_image(place, number)
    crops = [image[top:bottom, left:right] for top, left, bottom, right in boxes]
    for crop, (top, left, bottom, right) in zip(crops, boxes, strict=True):
        if crop.shape[:2] != (bottom - top, right - left) or not crop.size:
            raise UserError(f"photograph {number + 1} of {place} is too small for its boxes: download it again.")
    results = [restorer(crop) for crop in crops]
    if a.save_images:
        for box, result in enumerate(results):
            write_png(_picture(folder, number, box), eight_bit(result))
    dnd.write_submission(results, dnd.submission_path(folder, number))


def _picture(folder: Path, number: int, box: int) -> Path:
    return folder.with_name(folder.name.replace("submission", "images")) / f"{number + 1:04d}_{box + 1:02d}.png"


def _report(folder: Path, numbers: Sequence[int], boxes: np.ndarray, world: World, broken: list[str]) -> list[str]:
    if not world.is_main:
        return []
    found = (dnd.find_submission_problem(dnd.submission_path(folder, number), boxes[number]) for number in numbers)
    problems = broken + [f"{problem}." for problem in found if problem]
    if not problems and len(numbers) == dnd.IMAGES:
        print(f"DND: the submission in {folder} is complete, {dnd.IMAGES} files, and as the server wants it")
    else:
        whole = len(numbers) - sum(bool(problem) for problem in problems[len(broken) :])
        print(f"DND: {whole} files in {folder} are as the server wants them; it wants {dnd.IMAGES}")
    return problems
