"""Files that are whole or not there."""

import os
import uuid
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


def make_folder(path: Path) -> None:
    """Make sure that files can be written into the folder ``path``.

    Raises:
        UserError: they cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{uuid.uuid4().hex[:12]}.unfinished"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{path}: nothing can be written there ({error.strerror or error}).") from error
