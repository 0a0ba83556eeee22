"""Finding data sets that may be in another folder on this machine."""

from pathlib import Path


def resolve_folder(path: str | Path, elsewhere: str | Path) -> Path:
    """Return ``path`` if it exists, else the folder of the same name in ``elsewhere`` if there is one, else ``path``.

    In ``elsewhere``, the last two names of ``path`` are tried first, and then the last name alone.

    Args:
        elsewhere: another folder with data sets; empty if there is none.
    """
    path = Path(path)
    if path.exists() or not elsewhere:
        return path
    candidates = Path(elsewhere) / path.parent.name / path.name, Path(elsewhere) / path.name
    return next((candidate for candidate in candidates if candidate.exists()), path)
