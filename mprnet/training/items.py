"""Checks of data sets and their items, which may be a user's own."""

from collections.abc import Callable, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mprnet.errors import UserError, one_line

# How far outside of [0, 1] images may be: degraded images because of noise, targets because of rounding.
_DEGRADED_TOLERANCE, _TARGET_TOLERANCE = 9.0, 0.01


def format_size(image: Tensor) -> str:
    """Return the size of an image, (3, H, W), as text: WxH."""
    return f"{image.shape[2]}x{image.shape[1]}"


def check_data_set(data: Any, function: str) -> Any:
    """Return ``data`` if it has ``__len__``, ``__getitem__`` and at least one item.

    Args:
        function: the name of the function in data_RGB.py that made it.

    Raises:
        UserError: otherwise.
    """
    is_indexed = hasattr(data, "__getitem__") and type(data).__getitem__ is not Dataset.__getitem__
    if not isinstance(data, Sized) or not is_indexed:
        raise UserError(
            f"{function} of data_RGB.py returns an object of type {type(data).__name__}: it has to return a "
            "torch.utils.data.Dataset with __len__ and __getitem__."
        )
    if not len(data):
        raise UserError(f"{function} of data_RGB.py returns a data set without items.")
    return data


def read_item(read: Callable[[int], Any], index: int, label: str) -> Any:
    """Return ``read(index)``.

    Raises:
        UserError: it cannot be read. The message begins with ``label``.
    """
    try:
        return read(index)
    except (OSError, StopIteration) as error:  # on StopIteration, the loader would silently end the epoch
        message = one_line(error)
        raise UserError(
            f"{label} cannot be read ({type(error).__name__}{': ' if message else ''}{message})."
        ) from error


def check_item(item: Any, label: str) -> tuple[Any, ...]:
    """Return ``item`` as a tuple if it begins with two images of one size, (3, H, W), floats in [0, 1] or both uint8.

    Returns:
        The images are float32 or uint8. Elements after them are unchanged.

    Raises:
        UserError: otherwise. The message begins with ``label``.
    """
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise UserError(f"{label} is of type {type(item).__name__}: it has to be a tuple (degraded, target).")
    is_bytes = all(isinstance(image, Tensor) and image.dtype == torch.uint8 for image in item[:2])
    for side, image in zip(("degraded", "target"), item, strict=False):
        if not isinstance(image, Tensor):
            raise UserError(f"{label}: {side} is of type {type(image).__name__}, but a tensor (3, H, W) is needed.")
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise UserError(f"{label}: {side} has the shape {tuple(image.shape)}, but (3, H, W) is needed.")
        if is_bytes:
            continue
        low, high = image.aminmax()
        tolerance = _DEGRADED_TOLERANCE if side == "degraded" else _TARGET_TOLERANCE
        # NaN passes these comparisons: the training skips and counts such a step.
        if not image.is_floating_point() or low < -tolerance or high > 1 + tolerance:
            values = f"{image.dtype} from {low:g} to {high:g}"
            raise UserError(f"{label}: {side} holds {values}, but floats in [0, 1] are needed, or uint8 on both sides.")
    degraded, target = (image if is_bytes else image.detach().float() for image in item[:2])
    if degraded.shape != target.shape:
        sizes = f"{format_size(degraded)} and {format_size(target)}"
        raise UserError(f"{label}: degraded and target are of different sizes, {sizes}.")
    return (degraded, target, *item[2:])
