"""Pairs from folders of photographs: random crops for training, whole pictures for validation."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mprnet.data.augment import random_crop, saturate, symmetry
from mprnet.data.pairs import Matching, Pair, Pairing, match_pairs, orphans_sentence, pairing_of, pictures, side_folders
from mprnet.data.reading import check_sizes, read_rgb
from mprnet.data.tensors import to_tensor
from mprnet.errors import UserError


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Degraded and target, of one size.

    Raises:
        UserError: one of them is broken, or their sizes differ.
    """
    degraded, target = read_rgb(pair.input), read_rgb(pair.target)
    check_sizes(pair.input, pair.target, (degraded, target))
    return degraded, target


class PairedPictures(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of pairs, for training.

    An item is addressed by (epoch, index): where its crop lies, which symmetry and which jitter it gets are a function
    of (seed, epoch, index) alone, whichever process computes it. Asked for an index alone, as PyTorch's own data sets
    that combine others do, it draws the epoch from PyTorch's random generator.

    Args:
        patch: height and width of the crops; smaller pictures are padded by reflection at the bottom and right.
        saturation: the range from which a third of the samples draw a factor for their saturation; (1, 1) for none.
        skip_broken: take the next pair in the place of one that cannot be read, and say so; else raise.
        orphans: files that found no partner; kept for the caller, not read.
    """

    addressed_by_epoch = True

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
        self.orphans = list(orphans)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int] | int) -> tuple[Tensor, Tensor]:
        """Degraded and target crop, (3, patch, patch) float32 in [0, 1]."""
        epoch, index = key if isinstance(key, tuple) else (int(torch.randint(2**31, ())), key)
        rng = np.random.default_rng([self.seed, epoch, index])
        images = [pad_to(image, self.patch) for image in self._read(index)]
        rows, columns = random_crop(rng, images[0].shape[0], images[0].shape[1], self.patch)
        which = int(rng.integers(8))
        crops = [symmetry(image[rows, columns], which) for image in images]
        if self.saturation != (1.0, 1.0) and rng.random() < 1 / 3:
            factor = rng.uniform(self.saturation[0], self.saturation[1])
            crops = [saturate(crop.astype(np.float32) / 255, factor) for crop in crops]
        degraded, target = (to_tensor(crop) for crop in crops)
        return degraded, target

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        for offset in range(len(self.pairs)):
            try:
                return read_pair(self.pairs[(index + offset) % len(self.pairs)])
            except UserError as error:
                if not self.skip_broken:
                    raise
                print(f"skipped: {error}", file=sys.stderr)
        raise UserError("none of the pairs can be read.")


class WholePairs(Sequence[tuple[Tensor, Tensor, str]]):
    """Pairs as they are, or their centres, for validation.

    Items are degraded and target, (3, H, W) float32 in [0, 1], and the pair's name.

    Args:
        patch: height and width of the centre crop (smaller pictures stay as they are); 0 for whole pictures.
        orphans: files that found no partner; kept for the caller, not read.
    """

    def __init__(self, pairs: Sequence[Pair], patch: int = 0, orphans: Sequence[Path] = ()) -> None:
        self.pairs = pairs
        self.patch = patch
        self.orphans = list(orphans)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # Sequence's slices are not needed
        pair = self.pairs[index]
        degraded, target = (to_tensor(_centre(image, self.patch)) for image in read_pair(pair))
        return degraded, target, pair.name


class SinglePictures(Sequence[tuple[Tensor, str]]):
    """Degraded pictures without targets: (3, H, W) float32 in [0, 1], and the file's name without suffix."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # Sequence's slices are not needed
        path = self.paths[index]
        return to_tensor(read_rgb(path)), path.stem


def find_pairs(folder: Path, pairing: Pairing = "name") -> list[Pair]:
    """The pairs in ``folder``/input and ``folder``/target; those without a partner are named on standard error.

    Raises:
        UserError: the folders are not there (the sentence shows the tree that is expected), or as ``match_pairs``.
    """
    return _match(folder, pairing).pairs


def _match(folder: str | Path, pairing: Pairing) -> Matching:
    matching = match_pairs(*side_folders(Path(folder)), pairing)
    if matching.orphans:
        print(f"note: {orphans_sentence(matching)}", file=sys.stderr)
    return matching


def located(path: str | Path, elsewhere: str | Path) -> Path:
    """``path``; if it is not there, and ``elsewhere`` holds a folder of its last one or two names, that."""
    wanted = Path(path)
    if not wanted.exists() and elsewhere:
        other = Path(elsewhere) / wanted.name
        nested = Path(elsewhere) / wanted.parent.name / wanted.name
        return next((place for place in (nested, other) if place.exists()), wanted)
    return wanted


def get_training_data(rgb_dir: str | Path, img_options: Mapping[str, Any]) -> PairedPictures:
    """Training pairs of ``rgb_dir``/input and ``rgb_dir``/target.

    Args:
        img_options: ``patch_size``; and, if they are to differ from the defaults, ``seed``, ``saturation``,
            ``skip_broken``, and ``by_order`` or ``many_to_one`` (how pictures are matched: ``match_pairs``).

    Raises:
        UserError: as ``find_pairs``.
    """
    options = dict(img_options)
    pairing = pairing_of(options.pop("by_order", False), options.pop("many_to_one", False))
    found = _match(rgb_dir, pairing)
    patch, seed = options.pop("patch_size"), options.pop("seed", 0)
    return PairedPictures(found.pairs, patch, seed, orphans=found.orphans, **options)


def get_validation_data(rgb_dir: str | Path, img_options: Mapping[str, Any]) -> WholePairs:
    """Validation pairs of ``rgb_dir``/input and ``rgb_dir``/target.

    Args:
        img_options: ``patch_size`` of the centre crop (0 or None: whole pictures), and ``by_order`` or
            ``many_to_one``.

    Raises:
        UserError: as ``find_pairs``.
    """
    pairing = pairing_of(img_options.get("by_order", False), img_options.get("many_to_one", False))
    found = _match(rgb_dir, pairing)
    return WholePairs(found.pairs, img_options.get("patch_size") or 0, found.orphans)


def get_test_data(rgb_dir: str | Path, img_options: Mapping[str, Any] | None = None) -> SinglePictures:
    """The pictures of ``rgb_dir``, without targets.

    Raises:
        UserError: no such folder, or no picture in it.
    """
    return SinglePictures(pictures(Path(rgb_dir)))


def pad_to(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) to at least (size, size, 3) by reflection at the bottom and right, back and forth where needed."""
    height, width = image.shape[:2]
    missing = (max(0, size - height), max(0, size - width))
    if not any(missing):
        return image
    mode = "reflect" if min(height, width) > 1 else "edge"
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode=mode)  # type: ignore[call-overload]


def _centre(image: np.ndarray, size: int) -> np.ndarray:
    if not size:
        return image
    height, width = (min(size, side) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
