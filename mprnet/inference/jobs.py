"""Which pictures of a folder to restore, and where their results go."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from natsort import natsorted

from mprnet.data.photos import SUFFIXES
from mprnet.errors import UserError


@dataclass(frozen=True)
class Job:
    """One picture to restore: its file, the result's, and that of a comparison if one is wanted."""

    source: Path
    result: Path
    comparison: Path | None = None

    @property
    def written(self) -> list[Path]:
        """The files to write."""
        return [self.result] if self.comparison is None else [self.result, self.comparison]


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
    originals = defaultdict(list)
    for path in root.parent.iterdir() if root.is_file() else sources:
        originals[os.path.realpath(path).lower()].append(path)
    for job in jobs:
        for path in job.written:
            # On some systems IMG.png is IMG.PNG.
            alike = originals[os.path.realpath(path).lower()] if path.exists() else []
            if any(path.samefile(original) for original in alike if original.exists()):
                raise UserError(f"the result of {job.source} would overwrite {path}; choose another --result_dir.")
    return jobs


def left_to_do(jobs: Sequence[Job]) -> list[Job]:
    """The jobs of which a result is missing, or older than its picture or the picture's coming there: names of results
    depend on which pictures there are, so what is older may be another's. Results are written whole or not at all."""

    def done(job: Job, path: Path) -> bool:
        try:
            result, source = path.stat(), job.source.stat()
            return result.st_mtime_ns >= source.st_mtime_ns and result.st_ctime_ns >= source.st_ctime_ns
        except OSError:
            return False

    return [job for job in jobs if not all(done(job, path) for path in job.written)]
