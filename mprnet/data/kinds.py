"""Kinds of picture files, by suffix: which can be read, and which optional package reads the others."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

_ALWAYS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".avif"})
HEIF = frozenset({".heic", ".heif", ".hif"})
# Raw files of cameras; rawpy decides by the content which it can read.
RAW = frozenset(
    {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".srw", ".raf", ".rw2", ".rwl", ".orf"}
    | {".pef", ".3fr", ".fff", ".iiq", ".mos", ".mef", ".erf", ".kdc", ".dcr", ".mrw", ".x3f"}
)
# The extra of this package that reads these suffixes, and the module that it installs.
_EXTRAS = {"heif": (HEIF, "pillow_heif"), "raw": (RAW, "rawpy")}


def picture_suffixes() -> frozenset[str]:
    """Return the suffixes of the files that can be read with the packages that are installed, in lower case."""
    return _ALWAYS.union(*(suffixes for extra, (suffixes, _) in _EXTRAS.items() if is_installed(extra)))


def is_picture(path: Path) -> bool:
    """True if the suffix of ``path``, in upper or lower case, is that of a picture that can be read."""
    return path.suffix.lower() in picture_suffixes()


@cache
def is_installed(extra: str) -> bool:
    """True if the package of this extra, ``heif`` or ``raw``, is installed."""
    return find_spec(_EXTRAS[extra][1]) is not None


def missing_extra(path: Path) -> str | None:
    """Return the extra that reads files with the suffix of ``path`` but is not installed; else None."""
    for extra, (suffixes, _) in _EXTRAS.items():
        if path.suffix.lower() in suffixes and not is_installed(extra):
            return extra
    return None


def install_hint(extra: str) -> str:
    """Return how to install an extra."""
    return f'pip install "mprnet[{extra}]", or pip install -e ".[{extra}]" in a clone'
