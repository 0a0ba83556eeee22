"""One picture of the page: restored as demo.py does, followed, and stopped on demand."""

import argparse
import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from mprnet.apps.options import load_network, make_restorer
from mprnet.data.photo_writing import write_photo
from mprnet.data.photos import Photo, read_photo
from mprnet.errors import UserError
from mprnet.inference.block_hooks import call_in_blocks, count_blocks
from mprnet.inference.distributed import World
from mprnet.inference.jobs import Job
from mprnet.inference.restorer import Restorer

# Networks kept ready, the ones that were used last.
_KEPT = 2
# Longer side of what the page shows, in pixels; what it hands out is not touched.
_PREVIEW = 2048


@dataclass(frozen=True)
class Choice:
    """How to restore, as chosen on the page; the rest is as on the command line."""

    task: str
    weights: Path
    stage: int | None
    local_pooling: bool
    ensemble: bool


@dataclass
class Run:
    """What became of a visitor's pictures so far.

    Attributes:
        folder: where their files are.
        total: how many pictures there are.
        results: the files to hand out, by the pictures' names.
        previews: before and after, for a browser, likewise.
        failures: a sentence for each picture that could not be restored.
        current: the picture that is being restored, "" if none is, and ``fraction`` how much of it is done, in [0, 1].
        stopped: set by the visitor, to end it.
    """

    folder: Path
    total: int = 0
    results: dict[str, Path] = field(default_factory=dict)
    previews: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    current: str = ""
    fraction: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise ``StoppedError`` if it is to end."""
        if self.stopped.is_set():
            raise StoppedError


class StoppedError(Exception):
    """The visitor has cancelled, or left."""


class Restorers:
    """Networks made ready for choices; the last few are kept. For one thread.

    Args:
        folder: the folder that holds the tasks' folders.
        a: the command line.
    """

    def __init__(self, folder: Path, a: argparse.Namespace) -> None:
        self._folder = folder
        self._a = a
        self._kept: OrderedDict[tuple[Choice, int], tuple[Restorer, int]] = OrderedDict()

    def restore(self, job: Job, choice: Choice, run: Run) -> tuple[Path, Path]:
        """Write the job's result, saying meanwhile in ``run`` how far it is, and return previews of before and after.

        Raises:
            UserError: the picture cannot be restored, or these weights cannot be used so.
            StoppedError: ``run`` is to end.
        """
        run.check()
        restorer, blocks = self._get(choice)
        photo = read_photo(job.source)
        done, tiles = 0, 1

        def on_block() -> None:
            nonlocal done
            run.check()
            done += 1
            run.fraction = min(1.0, done / (blocks * tiles))

        def on_tile(_: int, total: int) -> None:
            nonlocal tiles
            run.check()
            tiles = total

        restorer.on_tile = on_tile
        try:
            # A compiled network would be compiled anew for being watched.
            with contextlib.nullcontext() if self._a.compile else call_in_blocks(on_block):
                result = photo.with_image(restorer(photo.as_float()))
        finally:
            restorer.on_tile = None
        write_photo(job.result, result)
        return _preview(photo, run, "before", job), _preview(result, run, "after", job)

    def _get(self, choice: Choice) -> tuple[Restorer, int]:
        """The Restorer, and how many blocks its network runs for one tile."""
        try:
            key = choice, choice.weights.stat().st_mtime_ns
        except OSError as error:
            raise UserError(f"the weights {choice.weights.name} are not there any more; choose others.") from error
        if key not in self._kept:
            while len(self._kept) >= _KEPT:
                self._kept.popitem(last=False)
            self._kept[key] = self._make(choice)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _make(self, choice: Choice) -> tuple[Restorer, int]:
        options = {
            **vars(self._a),
            "local_pooling": choice.local_pooling,
            "training_patch": self._a.training_patch if choice.local_pooling else None,
            "ensemble": choice.ensemble,
        }
        model = load_network(self._folder / choice.task, choice.weights)[0]
        world = World(0, 1, torch.device("cpu"))
        restorer = make_restorer(model, argparse.Namespace(**options), world, choice.stage)
        return restorer, count_blocks(model, choice.stage) * (8 if choice.ensemble else 1)


def _preview(photo: Photo, run: Run, kind: str, job: Job) -> Path:
    """A JPEG of ``photo`` of at most so many pixels as pages can show."""
    path = run.folder / kind / job.result.relative_to(run.folder).with_suffix(".jpg")
    pixels = photo.pixels
    height, width = pixels.shape[:2]
    scale = _PREVIEW / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    write_photo(path, Photo(np.asarray(pixels), grey=photo.grey, icc=photo.icc))
    return path
