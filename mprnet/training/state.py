"""Checkpoint files of a run: writing them, and finding the one to resume from."""

import io
import os
import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

from mprnet.errors import UserError
from mprnet.files import write_atomically
from mprnet.model.weight_files import load_pickle

LATEST = "model_latest.pth"
BEST = "model_best.pth"
_PREVIOUS = "model_latest_before.pth"


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file (``Progress.make_checkpoint``), and its path."""

    content: dict[str, Any]
    path: Path


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``. After a crash, ``path`` has the old content or the new one, never a part.

    Raises:
        UserError: the file cannot be written (no space, no permission). An existing file stays as it was.
    """
    file = io.BytesIO()
    torch.save(content, file)
    write_atomically(path, file.getvalue())


def save_latest(folder: Path, content: dict[str, Any], is_damaged: bool = False) -> None:
    """Write the latest checkpoint. Keep the one that it replaces as a fallback, for the case that it gets damaged.

    Args:
        is_damaged: the existing latest checkpoint is damaged, so do not keep it. The existing fallback stays.
    """
    latest, previous = folder / LATEST, folder / _PREVIOUS
    if latest.exists() and not is_damaged:
        link = folder / f".{_PREVIOUS}.link"
        link.unlink(missing_ok=True)
        try:
            os.link(latest, link)
        except OSError:  # not all file systems have links
            shutil.copy2(latest, link)
        os.replace(link, previous)
    save_checkpoint(latest, content)


def archive(path: Path, steps: int) -> Path:
    """Rename a file that is about to be replaced.

    Args:
        steps: number of steps so far.

    Returns:
        The new path: NAME_until_step_N, or NAME_until_step_N_2 and so on, if that exists.
    """
    stem = f"{path.stem}_until_step_{steps}"
    candidates = (path.with_name(f"{stem}{'' if n == 1 else f'_{n}'}{path.suffix}") for n in count(1))
    archived = next(candidate for candidate in candidates if not candidate.exists())
    os.replace(path, archived)
    return archived


def has_checkpoint(folder: Path) -> bool:
    """True if ``folder`` has a checkpoint to resume from, or one that is damaged."""
    return any((folder / name).exists() for name in (LATEST, _PREVIOUS))


def load_latest(folder: Path) -> Checkpoint:
    """Return the checkpoint to resume from: the latest, or the previous one if the latest is damaged.

    Raises:
        UserError: there is no checkpoint, or both are damaged.
    """
    problems = []
    for path in (folder / LATEST, folder / _PREVIOUS):
        if not path.exists():
            continue
        try:
            content = load_pickle(path)
            if {"epoch", "state_dict", "optimizer"} <= set(content):
                return Checkpoint(content, path)
            problems.append(f"{path.name} holds no training state")
        except Exception as error:  # a damaged file can raise any error
            problems.append(f"{path.name} is damaged ({type(error).__name__})")
    if problems:
        raise UserError(f"cannot resume in {folder}: {'; '.join(problems)}.")
    raise UserError(f"cannot resume: there is no {LATEST} in {folder}; start with TRAINING.RESUME False.")
