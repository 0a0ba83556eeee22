"""The images of a benchmark: pairs of pictures, clean pictures to which noise is added, or blocks in SIDD's files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mprnet.data.formats.sidd import block_names, read_validation, validation_files
from mprnet.data.pairs import Pairing, advise_pairing, match_pairs
from mprnet.data.reading import check_sizes, read_picture
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.data.tensors import to_uint8
from mprnet.errors import UserError
from mprnet.files import file_stamp


@dataclass(frozen=True)
class Sample:
    """An image to restore, and its target.

    Attributes:
        degraded: (H, W, 3) uint8; or float32, where white is 1 and values can be outside [0, 1].
        target: (H, W, 3). If it is uint8, results are rounded to 8 bits before they are scored. If it is float32 in
            [0, 1], they are not rounded.
        notes: short remarks that matter for the score.
    """

    degraded: np.ndarray
    target: np.ndarray
    notes: tuple[str, ...] = ()

    def show_degraded(self) -> np.ndarray:
        """Return the degraded image as (H, W, 3) uint8, to look at."""
        return self.degraded if self.degraded.dtype == np.uint8 else to_uint8(np.clip(self.degraded, 0, 1))


@dataclass(frozen=True)
class AddedNoise:
    """White Gaussian noise that a benchmark adds to clean pictures.

    Attributes:
        sigma: standard deviation in grey levels (white is 255).
        clipped: True: noisy pictures are clipped and rounded to 8 bits, as in a file. False: they are not, as in the
            literature.
        seed: the noise of a picture depends on this, and on the picture's number.
    """

    sigma: float
    clipped: bool
    seed: int

    def add(self, clean: np.ndarray, number: int) -> np.ndarray:
        """Return picture ``number``, (H, W, 3) uint8, with noise, as ``Sample.degraded``."""
        rng = np.random.default_rng([self.seed, number])
        if self.clipped:
            return gaussian_noise(rng, clean, self.sigma)
        return (clean + np.float32(self.sigma) * rng.standard_normal(clean.shape, dtype=np.float32)) / np.float32(255)


class Source(Protocol):
    """Images by number.

    Attributes:
        names: of the images, in the order of reports.
        orphans: files that belong to no image.
        advice: a sentence that says how to pair some of the orphans, or an empty text.
    """

    names: list[str]
    orphans: list[Path]
    advice: str

    def stamp(self, index: int) -> str:
        """Return a text that changes if the image's files change."""

    def read(self, index: int) -> Sample:
        """Read an image.

        Raises:
            UserError: the image cannot be read or scored.
        """


class PairSource:
    """Pairs of pictures in two folders; ``pairing`` as for ``match_pairs``."""

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
        (degraded, input_notes), (target, target_notes) = (
            read_8bit(pair.input, "input"),
            read_8bit(pair.target, "target"),
        )
        check_sizes(pair, degraded, target)
        return Sample(degraded, target, input_notes + target_notes)


class NoisySource(PairSource):
    """Clean pictures in a folder, to which noise is added. Each picture is its own target."""

    def __init__(self, folder: Path, noise: AddedNoise) -> None:
        super().__init__(folder, folder)
        self.noise = noise

    def read(self, index: int) -> Sample:
        clean, notes = read_8bit(self.pairs[index].target, "picture")
        return Sample(self.noise.add(clean, index), clean, notes)


class BlockSource:
    """SIDD's validation blocks. Results are scored in single precision."""

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
    """Match results of another program with the images of ``source``, by name.

    Results have the names of the targets. If several images share a target, they have the names of the inputs.

    Returns:
        The paths of the results in ``folder``, by the images' numbers.

    Raises:
        UserError: there is no such folder, no picture in it, or no picture that matches.
    """
    numbers = {pair.target: index for index, pair in enumerate(source.pairs)}
    if len(numbers) < len(source.pairs):
        numbers = {pair.input: index for index, pair in enumerate(source.pairs)}
    matching = match_pairs(folder, next(iter(numbers)).parent)
    return {numbers[pair.target]: pair.input for pair in matching.pairs if pair.target in numbers}


def read_8bit(path: Path, label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read a picture as the protocols compare it.

    Args:
        label: what the notes call the picture.

    Returns:
        The image, (H, W, 3) uint8, rotated as EXIF says; and notes if the picture is grey or has transparent pixels.

    Raises:
        UserError: as ``read_photo``; or the picture has more than 8 bits a channel.
    """
    photo = read_picture(path)
    if photo.pixels.dtype != np.uint8:
        raise UserError(f"{path} has 16 bits a channel, but the protocol compares 8: convert it first.")
    notes = [f"the {label} is grey"] if photo.grey else []
    if photo.alpha is not None and photo.alpha.min() < 255:
        notes.append(f"the {label}'s alpha is left out")
    return photo.pixels, tuple(notes)
