"""The files of DND (Plötz and Roth, CVPR 2017): 50 noisy photographs with 20 boxes each.

DND publishes no targets. A server scores the denoised boxes, which are sent as MATLAB files.
"""

import io
from pathlib import Path

import h5py
import numpy as np
import scipy  # it imports scipy.io on first use: that takes 0.3 s

from mprnet.errors import UserError
from mprnet.files import write_atomically

IMAGES, BOXES = 50, 20
_VERSION = "1.0"


def read_boxes(folder: Path) -> np.ndarray:
    """Return the positions of the boxes.

    Returns:
        (images, 20, 4) integers: first row, first column, end row, end column. They count from 0, and the ends are
        excluded.

    Raises:
        UserError: ``folder``/info.mat does not exist, or is not DND's.
    """
    path = folder / "info.mat"
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    try:
        with h5py.File(path, "r") as file:
            references = file["info/boundingboxes"][0]
            boxes = np.stack([np.asarray(file[reference], np.float64).T for reference in references])
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is not DND's info.mat, or broken; download it again.") from error
    if boxes.ndim != 3 or boxes.shape[1:] != (BOXES, 4):
        raise UserError(f"{path} holds boxes of shape {boxes.shape}, not (images, {BOXES}, 4).")
    if not np.isfinite(boxes).all():
        raise UserError(f"{path} holds boxes that are not numbers; download it again.")
    integers = boxes.astype(int)
    integers[:, :, :2] -= 1  # MATLAB counts from 1 and includes the end
    return integers


def read_image(folder: Path, number: int) -> np.ndarray:
    """Return photograph ``number`` (from 0): (H, W, 3) float32 in [0, 1].

    Raises:
        UserError: its file does not exist, or is not DND's.
    """
    path = folder / "images_srgb" / f"{number + 1:04d}.mat"
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    try:
        with h5py.File(path, "r") as file:
            image = np.asarray(file["InoisySRGB"], np.float32).T
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a photograph of DND's, or broken; download it again.") from error
    if image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"{path} holds an array of shape {image.shape}, not (H, W, 3).")
    if not np.isfinite(image).all():
        raise UserError(f"{path} holds values that are not finite; download it again.")
    return np.ascontiguousarray(image.clip(0, 1))


def submission_path(folder: Path, number: int) -> Path:
    """Return the path of the submission's file for photograph ``number`` (from 0)."""
    return folder / f"{number + 1:04d}.mat"


def write_submission(crops: list[np.ndarray], path: Path) -> None:
    """Write the denoised boxes of a photograph, each (H, W, 3) float32 in [0, 1], in the format of the server."""
    cells = np.empty(len(crops), dtype=object)
    for number, crop in enumerate(crops):
        cells[number] = crop.astype(np.float32)
    file = io.BytesIO()
    scipy.io.savemat(file, {"Idenoised": cells, "israw": False, "eval_version": _VERSION}, oned_as="row")
    write_atomically(path, file.getvalue())


def find_submission_problem(path: Path, boxes: np.ndarray) -> str:
    """Return why the server would refuse a file of the submission; empty if it would accept it.

    Args:
        boxes: the boxes of this photograph, (20, 4), see ``read_boxes``.
    """
    if not path.is_file():
        return f"{path} is missing"
    try:
        content = scipy.io.loadmat(path)
        cells, is_raw, version = (content[key] for key in ("Idenoised", "israw", "eval_version"))
    except Exception:  # with a damaged file, SciPy can raise any exception
        return f"{path} is broken or holds something else"
    if cells.shape != (1, BOXES) or bool(is_raw.item()) or str(version.item()) != _VERSION:
        return f"{path} holds {cells.shape} boxes, israw {is_raw}, version {version}"
    for number, (cell, box) in enumerate(zip(cells[0], boxes, strict=True), start=1):
        expected = (box[2] - box[0], box[3] - box[1], 3)
        if cell.shape != expected or cell.dtype != np.float32:
            return f"{path} holds box {number} as {cell.shape} {cell.dtype}, not {expected} float32"
        if not (cell.min() >= 0 and cell.max() <= 1):
            return f"{path} holds values outside [0, 1] in box {number}"
    return ""
