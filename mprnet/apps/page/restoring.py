"""Restores one picture of the page as demo.py does, reports the progress, and stops when the visitor cancels."""

import argparse
import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from mprnet.apps.options import load_network, make_restorer
from mprnet.apps.page.limits import TimeLimit, read_limited
from mprnet.data.photo_writing import check_format, describe_left_out, write_photo
from mprnet.data.photos import Photo
from mprnet.errors import UserError
from mprnet.inference.block_hooks import call_in_blocks, count_blocks
from mprnet.inference.distributed import World
from mprnet.inference.jobs import Job
from mprnet.inference.restorer import Restorer

# Number of networks in the cache.
_MOST_CACHED = 2
# Longer side of the images that the page shows, in pixels. The files to download have all pixels.
_PREVIEW = 2048


@dataclass(frozen=True)
class Choice:
    """How to restore, as the visitor chooses it. All other options come from the command line."""

    task: str
    weights: Path
    stage: int | None
    local_pooling: bool
    ensemble: bool
    strength: float = 1.0


@dataclass(eq=False)
class Run:
    """The state of a visitor's pictures: results, failures and progress.

    Attributes:
        folder: where the files are.
        total: number of pictures.
        results: the files to download, by the pictures' names.
        previews: the images before and after restoring, for the browser, by the pictures' names.
        failures: a sentence for each picture that could not be restored.
        notes: a sentence for each picture of which something is left out.
        current: name of the picture that is being restored, "" if there is none.
        fraction: how much of this picture is done, in [0, 1].
        ahead: how many pictures of other visitors are restored before this picture.
        stopped: is set if the visitor cancels.
    """

    folder: Path
    total: int = 0
    results: dict[str, Path] = field(default_factory=dict)
    previews: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    current: str = ""
    fraction: float = 0.0
    ahead: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def raise_if_stopped(self) -> None:
        """Raise ``StoppedError`` if the visitor has cancelled."""
        if self.stopped.is_set():
            raise StoppedError


class StoppedError(Exception):
    """The visitor has cancelled the run, or has left the page."""


class Restorers:
    """A cache of Restorers: those that were used last. Only one thread can use it.

    Args:
        folder: the folder that holds the tasks' folders.
        a: the command line.
    """

    def __init__(self, folder: Path, a: argparse.Namespace) -> None:
        self._folder = folder
        self._a = a
        self._cache: OrderedDict[tuple[Choice, int], tuple[Restorer, int]] = OrderedDict()

    def restore(self, job: Job, choice: Choice, run: Run) -> tuple[Path, Path]:
        """Write the job's result, and report the progress in ``run``.

        Returns:
            The paths of the previews before and after restoring.

        Raises:
            UserError: the picture cannot be restored, is too large or takes too long for this page, or the weights do
                not allow these options.
            StoppedError: the visitor has cancelled.
        """
        run.raise_if_stopped()
        restorer, blocks = self._get(choice)
        restorer.strength = choice.strength
        photo = read_limited(job.source, self._a.max_megapixels)
        check_format(job.result, photo.height, photo.width, photo.alpha is not None)
        done, tiles = 0, 1
        time_limit = TimeLimit(job.source, self._a.max_minutes)

        def check() -> None:
            run.raise_if_stopped()
            time_limit.check()

        def on_block() -> None:
            nonlocal done
            check()
            done += 1
            run.fraction = min(1.0, done / (blocks * tiles))

        def on_tile(_: int, total: int) -> None:
            nonlocal tiles
            check()
            tiles = total

        restorer.on_tile = on_tile
        try:
            # Hooks on the blocks would make a compiled network compile again.
            with contextlib.nullcontext() if self._a.compile else call_in_blocks(on_block):
                result = photo.with_image(restorer(photo.as_float()))
        finally:
            restorer.on_tile = None
        if left_out := [*photo.notes, *write_photo(job.result, result)]:
            run.notes.append(f"{run.current}: {describe_left_out(left_out)}")
        return _preview(photo, run, "before", job), _preview(result, run, "after", job)

    def _get(self, choice: Choice) -> tuple[Restorer, int]:
        """Return the Restorer, and the number of blocks that its network runs for one tile.

        Its strength may be another: that can be changed without making a new one.
        """
        try:
            key = replace(choice, strength=1.0), choice.weights.stat().st_mtime_ns
        except OSError as error:
            raise UserError(f"the weights {choice.weights.name} are not there any more; choose others.") from error
        if key not in self._cache:
            while len(self._cache) >= _MOST_CACHED:
                self._cache.popitem(last=False)
            self._cache[key] = self._make(choice)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _make(self, choice: Choice) -> tuple[Restorer, int]:
        options = {
            **vars(self._a),
            "local_pooling": choice.local_pooling,
            "training_patch": self._a.training_patch if choice.local_pooling else None,
            "ensemble": choice.ensemble,
            "strength": choice.strength,
        }
        model = load_network(self._folder / choice.task, choice.weights)[0]
        world = World(0, 1, torch.device("cpu"))
        restorer = make_restorer(model, argparse.Namespace(**options), world, choice.stage)
        return restorer, count_blocks(model, choice.stage) * (8 if choice.ensemble else 1)


def _preview(photo: Photo, run: Run, kind: str, job: Job) -> Path:
    """Write a JPEG of ``photo``, small enough for the page, and return its path."""
    path = run.folder / kind / job.result.relative_to(run.folder).with_suffix(".jpg")
    pixels = photo.pixels
    height, width = pixels.shape[:2]
    scale = _PREVIEW / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    write_photo(path, Photo(np.asarray(pixels), grey=photo.grey, icc=photo.icc))
    return path
