"""PSNR on pairs that are not trained on."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.data.png import write_png
from mprnet.errors import UserError
from mprnet.inference.distributed import World
from mprnet.inference.restorer import NotFiniteError, Restorer
from mprnet.metrics import psnr
from mprnet.model.network import MPRNet

# What a validation's figures are; another text in a checkpoint means that they cannot be compared.
MEASURE = "RGB PSNR of outputs clamped to [0, 1], mean of the images"
_SHEET_ROWS, _SHEET_SIDE = 4, 192


def is_validated(training: CfgNode, epoch: int) -> bool:
    """Whether the settings (TRAINING) want a validation in and after this epoch."""
    if training.VAL_EPOCHS:
        return epoch in training.VAL_EPOCHS or 0 < training.VAL_ALL_FROM <= epoch
    return epoch % training.VAL_AFTER_EVERY == 0


def validations_within(training: CfgNode, epoch: int, steps: int) -> set[int]:
    """After which of an epoch's ``steps``, but not its last, to validate."""
    times = training.VAL_TIMES if is_validated(training, epoch) else 1
    return {round(part * steps / times) for part in range(1, times)} - {0, steps}


def validate(
    model: MPRNet,
    pairs: Sequence[tuple[Tensor, Tensor, str]],
    world: World,
    folder: Path,
    save_images: bool,
    skip_broken: bool = False,
) -> tuple[float, float]:
    """Return the mean RGB PSNR of the degraded and of the restored images, clamped to [0, 1]; dB.

    Images that do not fit in the memory are restored in tiles. The PSNR of an image that is not finite is no number.
    Writes ``folder``/validation.png (input, result and target of the first few), and with ``save_images`` all results.

    Args:
        pairs: degraded and target, (3, H, W) in [0, 1], and a name.
        skip_broken: leave out pairs that cannot be read, and say so.

    Raises:
        UserError: a pair cannot be read, or none of them, or there is not enough memory.
    """
    restorer = Restorer(model, str(world.device), "fp32")
    totals = np.zeros(3)
    rows: list[np.ndarray] = []
    mine = range(world.rank, len(pairs), world.size)
    for index in tqdm(mine, "validation", unit="image", leave=False, disable=not world.is_main):
        try:
            degraded, target, name = pairs[index]
        except UserError as error:
            if not skip_broken:
                raise
            tqdm.write(f"skipped: {error}", sys.stderr)
            continue
        degraded = degraded.clamp(0, 1)
        try:
            restored = restorer(degraded[None])[0]
            totals += [_psnr(degraded, target), _psnr(restored, target), 1]
        except NotFiniteError:
            totals += [_psnr(degraded, target), math.nan, 1]
            continue
        except MemoryError as error:
            raise UserError(
                f"there is not enough memory to validate {name}: set TRAINING.VAL_PS 512 or less, or give the program "
                "more memory."
            ) from error
        if world.is_main and len(rows) < _SHEET_ROWS:
            rows.append(np.concatenate([_cell(image) for image in (degraded, restored, target)], axis=1))
        if save_images:
            write_png(folder / "validation" / f"{name}.png", _eight_bit(restored))
    if rows:
        width = max(row.shape[1] for row in rows)
        write_png(folder / "validation.png", np.concatenate([_extended(row, row.shape[0], width) for row in rows]))
    before, after, count = world.all_reduce(*totals.tolist())
    if not count:
        raise UserError("none of the validation pairs can be read.")
    return before / count, after / count


def _psnr(image: Tensor, target: Tensor) -> float:
    """At most 100 dB, so that an image without any error does not make the mean infinite."""
    return min(psnr(image.numpy(), target.numpy()), 100.0)


def _eight_bit(image: Tensor) -> np.ndarray:
    return (255 * image).round().byte().permute(1, 2, 0).numpy()


def _cell(image: Tensor) -> np.ndarray:
    """The middle of an image, at most a square of the sheet, with a white margin at the right and below."""
    array = _eight_bit(image)
    height, width = (min(side, _SHEET_SIDE) for side in array.shape[:2])
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    return _extended(array[top : top + height, left : left + width], height + 4, width + 4)


def _extended(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """On a white ground of that size."""
    ground = np.full((height, width, 3), 255, np.uint8)
    ground[: array.shape[0], : array.shape[1]] = array
    return ground
