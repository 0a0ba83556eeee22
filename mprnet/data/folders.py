"""Finding data sets that may be in another folder on this machine."""

from collections.abc import Iterable
from pathlib import Path


def find_first(folders: Iterable[Path], entries: Iterable[str] = ("",)) -> Path | None:
    """Return the first folder that has one of ``entries``, or None. Without ``entries``: the first that exists."""
    names = list(entries)
    return next((folder for folder in folders if any((folder / name).exists() for name in names)), None)


def resolve_folder(path: str | Path, elsewhere: str | Path) -> Path:
    """Return ``path`` if it exists, else the folder of the same name in ``elsewhere`` if there is one, else ``path``.

    In ``elsewhere``, the last two names of ``path`` are tried first, and then the last name alone.

    Args:
        elsewhere: another folder with data sets; empty if there is none.
    """
    path = Path(path)
    if not elsewhere:
        return path
    return find_first([path, Path(elsewhere, path.parent.name, path.name), Path(elsewhere, path.name)]) or path
