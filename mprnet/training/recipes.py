"""Which recipe a run's settings are: that of a task's training.yml, the released code's, or neither."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from mprnet.training.settings import flatten, load

PAPER, RELEASED = "training.yml", "training_released.yml"
# The settings that make a recipe; others say where the data is, how fast to compute and what to keep.
_SECTIONS = ("OPTIM.", "LOSS.", "AUGMENT.")
_OTHERS = ("TRAINING.TRAIN_PS",)
_SHOWN = 6


def which_recipe(settings: CfgNode, folder: Path) -> list[str]:
    """Return lines that say which recipe of a task the settings are, and in what they differ from the others.

    Args:
        folder: the task's, with training.yml and, if the released code trains otherwise than the paper, with
            training_released.yml.
    """
    own = _recipe(settings)
    same, others = "", []
    for name in (PAPER, RELEASED):
        if not (folder / name).exists():
            continue
        other = _recipe(load(folder / name))
        differing = [f"{key} {own[key]!r} instead of {other[key]!r}" for key in own if own[key] != other[key]]
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        if differing:
            others.append(f"  differs from {_title(name, folder)}: {', '.join(differing[:_SHOWN])}{more}")
        else:
            same = _title(name, folder)
    return [f"recipe: {same or 'your own'}", *others]


def _title(name: str, folder: Path) -> str:
    if not (folder / RELEASED).exists():
        return name
    return f"{name} ({'the paper' if name == PAPER else 'the released code'}'s)"


def _recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(settings).items() if key.startswith(_SECTIONS) or key in _OTHERS}
