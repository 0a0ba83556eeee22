"""What a run keeps on disk, and how it is found again."""

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
_BEFORE = "model_latest_before.pth"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds, and where it is."""

    content: dict[str, Any]
    path: Path


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``; a crash in between leaves what was there before.

    Raises:
        UserError: it cannot be written (no space, no permission); what was there before is still there.
    """
    file = io.BytesIO()
    torch.save(content, file)
    write_atomically(path, file.getvalue())


def save_latest(folder: Path, content: dict[str, Any], damaged: bool = False) -> None:
    """Write the checkpoint to go on from; the one it replaces is kept as a second resort, unless it is damaged."""
    latest, before = folder / LATEST, folder / _BEFORE
    if latest.exists() and not damaged:
        spare = folder / f".{_BEFORE}.link"
        spare.unlink(missing_ok=True)
        try:
            os.link(latest, spare)
        except OSError:  # not all file systems know links
            shutil.copy2(latest, spare)
        os.replace(spare, before)
    save_checkpoint(latest, content)


def keep_until(path: Path, steps: int) -> Path:
    """Rename a file that is about to be replaced, to NAME_until_step_N, and return its new path."""
    stem = f"{path.stem}_until_step_{steps}"
    names = (path.with_name(f"{stem}{'' if n == 1 else f'_{n}'}{path.suffix}") for n in count(1))
    kept = next(name for name in names if not name.exists())
    os.replace(path, kept)
    return kept


def load_latest(folder: Path) -> Checkpoint:
    """Return the checkpoint to go on from: the latest, or the one before if that is damaged.

    Raises:
        UserError: there is none, or both are damaged.
    """
    problems = []
    for path in (folder / LATEST, folder / _BEFORE):
        if not path.exists():
            continue
        try:
            content = load_pickle(path)
            if {"epoch", "state_dict", "optimizer"} <= set(content):
                return Checkpoint(content, path)
            problems.append(f"{path.name} holds no training state")
        except Exception as error:  # what a damaged file raises knows no bounds
            problems.append(f"{path.name} is damaged ({type(error).__name__})")
    if problems:
        raise UserError(f"cannot resume in {folder}: {'; '.join(problems)}.")
    raise UserError(f"cannot resume: there is no {LATEST} in {folder}; start with TRAINING.RESUME False.")
