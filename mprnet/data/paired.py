"""Training pairs from folders of photographs: crops, symmetries, saturation jitter."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mprnet.data.augment import random_crop, saturate, symmetry
from mprnet.data.pairs import Pair
from mprnet.errors import UserError


def read_rgb(path: Path) -> np.ndarray:
    """A picture as training and scoring see it: (H, W, 3) uint8, without alpha; the fast way for many files.

    Raises:
        UserError: not a picture, or broken.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise UserError(f"{path}: not a picture, or broken.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Degraded and target, of one size.

    Raises:
        UserError: one of them is broken, or their sizes differ.
    """
    degraded, target = read_rgb(pair.input), read_rgb(pair.target)
    if degraded.shape != target.shape:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (degraded, target))
        raise UserError(f"{pair.input} and {pair.target} are of different sizes, {sizes}.")
    return degraded, target


class PairedPictures(Dataset[tuple[Tensor, Tensor, int]]):
    """Random crops of pairs.

    An item is addressed by (epoch, index): where its crop lies, which symmetry and which jitter it gets are a function
    of (seed, epoch, index) alone, whichever process computes it.

    Args:
        patch: height and width of the crops; smaller pictures are padded by reflection at the bottom and right.
        saturation: None, or the range from which a third of the samples draw a factor for their saturation.
    """

    def __init__(
        self, pairs: Sequence[Pair], patch: int, seed: int, saturation: tuple[float, float] | None = None
    ) -> None:
        self.pairs = pairs
        self.patch = patch
        self.seed = seed
        self.saturation = saturation

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, int]:
        """Degraded and target crop, (3, patch, patch) float32 in [0, 1], and the pair's index."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        images = [pad_to(image, self.patch) for image in read_pair(self.pairs[index])]
        rows, columns = random_crop(rng, images[0].shape[0], images[0].shape[1], self.patch)
        which = int(rng.integers(8))
        crops = [symmetry(image[rows, columns], which).astype(np.float32) / 255 for image in images]
        if self.saturation is not None and rng.random() < 1 / 3:
            factor = rng.uniform(*self.saturation)
            crops = [saturate(crop, factor) for crop in crops]
        degraded, target = (torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))) for crop in crops)
        return degraded, target, index


def pad_to(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) to at least (size, size, 3) by reflection at the bottom and right, back and forth where needed."""
    height, width = image.shape[:2]
    missing = (max(0, size - height), max(0, size - width))
    if not any(missing):
        return image
    return np.pad(
        image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect" if min(height, width) > 1 else "edge"
    )
