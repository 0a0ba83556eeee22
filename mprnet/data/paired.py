"""Data sets of picture files: random crops for training, whole pictures for validation and testing."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mprnet.data.augment import crop_centre, random_crop, saturate, symmetry
from mprnet.data.crops import Crops
from mprnet.data.pairs import (
    Matching,
    Pair,
    Pairing,
    choose_pairing,
    describe_orphans,
    find_pair_folders,
    find_pictures,
    match_pairs,
)
from mprnet.data.reading import read_pair, read_rgb
from mprnet.data.tensors import as_float, to_planes, to_tensor
from mprnet.data.tiles import Picture
from mprnet.errors import NotPreparedError, UserError


class PairedPictures(Crops):
    """Random crops of pairs, for training.

    The key of an item is (epoch, index). The position of the crop, the symmetry and the saturation depend only on seed,
    epoch and index, so every process computes the same item.

    Args:
        patch: height and width of the crops. Smaller pictures are padded by reflection at the bottom and right.
        saturation: a third of the items multiply their saturation by a factor from this range. (1, 1): none do.
        skip_broken: if a pair cannot be read, print why and use the next pair. False: raise the error.
        orphans: files without a partner. They are not read; the caller can report them.

    Attributes:
        read_pair: returns the pixels of a pair. Another function may read them from somewhere else.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        patch: int,
        seed: int,
        saturation: Sequence[float] = (1.0, 1.0),
        skip_broken: bool = False,
        orphans: Sequence[Path] = (),
    ) -> None:
        self.pairs = pairs
        self.patch = patch
        self.seed = seed
        self.saturation = (saturation[0], saturation[1])
        self.skip_broken = skip_broken
        self.read_pair: Callable[[Pair], tuple[Picture, Picture]] = read_pair
        self.orphans = list(orphans)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def is_uint8(self) -> bool:
        """True if all samples are uint8."""
        return self.saturation == (1.0, 1.0)

    def read_sample(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the degraded and the target crop as uint8; as float32 in [0, 1] if their saturation is multiplied."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        images = [pad_to(image, self.patch) for image in self._read(index)]
        rows, columns = random_crop(rng, images[0].shape[0], images[0].shape[1], self.patch)
        number = int(rng.integers(8))
        crops = [symmetry(image[rows, columns], number) for image in images]
        if not self.is_uint8 and rng.random() < 1 / 3:
            factor = rng.uniform(self.saturation[0], self.saturation[1])
            crops = [saturate(crop.astype(np.float32) / 255, factor) for crop in crops]
        degraded, target = (to_planes(crop) for crop in crops)
        return degraded, target

    def _read(self, index: int) -> tuple[Picture, Picture]:
        for offset in range(len(self.pairs)):
            try:
                return self.read_pair(self.pairs[(index + offset) % len(self.pairs)])
            except UserError as error:
                if not self.skip_broken or isinstance(error, NotPreparedError):
                    raise
                print(f"skipped: {error}", file=sys.stderr)
        raise UserError("none of the pairs can be read.")


class WholePairs(Sequence[tuple[Tensor, Tensor, str]]):
    """Whole pairs, or their centre crops, for validation.

    An item is the degraded image, the target, each (3, H, W) float32 in [0, 1], and the pair's name.

    Args:
        patch: height and width of the centre crop; smaller pictures are not cropped. 0: whole pictures.
        orphans: files without a partner. They are not read; the caller can report them.
    """

    def __init__(self, pairs: Sequence[Pair], patch: int = 0, orphans: Sequence[Path] = ()) -> None:
        self.pairs = pairs
        self.patch = patch
        self.orphans = list(orphans)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # Sequence's slices are not needed
        degraded, target, name = self.read_sample(index)
        return as_float(degraded), as_float(target), name

    def read_sample(self, index: int) -> tuple[Tensor, Tensor, str]:
        """Return the same item with images as uint8. ``as_float`` converts them."""
        pair = self.pairs[index]
        degraded, target = (to_planes(crop_centre(image, self.patch)) for image in read_pair(pair))
        return degraded, target, pair.name


class SinglePictures(Sequence[tuple[Tensor, str]]):
    """Degraded pictures without targets.

    An item is the image, (3, H, W) float32 in [0, 1], and the file's name without suffix.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # Sequence's slices are not needed
        path = self.paths[index]
        return to_tensor(read_rgb(path)), path.stem


def find_pairs(folder: Path, pairing: Pairing = "name") -> list[Pair]:
    """Return the pairs in ``folder``/input and ``folder``/target. Files without a partner are printed to stderr.

    Raises:
        UserError: one of the folders is missing (the message shows the expected folders), or as ``match_pairs``.
    """
    return _match(folder, pairing).pairs


def _match(folder: str | Path, pairing: Pairing) -> Matching:
    matching = match_pairs(*find_pair_folders(Path(folder)), pairing)
    if matching.orphans:
        print(f"note: {describe_orphans(matching)}", file=sys.stderr)
    return matching


def get_training_data(rgb_dir: str | Path, img_options: Mapping[str, Any]) -> PairedPictures:
    """Return the training pairs in ``rgb_dir``/input and ``rgb_dir``/target.

    Args:
        img_options: ``patch_size``, and optionally ``seed``, ``saturation``, ``skip_broken`` (see ``PairedPictures``)
            and ``by_order`` or ``many_to_one`` (the pairing, see ``match_pairs``).

    Raises:
        UserError: as ``find_pairs``.
    """
    options = dict(img_options)
    pairing = choose_pairing(options.pop("by_order", False), options.pop("many_to_one", False))
    matching = _match(rgb_dir, pairing)
    patch, seed = options.pop("patch_size"), options.pop("seed", 0)
    return PairedPictures(matching.pairs, patch, seed, orphans=matching.orphans, **options)


def get_validation_data(rgb_dir: str | Path, img_options: Mapping[str, Any]) -> WholePairs:
    """Return the validation pairs in ``rgb_dir``/input and ``rgb_dir``/target.

    Args:
        img_options: ``patch_size``, the size of the centre crop (0 or None: whole pictures), and optionally
            ``by_order`` or ``many_to_one`` (the pairing, see ``match_pairs``).

    Raises:
        UserError: as ``find_pairs``.
    """
    pairing = choose_pairing(img_options.get("by_order", False), img_options.get("many_to_one", False))
    matching = _match(rgb_dir, pairing)
    return WholePairs(matching.pairs, img_options.get("patch_size") or 0, matching.orphans)


def get_test_data(rgb_dir: str | Path, img_options: Mapping[str, Any] | None = None) -> SinglePictures:
    """Return the pictures in ``rgb_dir``, without targets.

    Raises:
        UserError: the folder does not exist, or has no pictures.
    """
    return SinglePictures(find_pictures(Path(rgb_dir)))


def pad_to(image: Picture, size: int) -> Picture:
    """Pad an image, (H, W, 3), to at least (size, size, 3), by reflection at the bottom and right.

    A picture that is too small for one reflection is reflected back and forth.
    """
    height, width = image.shape[:2]
    missing = (max(0, size - height), max(0, size - width))
    if not any(missing):
        return image
    mode = "reflect" if min(height, width) > 1 else "edge"
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode=mode)  # type: ignore[call-overload]
