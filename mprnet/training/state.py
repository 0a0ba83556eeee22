"""Checkpoint files of a run: writing them, and finding the one to resume from."""

import io
import os
import re
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
_EPOCH_FILE = re.compile(r"model_epoch_(\d+)\.pth")


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file (``Progress.make_checkpoint``), and its path."""

    content: dict[str, Any]
    path: Path


def save_latest(folder: Path, content: dict[str, Any], is_damaged: bool = False, is_best: bool = False) -> None:
    """Write the latest checkpoint. Keep the one that it replaces as a fallback, for the case that it gets damaged.

    After a crash, each file has its old content or its new one, never a part.

    Args:
        is_damaged: the existing latest checkpoint is damaged, so do not keep it. The existing fallback stays.
        is_best: these are the best weights too. They are written once, and both names are links to one file.

    Raises:
        UserError: a file cannot be written (no space, no permission). An existing file stays as it was.
    """
    data = _serialize(content)
    latest, best = folder / LATEST, folder / BEST
    # First the best: if the program is killed now, the run resumes before the validation that found it.
    if is_best:
        write_atomically(best, data)
    if latest.exists() and not is_damaged:
        _link(latest, folder / _PREVIOUS)
    if is_best:
        _link(best, latest)
    else:
        write_atomically(latest, data)


def save_epoch(folder: Path, content: dict[str, Any], keep: int = 0) -> None:
    """Write model_epoch_N.pth: the weights in the content of a checkpoint, without what training needs besides.

    Args:
        keep: remove all files of earlier epochs but the last ones, so that this number of files remains; 0: keep all.

    Raises:
        UserError: the file cannot be written.
    """
    weights = {key: content[key] for key in ("epoch", "state_dict", "metadata")}
    write_atomically(folder / f"model_epoch_{content['epoch']}.pth", _serialize(weights))
    if keep:
        epochs = {int(found[1]): path for path in folder.iterdir() if (found := _EPOCH_FILE.fullmatch(path.name))}
        earlier = sorted(epoch for epoch in epochs if epoch <= content["epoch"])
        for epoch in earlier[:-keep]:
            epochs[epoch].unlink(missing_ok=True)


def _serialize(content: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _link(source: Path, target: Path) -> None:
    """Make ``target`` a second name of the file ``source``. An existing ``target`` is replaced at once."""
    link = target.with_name(f".{target.name}.link")
    try:
        link.unlink(missing_ok=True)
        os.link(source, link)
        os.replace(link, target)
        link.unlink(missing_ok=True)  # replacing does nothing if both are names of one file already
    except OSError:  # not all file systems have links
        write_atomically(target, source.read_bytes())


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
