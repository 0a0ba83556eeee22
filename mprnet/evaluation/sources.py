"""The images of a benchmark, one after the other: pairs of pictures, or blocks in SIDD's files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mprnet.data.formats.sidd import block_names, read_validation, validation_files
from mprnet.data.pairs import Pairing, advise_pairing, match_pairs
from mprnet.data.reading import check_sizes, read_picture
from mprnet.errors import UserError


@dataclass(frozen=True)
class Sample:
    """An image to restore and what it should become.

    Attributes:
        degraded: (H, W, 3) uint8.
        target: (H, W, 3); uint8 where results are rounded to 8 bits before scoring, float32 in [0, 1] where not.
        notes: what one should know about its score, sentences' parts.
    """

    degraded: np.ndarray
    target: np.ndarray
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Images by number.

    Attributes:
        names: of the images, in the order in which they are reported.
        orphans: files that belong to no image.
        advice: what would give some of the orphans a partner, one sentence, or empty.
    """

    names: list[str]
    orphans: list[Path]
    advice: str

    def stamp(self, index: int) -> str:
        """Changes when the image's files change."""

    def read(self, index: int) -> Sample:
        """The image.

        Raises:
            UserError: it cannot be read or scored.
        """


class PairSource:
    """Pictures of two folders; ``pairing`` says how they are matched, as in ``match_pairs``."""

    def __init__(self, inputs: Path, targets: Path, pairing: Pairing = "name") -> None:
        matching = match_pairs(inputs, targets, pairing)
        self.pairs = matching.pairs
        self.orphans = matching.orphans
        self.advice = advise_pairing(matching)
        self.names = [pair.name for pair in matching.pairs]

    def stamp(self, index: int) -> str:
        pair = self.pairs[index]
        return file_stamp(pair.input, pair.target)

    def read(self, index: int) -> Sample:
        pair = self.pairs[index]
        (degraded, its_notes), (target, notes) = read_8bit(pair.input, "input"), read_8bit(pair.target, "target")
        check_sizes(pair, degraded, target)
        return Sample(degraded, target, its_notes + notes)


class BlockSource:
    """SIDD's validation blocks; results are scored as single-precision numbers."""

    def __init__(self, folder: Path) -> None:
        noisy, target = read_validation(folder)
        images, blocks = noisy.shape[:2]
        if not noisy.size:
            raise UserError(f"{folder} holds no blocks: download its files again.")
        self.noisy, self.target = (stack.reshape(images * blocks, *stack.shape[2:]) for stack in (noisy, target))
        self.names = block_names(images, blocks)
        self.orphans: list[Path] = []
        self.advice = ""
        self._stamp = file_stamp(*validation_files(folder))

    def stamp(self, index: int) -> str:
        return self._stamp

    def read(self, index: int) -> Sample:
        return Sample(self.noisy[index], self.target[index].astype(np.float32) / 255)


def results_by_target(folder: Path, source: PairSource) -> Mapping[int, Path]:
    """Results made elsewhere: which picture of ``folder`` belongs to which image of ``source``, by name.

    They have the targets' names or, where several images share a target, the inputs'.

    Raises:
        UserError: no such folder, no picture in it, or none that matches.
    """
    numbers = {pair.target: index for index, pair in enumerate(source.pairs)}
    if len(numbers) < len(source.pairs):
        numbers = {pair.input: index for index, pair in enumerate(source.pairs)}
    matching = match_pairs(folder, next(iter(numbers)).parent)
    return {numbers[pair.target]: pair.input for pair in matching.pairs if pair.target in numbers}


def read_8bit(path: Path, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A picture as the protocols compare it: (H, W, 3) uint8, the way up that EXIF says; and notes on what that took.

    Raises:
        UserError: as ``read_photo``, or of more than 8 bits.
    """
    photo = read_picture(path)
    if photo.pixels.dtype != np.uint8:
        raise UserError(f"{path} has 16 bits a channel, the protocol compares 8: convert it first.")
    notes = [f"the {what} is grey"] if photo.grey else []
    if photo.alpha is not None and photo.alpha.min() < 255:
        notes.append(f"the {what}'s alpha is left out")
    return photo.pixels, tuple(notes)


def file_stamp(*paths: Path) -> str:
    """Where they are, their sizes and times of change."""
    states = [(path, path.stat()) for path in paths if path.exists()]
    return " ".join(f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}" for path, state in states)
