"""Restoring the pictures of a folder: which, where to, reading and writing beside the network."""

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from natsort import natsorted
from tqdm import tqdm

from mprnet.data.photo_writing import write_photo
from mprnet.data.photos import SUFFIXES, Photo, read_photo
from mprnet.data.tensors import to_array, to_tensor
from mprnet.errors import UserError
from mprnet.inference.restorer import Restorer

# Files read and written at a time, beside the network, and how many pictures wait before and after it.
_THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))
_AHEAD = _THREADS
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


def left_to_do(jobs: Sequence[Job]) -> list[Job]:
    """The jobs of which a result is missing, or older than its picture: names of results depend on which pictures there
    are, so what is older may be another's. Results are written whole or not at all."""

    def done(job: Job, path: Path) -> bool:
        try:
            return path.stat().st_mtime_ns >= job.source.stat().st_mtime_ns
        except OSError:
            return False

    return [
        job for job in jobs if not all(done(job, path) for path in (job.result, job.comparison) if path is not None)
    ]


@dataclass
class Report:
    """What became of a folder."""

    failures: list[UserError] = field(default_factory=list)
    done: int = 0
    seconds: float = 0.0
    restoring: float = 0.0  # seconds of these that the network ran


def restore_all(jobs: Sequence[Job], restorer: Restorer) -> Report:
    """Do all jobs under a progress bar, reading ahead and writing behind, so that the network never waits for files.

    What fails is said at once and returned, and the others go on. Small pictures of one size, one after the other, are
    restored together where the device gains by it. Stopped, it still writes what is restored.
    """
    report = Report()
    start = time.perf_counter()
    with (
        ThreadPoolExecutor(_THREADS, "read") as readers,
        ThreadPoolExecutor(_THREADS, "write") as writers,
        tqdm(total=len(jobs), unit="picture", disable=not jobs) as bar,
    ):
        restorer.on_tile = lambda done, total: bar.set_postfix_str(f"tile {done} of {total}")
        try:
            written: deque[Future[None]] = deque()
            for group in _groups(_read_ahead(jobs, readers, report, bar), restorer):
                begin = time.perf_counter()
                results = _restore(group, restorer)
                report.restoring += time.perf_counter() - begin
                for (job, photo), result in zip(group, results, strict=True):
                    written.append(writers.submit(_write, job, photo, result))
                while len(written) > _AHEAD:
                    _note(written.popleft(), report, bar)
            while written:
                _note(written.popleft(), report, bar)
        finally:
            restorer.on_tile = None
            readers.shutdown(wait=False, cancel_futures=True)
    report.seconds = time.perf_counter() - start
    return report


def _read_ahead(
    jobs: Sequence[Job], readers: ThreadPoolExecutor, report: Report, bar: "tqdm[NoReturn]"
) -> Iterator[tuple[Job, Photo]]:
    """The pictures in turn, the next ones being read meanwhile."""
    waiting: deque[tuple[Job, Future[Photo]]] = deque()
    rest = iter(jobs)
    while True:
        for job in islice(rest, _AHEAD + 1 - len(waiting)):
            waiting.append((job, readers.submit(read_photo, job.source)))
        if not waiting:
            return
        job, photo = waiting.popleft()
        bar.set_description(job.source.name)
        if (error := photo.exception()) is None:
            yield job, photo.result()
        else:
            _fail(error, report, bar)


def _groups(photos: Iterable[tuple[Job, Photo]], restorer: Restorer) -> Iterator[list[tuple[Job, Photo]]]:
    """Neighbours of one size, as many as the device takes at a time."""
    group: list[tuple[Job, Photo]] = []
    for job, photo in photos:
        size = photo.pixels.shape[:2]
        if group and (size != group[0][1].pixels.shape[:2] or len(group) >= restorer.batch_size(*size)):
            yield group
            group = []
        group.append((job, photo))
        if restorer.batch_size(*size) == 1:
            yield group
            group = []
    if group:
        yield group


def _restore(group: Sequence[tuple[Job, Photo]], restorer: Restorer) -> list[np.ndarray | UserError]:
    """Each picture restored, (H, W, 3) float32 in [0, 1], or why it is not."""
    if len(group) == 1:
        ((job, photo),) = group
        try:
            return [restorer(photo.as_float())]
        except UserError as error:
            return [UserError(f"{job.source}: {error}")]
    batch = torch.stack([to_tensor(photo.as_float()) for _, photo in group])
    try:
        return [to_array(restored) for restored in restorer(batch)]
    except UserError:  # one of them may be the cause
        return [result for one in group for result in _restore([one], restorer)]


def _write(job: Job, photo: Photo, restored: np.ndarray | UserError) -> None:
    if isinstance(restored, UserError):
        raise restored
    result = photo.with_image(restored)
    write_photo(job.result, result)
    if job.comparison is not None:
        write_photo(job.comparison, side_by_side(photo, result))


def _note(written: "Future[None]", report: Report, bar: "tqdm[NoReturn]") -> None:
    if (error := written.exception()) is not None:
        _fail(error, report, bar)
    else:
        report.done += 1
        bar.update()


def _fail(error: BaseException, report: Report, bar: "tqdm[NoReturn]") -> None:
    if not isinstance(error, UserError):
        raise error
    report.failures.append(error)
    bar.update()
    tqdm.write(f"error: {error}", file=sys.stderr)


def side_by_side(before: Photo, after: Photo) -> Photo:
    """Both pictures in one, without their alpha, ``before`` on the left."""
    gap = np.full((before.pixels.shape[0], _GAP, 3), before.peak, before.pixels.dtype)
    return Photo(np.concatenate([before.pixels, gap, after.pixels], axis=1), grey=before.grey, icc=before.icc)
