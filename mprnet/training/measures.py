"""The measures of a validation. Their names are those of test.py's measures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mprnet.data.tensors import to_uint8
from mprnet.metrics import luma, psnr


@dataclass(frozen=True)
class Measure:
    """A kind of PSNR.

    Attributes:
        column: of log.csv. Columns for the degraded images and for the best validation have the prefixes ``input_`` and
            ``best_``.
        title: in sentences.
        definition: of a validation's value. If the text in a checkpoint is different, values cannot be compared.
        function: returns the PSNR of an image, in dB. It takes the image and its target, (H, W, 3) float32 in [0, 1].
    """

    column: str
    title: str
    definition: str
    function: Callable[[np.ndarray, np.ndarray], float]


def _luma_psnr(image: np.ndarray, target: np.ndarray) -> float:
    return psnr(luma(to_uint8(image)), luma(to_uint8(target)))


RGB, LUMA = "rgb", "luma"
MEASURES = {
    RGB: Measure("psnr", "RGB PSNR", "RGB PSNR of outputs clamped to [0, 1], mean of the images", psnr),
    LUMA: Measure(
        "luma_psnr",
        "luma PSNR",
        "PSNR of the luma of outputs clamped to [0, 1] and rounded to 8 bits, mean of the images",
        _luma_psnr,
    ),
}


def choose_measures(own: str, best_by: str) -> list[str]:
    """Return the names of the measures that a validation reports. RGB PSNR is always among them.

    Args:
        own: the task's own measure. It is left out if it is not one of ``MEASURES``.
        best_by: the setting TRAINING.BEST_BY.
    """
    return [name for name in MEASURES if name in (RGB, own, best_by)]
