"""Restoring the pictures of a folder: which, where to, one after the other."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from natsort import natsorted
from tqdm import tqdm

from mprnet.data.photo_writing import write_photo
from mprnet.data.photos import SUFFIXES, Photo, read_photo
from mprnet.errors import UserError

Restore = Callable[[np.ndarray], np.ndarray]
_GAP = 8  # white pixels between the two halves of a comparison


@dataclass(frozen=True)
class Job:
    """One picture to restore: its file, the result's, and that of a comparison if one is wanted."""

    source: Path
    result: Path
    comparison: Path | None = None


def find_photos(root: Path, recursive: bool, skip: Path) -> tuple[list[Path], list[UserError]]:
    """The pictures in a folder (or the one file that ``root`` is), in natural order, and folders that are closed.

    Hidden files are no pictures, and with ``recursive`` the folder ``skip`` (the results') is not entered; links to
    folders are followed, but no folder is entered twice.

    Raises:
        UserError: nothing there, or no picture; the sentence says what there is instead.
    """
    if root.is_file():
        return [root], []
    if not root.is_dir():
        raise UserError(f"there is no file or folder {root}.")
    photos: list[Path] = []
    closed: list[UserError] = []
    others = 0
    seen = {os.path.realpath(skip)}
    walk = os.walk(root, followlinks=True, onerror=lambda e: closed.append(UserError(f"{e.filename}: {e.strerror}.")))
    for folder, folders, names in walk:
        here = Path(folder)
        real = os.path.realpath(here)
        if real in seen and here != root:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = natsorted(f for f in folders if not f.startswith("."))
        visible = [name for name in names if not name.startswith(".")]
        found = [here / name for name in visible if Path(name).suffix.lower() in SUFFIXES]
        photos += found
        others += len(visible) - len(found)
        if not recursive:
            break
    if not photos:
        raise closed[0] if closed else UserError(_nothing_found(root, recursive, others))
    return natsorted(photos, key=str), closed


def _nothing_found(root: Path, recursive: bool, others: int) -> str:
    folders = natsorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if folders and not recursive:
        shown = ", ".join(folders[:5]) + (", ..." if len(folders) > 5 else "")
        return f"{root} holds no pictures, only folders ({shown}): name one of them, or add --recursive."
    kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
    return f"{root} holds no pictures ({others} other files); pictures end in {kinds}."


def plan(sources: Sequence[Path], root: Path, result_dir: Path, suffix: str, compare: bool) -> list[Job]:
    """Give every source a result of its own.

    A result has its source's name with ``suffix``; where two sources would meet (a.jpg and a.png), the one that has
    this suffix already keeps it and the other is called a_jpg. Names that differ in case alone count as one, as they
    are on some systems.

    Raises:
        UserError: a result would take the place of a picture to be restored, or of one beside it.
    """
    base = root if root.is_dir() else root.parent
    taken: set[str] = set()

    def claim(wishes: Iterable[Path]) -> Path:
        path = next(wish for wish in wishes if str(wish).lower() not in taken)
        taken.add(str(path).lower())
        return path

    def wishes(source: Path) -> Iterable[Path]:
        target = result_dir / source.relative_to(base)
        yield target.with_name(target.stem + suffix)
        stem = f"{target.stem}_{target.suffix[1:].lower()}"
        yield target.with_name(stem + suffix)
        for number in range(2, len(sources) + 2):
            yield target.with_name(f"{stem}_{number}{suffix}")

    first = [source for source in sources if source.suffix == suffix]
    results = {source: claim(wishes(source)) for source in [*first, *(s for s in sources if s not in set(first))]}
    jobs = []
    for source in sources:
        result = results[source]
        names = (result.with_name(f"{result.stem}_compare{'_' * i}{suffix}") for i in range(len(sources) + 1))
        jobs.append(Job(source, result, claim(names) if compare else None))
    # Of one picture, its neighbours are originals as well.
    originals = {os.path.realpath(path) for path in (root.parent.iterdir() if root.is_file() else sources)}
    for job in jobs:
        for path in (job.result, job.comparison):
            if path is not None and os.path.realpath(path) in originals:
                raise UserError(f"the result of {job.source} would overwrite {path}; choose another --result_dir.")
    return jobs


def restore_all(jobs: Sequence[Job], restore: Restore) -> list[UserError]:
    """Do all jobs under a progress bar, each picture on its own: what fails is said at once, and returned.

    Args:
        restore: (H, W, 3) float32 in [0, 1] to the same.
    """
    failures = []
    with tqdm(jobs, unit="picture") as bar:
        for job in bar:
            bar.set_description(job.source.name)
            try:
                restore_one(job, restore)
            except UserError as error:
                failures.append(error)
                tqdm.write(f"error: {error}", file=sys.stderr)
    return failures


def restore_one(job: Job, restore: Restore) -> None:
    """Read, restore, write.

    Raises:
        UserError: the picture cannot be read, restored in the memory there is, or written.
    """
    photo = read_photo(job.source)
    try:
        result = photo.with_image(restore(photo.as_float()))
    except UserError as error:
        raise UserError(f"{job.source}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            height, width = photo.pixels.shape[:2]
            raise UserError(f"{job.source}: not enough memory for {width}x{height} pixels; scale it down.") from error
        raise
    write_photo(job.result, result)
    if job.comparison is not None:
        write_photo(job.comparison, side_by_side(photo, result))


def side_by_side(before: Photo, after: Photo) -> Photo:
    """Both pictures in one, without their alpha, ``before`` on the left."""
    gap = np.full((before.pixels.shape[0], _GAP, 3), before.peak, before.pixels.dtype)
    return Photo(np.concatenate([before.pixels, gap, after.pixels], axis=1), grey=before.grey, icc=before.icc)
