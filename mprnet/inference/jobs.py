"""Finding the pictures to restore, and choosing the paths of their results."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from natsort import natsorted

from mprnet.data.kinds import is_picture, picture_suffixes
from mprnet.errors import UserError


@dataclass(frozen=True)
class Job:
    """One picture to restore.

    Attributes:
        source: the picture's file.
        result: the file of the restored picture.
        comparison: the file of a picture with both side by side; None: it is not written.
    """

    source: Path
    result: Path
    comparison: Path | None = None

    @property
    def outputs(self) -> list[Path]:
        """The files that the job writes."""
        return [self.result] if self.comparison is None else [self.result, self.comparison]


def find_photos(root: Path, recursive: bool, skip: Path) -> tuple[list[Path], list[UserError]]:
    """Return the pictures in the folder ``root``, in natural order. If ``root`` is a file, return this file.

    Hidden files and folders are left out. Links to folders are followed, but no folder is searched twice.

    Args:
        recursive: search the subfolders too.
        skip: a folder that is not searched: where the results are written.

    Returns:
        The pictures, and an error for each folder that cannot be opened.

    Raises:
        UserError: ``root`` does not exist, or has no pictures. The message says what it holds instead.
    """
    if root.is_file():
        return [root], []
    if not root.is_dir():
        raise UserError(f"there is no file or folder {root}.")
    photos: list[Path] = []
    errors: list[UserError] = []
    others = 0
    visited = {os.path.realpath(skip)}
    walk = os.walk(root, followlinks=True, onerror=lambda e: errors.append(UserError(f"{e.filename}: {e.strerror}.")))
    for name, folders, names in walk:
        folder = Path(name)
        real = os.path.realpath(folder)
        if real in visited and folder != root:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = natsorted(f for f in folders if not f.startswith("."))
        visible = [name for name in names if not name.startswith(".")]
        pictures = [folder / name for name in visible if is_picture(Path(name))]
        photos += pictures
        others += len(visible) - len(pictures)
        if not recursive:
            break
    if not photos:
        raise errors[0] if errors else UserError(_no_pictures_message(root, recursive, others))
    return natsorted(photos, key=str), errors


def _no_pictures_message(root: Path, recursive: bool, others: int) -> str:
    folders = natsorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if folders and not recursive:
        shown = ", ".join(folders[:5]) + (", ..." if len(folders) > 5 else "")
        return f"{root} holds no pictures, only folders ({shown}): name one of them, or add --recursive."
    kinds = ", ".join(sorted(suffix[1:] for suffix in picture_suffixes()))
    return f"{root} holds no pictures ({others} other files); pictures end in {kinds}."


def plan_jobs(sources: Sequence[Path], root: Path, result_dir: Path, suffix: str, compare: bool) -> list[Job]:
    """Choose a different path in ``result_dir`` for the result of each source.

    A result has the name of its source, with ``suffix``. If two results would have the same name (those of a.jpg and
    a.png), the source that has ``suffix`` itself gets the name, and the result of the other is called a_jpg. Names that
    differ only in case count as equal, because they are on some systems.

    Args:
        sources: the pictures in ``root``, or ``root`` itself.
        suffix: of the results.
        compare: also write comparisons, NAME_compare.

    Raises:
        UserError: a result would overwrite a source, or, if ``root`` is a file, another file beside it.
    """
    base = root if root.is_dir() else root.parent
    used: set[str] = set()

    def choose_unused(candidates: Iterable[Path]) -> Path:
        path = next(candidate for candidate in candidates if str(candidate).lower() not in used)
        used.add(str(path).lower())
        return path

    def candidates(source: Path) -> Iterable[Path]:
        target = result_dir / source.relative_to(base)
        yield target.with_name(target.stem + suffix)
        stem = f"{target.stem}_{target.suffix[1:].lower()}"
        yield target.with_name(stem + suffix)
        for number in range(2, len(sources) + 2):
            yield target.with_name(f"{stem}_{number}{suffix}")

    first = [source for source in sources if source.suffix == suffix]
    ordered = [*first, *(source for source in sources if source not in set(first))]
    results = {source: choose_unused(candidates(source)) for source in ordered}
    jobs = []
    for source in sources:
        result = results[source]
        names = (result.with_name(f"{result.stem}_compare{'_' * i}{suffix}") for i in range(len(sources) + 1))
        jobs.append(Job(source, result, choose_unused(names) if compare else None))
    # Files that must not be overwritten. If there is only one source, these are all files in its folder.
    originals = defaultdict(list)
    for path in root.parent.iterdir() if root.is_file() else sources:
        originals[os.path.realpath(path).lower()].append(path)
    for job in jobs:
        for path in job.outputs:
            # On some systems, IMG.png and IMG.PNG are the same file.
            same_name = originals[os.path.realpath(path).lower()] if path.exists() else []
            if any(path.samefile(original) for original in same_name if original.exists()):
                raise UserError(f"the result of {job.source} would overwrite {path}; choose another --result_dir.")
    return jobs


def find_unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs whose outputs are missing or older than their source.

    An output is also too old if it was written before the source came into the folder (its time of status change): the
    names of results depend on which pictures are there, so an older file may be the result of another picture. An
    output that exists is complete, because files are written atomically.
    """

    def is_finished(job: Job, path: Path) -> bool:
        try:
            result, source = path.stat(), job.source.stat()
            return result.st_mtime_ns >= source.st_mtime_ns and result.st_ctime_ns >= source.st_ctime_ns
        except OSError:
            return False

    return [job for job in jobs if not all(is_finished(job, path) for path in job.outputs)]
