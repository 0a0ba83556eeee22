"""Finding the pictures to restore, and choosing the paths of their results."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from natsort import natsorted

from mprnet.data.kinds import install_hint, is_picture, missing_extra, picture_suffixes
from mprnet.errors import UserError, name_some

_CLOCK_ERROR = 60 * 10**9  # nanoseconds by which a file server's clock may be ahead


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


@dataclass
class Found:
    """What ``find_photos`` has found.

    Attributes:
        photos: the pictures, in natural order.
        errors: an error for each folder that cannot be opened.
        others: files of other kinds. Hidden files are not among them.
    """

    photos: list[Path] = field(default_factory=list)
    errors: list[UserError] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


def find_photos(root: Path, recursive: bool, skip: Path) -> Found:
    """Find the pictures in the folder ``root``. If ``root`` is a file, it is the only one.

    Hidden files and folders are left out. Links to folders are followed, but no folder is searched twice.

    Args:
        recursive: search the subfolders too.
        skip: a folder that is not searched: where the results are written.

    Raises:
        UserError: ``root`` does not exist, or has no pictures. The message says what it holds instead.
    """
    if root.is_file():
        return Found([root])
    if not root.is_dir():
        raise UserError(f"there is no file or folder {root}.")
    found = Found()
    visited = {os.path.realpath(skip)}

    def add_error(error: OSError) -> None:
        found.errors.append(UserError(f"{error.filename}: {error.strerror}."))

    for name, folders, names in os.walk(root, followlinks=True, onerror=add_error):
        folder = Path(name)
        real = os.path.realpath(folder)
        if real in visited and folder != root:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = natsorted(f for f in folders if not f.startswith("."))
        for path in (folder / name for name in names if not name.startswith(".")):
            (found.photos if is_picture(path) else found.others).append(path)
        if not recursive:
            break
    if not found.photos:
        raise found.errors[0] if found.errors else UserError(_no_pictures_message(root, recursive, found.others))
    return Found(natsorted(found.photos, key=str), found.errors, natsorted(found.others, key=str))


def _no_pictures_message(root: Path, recursive: bool, others: Sequence[Path]) -> str:
    folders = natsorted(p.name for p in _list_folder(root) if os.path.isdir(p) and not p.name.startswith("."))
    if folders and not recursive:
        shown = ", ".join(folders[:5]) + (", ..." if len(folders) > 5 else "")
        return f"{root} holds no pictures, only folders ({shown}): name one of them, or add --recursive."
    kinds = ", ".join(sorted(suffix[1:] for suffix in picture_suffixes()))
    held = f" ({describe_others(others, root)})" if others else ""
    return f"{root} holds no pictures{held}; pictures end in {kinds}."


def describe_others(others: Sequence[Path], root: Path) -> str:
    """Return a text that counts and names files of other kinds in ``root``, and says how some could be read."""
    names = name_some([path.relative_to(root) for path in natsorted(others, key=str)])
    text = f"{len(others)} file{'s' * (len(others) > 1)} of other kinds left out: {names}"
    kinds: dict[str, set[str]] = {}  # by the extra that reads them
    for path in others:
        if extra := missing_extra(path):
            kinds.setdefault(extra, set()).add(path.suffix[1:].upper())
    return text + "".join(f"; to read {', '.join(sorted(kinds[e]))}: {install_hint(e)}" for e in kinds)


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
    for path in [root, *_list_folder(root.parent)] if root.is_file() else sources:
        originals[os.path.realpath(path).lower()].append(path)
    for job in jobs:
        for path in job.outputs:
            # On some systems, IMG.png and IMG.PNG are the same file.
            if any(_are_same(path, original) for original in originals[os.path.realpath(path).lower()]):
                raise UserError(f"the result of {job.source} would overwrite {path}; choose another --result_dir.")
    return jobs


def _list_folder(folder: Path) -> list[Path]:
    """Return what is in a folder; an empty list if the system does not show it."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _are_same(path: Path, other: Path) -> bool:
    """True if both exist and are the same file."""
    try:
        return path.samefile(other)
    except OSError:  # no such file, or a name that is too long, ...
        return False


def find_unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs whose outputs are missing or older than their source.

    An output is also too old if it was written before the source came into the folder (its time of status change): the
    names of results depend on which pictures are there, so an older file may be the result of another picture. An
    output that exists is complete, because files are written atomically.

    Dates that lie in the future say nothing: a camera's clock may be wrong, for example. If both dates of an output lie
    there, it is made again, and has right dates then.
    """
    return [job for job in jobs if not all(_is_finished(job, path) for path in job.outputs)]


def _is_finished(job: Job, path: Path) -> bool:
    try:
        source, output = job.source.stat(), path.stat()
    except OSError:
        return False
    latest = time.time_ns() + _CLOCK_ERROR
    written = [date for date in (output.st_mtime_ns, output.st_ctime_ns) if date <= latest]
    if not written:
        return False
    pairs = ((source.st_mtime_ns, written[0]), (source.st_ctime_ns, written[-1]))
    return all(changed > latest or changed <= made for changed, made in pairs)
