"""Files that are whole or not there."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from mprnet.errors import UserError


def write_whole(path: Path, data: bytes) -> None:
    """Make ``data`` the content of ``path``, whose folders are made if they are missing.

    Whoever looks at ``path`` meanwhile, or after a crash, sees what was there before; two processes that write the same
    file do not mix.

    Raises:
        UserError: it cannot be written (no space, no permission, ...); what was there before still is.
    """
    unfinished = path.parent / f".{uuid.uuid4().hex[:12]}.unfinished"
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
def locked(folder: Path) -> Iterator[None]:
    """Have ``folder`` for oneself: nobody else who asks so gets it meanwhile. Held until the process ends, at most.

    What programs that were killed left unfinished in it is cleared away.

    Where the system has no locks, everybody gets it.

    Raises:
        UserError: somebody else has it.
    """
    with open(folder / ".lock", "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another program is at work in {folder}: let it end, or stop it.") from error
        except (ImportError, OSError):  # Windows, or a file system that knows no locks
            pass
        for path in folder.glob(".*.unfinished"):
            path.unlink(missing_ok=True)
        yield


def make_folder(path: Path) -> None:
    """Make sure that files can be written into the folder ``path``.

    Raises:
        UserError: they cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{uuid.uuid4().hex[:12]}.unfinished"
        probe.touch()
        probe.unlink(missing_ok=True)  # whoever locks the folder clears it away
    except OSError as error:
        raise UserError(f"{path}: nothing can be written there ({error.strerror or error}).") from error
