"""Writing files atomically, and locking folders."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from mprnet.errors import UserError


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``. Missing folders are created.

    The data is written to a temporary file first, which then replaces ``path``. So a reader, or a person after a crash,
    finds either the complete old file or the complete new file. Two processes can write the same file: one of the two
    versions remains.

    Raises:
        UserError: the file cannot be written (no space, no permission, ...). The old file is still there.
    """
    unfinished = _unfinished_path(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock ``folder``: only one process at a time gets past this call.

    The lock ends with the ``with`` block, or with the process. Temporary files that killed programs left in the folder
    are removed. On a system without locks, every process gets past.

    Raises:
        UserError: another process holds the lock.
    """
    with open(folder / ".lock", "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another program is at work in {folder}: let it end, or stop it.") from error
        except (ImportError, OSError):  # Windows, or a file system without locks
            pass
        for path in folder.glob(".*.unfinished"):
            path.unlink(missing_ok=True)
        yield


def make_folder(path: Path) -> None:
    """Create the folder ``path`` if it is missing, and check that files can be written to it.

    Raises:
        UserError: they cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = _unfinished_path(path)
        probe.touch()
        probe.unlink(missing_ok=True)  # another process that locks the folder may have removed it
    except OSError as error:
        raise UserError(f"{path}: nothing can be written there ({error.strerror or error}).") from error


def _unfinished_path(folder: Path) -> Path:
    """Return the path of a new temporary file; ``lock_folder`` removes files with such names."""
    return folder / f".{uuid.uuid4().hex[:12]}.unfinished"
