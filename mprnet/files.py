"""Writing files atomically, noticing that files change, and locking folders."""

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from mprnet.errors import UserError

_UNFINISHED = re.compile(r"\.[0-9a-f]{12}\.unfinished")
_LEFTOVER_AGE = 3600  # seconds
# The folders in which this process has looked for leftovers.
_cleared: set[Path] = set()
# The files of the locks that this process holds.
_locks: set[int] = set()


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``. Missing folders are created.

    The data is written to a temporary file first, which then replaces ``path``. So a reader, or a person after a crash,
    finds either the complete old file or the complete new file. Two processes can write the same file: one of the two
    versions remains. Temporary files that killed programs left in the folder are removed.

    Raises:
        UserError: the file cannot be written (no space, no permission, ...). The old file is still there.
    """
    unfinished = _unfinished_path(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        try:
            with open(unfinished, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}).") from error


def file_stamp(*paths: Path) -> str:
    """Return the paths, sizes and modification times of files, as one text. Missing files are left out."""
    stamps: list[str] = []
    for path in paths:
        with contextlib.suppress(OSError):
            state = path.stat()
            stamps.append(f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}")
    return " ".join(stamps)


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock ``folder``: only one process at a time gets past this call.

    The lock ends with the ``with`` block, or with the process, also if processes that it has forked go on. On a system
    without locks, every process gets past.

    Raises:
        UserError: another process holds the lock.
    """
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    _locks.add(file)
    try:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another program is at work in {folder}: let it end, or stop it.") from error
        except (ImportError, OSError):  # Windows, or a file system without locks
            pass
        yield
    finally:
        if file in _locks:
            _locks.remove(file)
            os.close(file)


def _close_locks() -> None:
    """Close the files of locks in a forked process: a lock ends when the last process closes its file."""
    for file in _locks:
        os.close(file)
    _locks.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_close_locks)


def make_folder(path: Path) -> None:
    """Create the folder ``path`` if it is missing, and check that files can be written to it.

    Raises:
        UserError: they cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = _unfinished_path(path)
        probe.touch()
        probe.unlink()
        _remove_leftovers(path)
    except OSError as error:
        raise UserError(f"{path}: nothing can be written there ({error.strerror or error}).") from error


def _unfinished_path(folder: Path) -> Path:
    """Return the path of a new temporary file; ``_remove_leftovers`` knows such names."""
    return folder / f".{uuid.uuid4().hex[:12]}.unfinished"


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed programs from ``folder``, when this process first writes to it.

    A live program writes its temporary file in seconds, so an old one belongs to none.
    """
    if folder in _cleared:
        return
    _cleared.add(folder)
    oldest = time.time() - _LEFTOVER_AGE
    names: list[str] = []
    with contextlib.suppress(OSError):  # a folder that may be written to, but not listed
        names = [name for name in os.listdir(folder) if _UNFINISHED.fullmatch(name)]
    for name in names:
        with contextlib.suppress(OSError):  # another program removes it, or only its owner may
            if os.lstat(folder / name).st_mtime < oldest:
                os.unlink(folder / name)
