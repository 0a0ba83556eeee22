"""Validation: PSNR on pairs that are not trained on."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.data.augment import crop_centre
from mprnet.data.png import write_png
from mprnet.data.tensors import to_array, to_uint8
from mprnet.errors import UserError
from mprnet.inference.distributed import World
from mprnet.inference.restorer import NotFiniteError, Restorer
from mprnet.metrics import psnr
from mprnet.model.network import MPRNet
from mprnet.training.order import rank_indices

# Says what a validation's PSNR is. If the text in a checkpoint is different, the values cannot be compared.
MEASURE = "RGB PSNR of outputs clamped to [0, 1], mean of the images"
_SHEET_ROWS, _CELL_SIZE, _CELL_MARGIN = 4, 192, 4  # of validation.png: rows of images; pixels


def is_validation_epoch(training: CfgNode, epoch: int) -> bool:
    """True if the settings (section TRAINING) want a validation in and at the end of this epoch."""
    if training.VAL_EPOCHS:
        return epoch in training.VAL_EPOCHS or 0 < training.VAL_ALL_FROM <= epoch
    return epoch % training.VAL_AFTER_EVERY == 0


def validation_steps(training: CfgNode, epoch: int, steps: int) -> set[int]:
    """Return the steps of an epoch after which to validate. The last step is not among them.

    Args:
        training: the settings' section TRAINING.
        steps: number of steps in the epoch.
    """
    times = training.VAL_TIMES if is_validation_epoch(training, epoch) else 1
    return {round(part * steps / times) for part in range(1, times)} - {0, steps}


def validate(
    model: MPRNet,
    pairs: Sequence[tuple[Tensor, Tensor, str]],
    world: World,
    folder: Path,
    save_images: bool,
    skip_broken: bool = False,
) -> tuple[float, float]:
    """Return the mean RGB PSNR of the degraded images and of the restored images, both clamped to [0, 1]; in dB.

    Images that do not fit in memory are restored in tiles. If a restored image is not finite, the second mean is NaN.
    Writes ``folder``/validation.png: input, result and target of the first few pairs.

    Args:
        pairs: degraded and target, (3, H, W) in [0, 1], and a name.
        save_images: write each result to ``folder``/validation.
        skip_broken: skip pairs that cannot be read, and say so.

    Raises:
        UserError: a pair cannot be read, or none of them, or there is not enough memory.
    """
    restorer = Restorer(model, str(world.device), "fp32")
    totals = np.zeros(3)  # PSNR of degraded images, PSNR of restored images, number of images
    rows: list[np.ndarray] = []
    own = rank_indices(len(pairs), world.rank, world.size)
    for index in tqdm(own, "validation", unit="image", leave=False, disable=not world.is_main):
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
            rows.append(np.concatenate([_make_cell(image) for image in (degraded, restored, target)], axis=1))
        if save_images:
            write_png(folder / "validation" / f"{name}.png", to_uint8(to_array(restored)))
    if rows:
        width = max(row.shape[1] for row in rows)
        write_png(folder / "validation.png", np.concatenate([_pad_white(row, row.shape[0], width) for row in rows]))
    degraded_sum, restored_sum, count = world.all_reduce(*totals.tolist())
    if not count:
        raise UserError("none of the validation pairs can be read.")
    return degraded_sum / count, restored_sum / count


def _psnr(image: Tensor, target: Tensor) -> float:
    """Return the PSNR, at most 100 dB: an image without any error must not make the mean infinite."""
    return min(psnr(image.numpy(), target.numpy()), 100.0)


def _make_cell(image: Tensor) -> np.ndarray:
    """Return the middle of an image for the sheet, with a white margin on the right and at the bottom."""
    crop = crop_centre(to_uint8(to_array(image)), _CELL_SIZE)
    return _pad_white(crop, crop.shape[0] + _CELL_MARGIN, crop.shape[1] + _CELL_MARGIN)


def _pad_white(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pad an image with white pixels on the right and at the bottom, to this size."""
    padded = np.full((height, width, 3), 255, np.uint8)
    padded[: array.shape[0], : array.shape[1]] = array
    return padded
