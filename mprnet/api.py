"""The functions of ``import mprnet`` that know the tasks by name."""

from pathlib import Path
from typing import Any

from mprnet import tasks
from mprnet.data import photo_reading, photo_writing
from mprnet.data.photos import Photo
from mprnet.errors import UserError
from mprnet.inference.restorer import Restorer
from mprnet.model import hub
from mprnet.model.network import MPRNet


def load_model(path: str | Path | None = None, *, task: str | None = None, grade: str | None = None) -> MPRNet:
    """Load a network and its weights: from a file, or for a task.

    Args:
        path: a file of weights: a published checkpoint, a plain state dict, or safetensors. Code in it does not run.
        task: ``Deblurring``, ``Denoising`` or ``Deraining``. Without ``path``: its published weights if they are in the
            task's folder, else those of the bundled network ``plus``. With ``path``: the task of these weights.
        grade: which of the task's weights: ``lite`` (faster), ``plus`` (mostly better) or ``published``.

    Returns:
        The network in evaluation mode, on the CPU, in float32: (N, 3, H, W) in [0, 1], H and W multiples of 8, to the
        images of its stages, the last stage first. ``model.metadata`` holds the file's metadata.

    Raises:
        UserError: neither ``path`` nor ``task``, an unknown task or grade, no such file, not a file of weights, code in
            it, or tensors that are not an MPRNet's.
    """
    if path is not None and task is None:
        if str(path) in tasks.find_tasks() and not Path(path).is_file():
            raise UserError(f"there is no file of weights {path}; for the weights of this task say task={str(path)!r}.")
        return hub.load_model(path)
    if task is None:
        raise UserError("say which weights to load: a file, or task=NAME.")
    folder = tasks.find_task(task)
    weights, _ = tasks.choose_weights(folder, None if path is None else Path(path), grade)
    model, _ = tasks.load_weights(weights, folder, hub.load_model)
    return model


def read_photo(path: str | Path) -> Photo:
    """Read a picture: 8 or 16 bits, grey or colour, with or without alpha.

    Formats: PNG, JPEG, TIFF, WebP, BMP, GIF and AVIF; HEIC and HEIF with the extra ``heif``, raw files of cameras with
    the extra ``raw``.

    Returns:
        The picture upright, with its metadata and colour profile. ``photo.as_float()`` is (H, W, 3) float32 in [0, 1].

    Raises:
        UserError: not a picture, damaged, of several pages or frames, too large, or of a kind that is not supported.
    """
    return photo_reading.read_photo(Path(path))


def write_photo(path: str | Path, photo: Photo) -> list[str]:
    """Write a picture with its depth, alpha, colours and metadata; the file is complete or not there.

    Args:
        path: its suffix is the format: .png, .jpg, .tif or .webp, in upper or lower case.

    Returns:
        What the format cannot hold of the metadata, for people; most often nothing.

    Raises:
        UserError: another suffix, the format cannot hold the picture, or the file cannot be written.
    """
    return photo_writing.write_photo(Path(path), photo)


def restore(
    source: str | Path,
    result: str | Path,
    task: str | None = None,
    *,
    grade: str | None = None,
    weights: str | Path | None = None,
    **options: Any,
) -> list[str]:
    """Restore one picture and write the result.

    For several pictures make one Restorer, or use the command ``mprnet restore``.

    Args:
        source: the picture.
        result: the file to write; its suffix is the format: .png, .jpg, .tif or .webp.
        task, grade, weights: as ``task``, ``grade`` and ``path`` of load_model.
        options: as for Restorer (``device``, ``precision``, ``tile``, ...).

    Returns:
        What of the file is not in the result, for people (a mask, metadata that the format cannot hold); most often
        nothing.

    Raises:
        UserError: as load_model, read_photo, Restorer and write_photo.
    """
    photo_writing.format_suffix(Path(result))  # before the work
    restorer = Restorer(load_model(weights, task=task, grade=grade), **options)
    photo = read_photo(source)
    photo_writing.check_format(Path(result), photo.height, photo.width, photo.alpha is not None)
    return [*photo.notes, *write_photo(result, photo.with_image(restorer(photo.as_float())))]
