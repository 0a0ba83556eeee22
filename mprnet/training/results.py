"""The results of a validation: its PSNRs and its pictures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mprnet.data.augment import crop_centre
from mprnet.data.png import write_png
from mprnet.data.tensors import as_float, to_array, to_uint8
from mprnet.errors import UserError
from mprnet.inference.distributed import World
from mprnet.inference.restorer import NotFiniteError, Restorer
from mprnet.training.measures import Measure

_SHEET_ROWS, _CELL_SIZE, _CELL_MARGIN = 4, 192, 4  # of validation.png: rows of images; pixels


class Sample(NamedTuple):
    """A pair to validate on: degraded and target, (3, H, W), both float32 or both uint8.

    Attributes:
        number: its place in the validation data.
    """

    number: int
    degraded: Tensor
    target: Tensor
    name: str


class Results:
    """Restores samples, adds up their PSNRs, and writes their pictures.

    Args:
        folder: gets validation.png and, if ``save_images``, each result as validation/NAME.png.
        make_sheet: write validation.png.
    """

    def __init__(self, measures: Sequence[Measure], folder: Path, save_images: bool, make_sheet: bool) -> None:
        self._measures = measures
        self._folder = folder
        self._save_images = save_images
        self._sheet_rows = _SHEET_ROWS if make_sheet else 0
        self._rows: dict[int, np.ndarray] = {}  # of validation.png, by the samples' numbers
        # For each measure the sums over degraded and over restored images. Then the number of images.
        self._totals = np.zeros(2 * len(measures) + 1)

    def add(self, restorer: Restorer, samples: Sequence[Sample]) -> None:
        """Restore samples of one size together, and add their PSNRs.

        Raises:
            UserError: there is not enough memory.
        """
        try:
            degraded = torch.stack([as_float(sample.degraded) for sample in samples]).clamp(0, 1)
            for sample, image, restored in zip(samples, degraded, _restore(restorer, degraded), strict=True):
                self._add(sample, image, restored)
        except MemoryError as error:
            raise UserError(
                f"there is not enough memory to validate {samples[0].name}: set TRAINING.VAL_PS 512 or less, or give "
                "the program more memory."
            ) from error

    def _add(self, sample: Sample, degraded: Tensor, restored: Tensor | None) -> None:
        image, target = to_array(degraded), to_array(as_float(sample.target))
        result = None if restored is None else to_array(restored)
        values = [
            math.nan if picture is None else min(measure.function(picture, target), 100.0)
            for measure in self._measures
            for picture in (image, result)
        ]
        self._totals += [*values, 1]  # at most 100 dB: an image without any error must not make the mean infinite
        if result is None:
            return
        # Samples come nearly in order.
        if len(self._rows) < self._sheet_rows or (self._rows and sample.number < max(self._rows)):
            row = np.concatenate([_make_cell(picture) for picture in (image, result, target)], axis=1)
            self._rows[sample.number] = row
            if len(self._rows) > self._sheet_rows:
                del self._rows[max(self._rows)]
        if self._save_images:
            write_png(self._folder / "validation" / f"{sample.name}.png", to_uint8(result))

    def finish(self, world: World) -> dict[str, float]:
        """Write validation.png, and return the means over the samples of all processes, by the columns of log.csv.

        Raises:
            UserError: there are no samples.
        """
        if self._rows:
            rows = [self._rows[index] for index in sorted(self._rows)]
            width = max(row.shape[1] for row in rows)
            sheet = np.concatenate([_pad_white(row, row.shape[0], width) for row in rows])
            write_png(self._folder / "validation.png", sheet)
        *sums, count = world.all_reduce(*self._totals.tolist())
        if not count:
            raise UserError("none of the validation pairs can be read.")
        columns = [f"{prefix}{measure.column}" for measure in self._measures for prefix in ("input_", "")]
        return {column: total / count for column, total in zip(columns, sums, strict=True)}


def _restore(restorer: Restorer, degraded: Tensor) -> list[Tensor | None]:
    """Return each image of a batch restored; None for one whose result is not finite."""
    try:
        return list(restorer(degraded))
    except NotFiniteError:
        if len(degraded) == 1:
            return [None]
    return [image for one in degraded.split(1) for image in _restore(restorer, one)]


def _make_cell(image: np.ndarray) -> np.ndarray:
    """Return the middle of an image for the sheet, with a white margin on the right and at the bottom."""
    crop = to_uint8(crop_centre(image, _CELL_SIZE))
    return _pad_white(crop, crop.shape[0] + _CELL_MARGIN, crop.shape[1] + _CELL_MARGIN)


def _pad_white(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pad an image with white pixels on the right and at the bottom, to this size."""
    padded = np.full((height, width, 3), 255, np.uint8)
    padded[: array.shape[0], : array.shape[1]] = array
    return padded
