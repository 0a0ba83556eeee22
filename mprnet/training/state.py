"""What a run keeps on disk, and how it is found again."""

import io
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from mprnet.errors import UserError
from mprnet.files import write_whole
from mprnet.model.weights import load_plain

LATEST = "model_latest.pth"
_BEFORE = "model_latest_before.pth"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``; a crash in between leaves what was there before.

    Raises:
        UserError: it cannot be written (no space, no permission); what was there before is still there.
    """
    file = io.BytesIO()
    torch.save(content, file)
    write_whole(path, file.getvalue())


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


def load_latest(folder: Path) -> tuple[dict[str, Any], Path]:
    """The checkpoint to go on from: the latest, or the one before if that is damaged.

    Raises:
        UserError: there is none, or both are damaged.
    """
    problems = []
    for path in (folder / LATEST, folder / _BEFORE):
        if not path.exists():
            continue
        try:
            content = load_plain(path)
            if {"epoch", "state_dict", "optimizer"} <= set(content):
                return content, path
            problems.append(f"{path.name} holds no training state")
        except Exception as error:  # what a damaged file raises knows no bounds
            problems.append(f"{path.name} is damaged ({type(error).__name__})")
    if problems:
        raise UserError(f"cannot resume in {folder}: {'; '.join(problems)}.")
    raise UserError(f"cannot resume: there is no {LATEST} in {folder}; start with TRAINING.RESUME False.")
