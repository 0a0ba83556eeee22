"""Compares a run's settings with the recipes of its task: training.yml and training_released.yml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from mprnet.errors import name_some
from mprnet.training.settings import flatten, load

PAPER, RELEASED = "training.yml", "training_released.yml"
# These settings make a recipe. The others choose the data, the speed and the files that are written.
_RECIPE_SECTIONS = ("OPTIM.", "LOSS.", "AUGMENT.")
_RECIPE_KEYS = ("TRAINING.TRAIN_PS",)
_MAX_SHOWN = 6


def describe_recipe(settings: CfgNode, folder: Path) -> list[str]:
    """Return lines that say which recipe of the task the settings are, and how they differ from the others.

    Args:
        folder: the task's folder, with training.yml. It has training_released.yml if the released code's recipe is not
            the paper's.
    """
    own = _select_recipe(settings)
    matching, differences = "", []
    for name in (PAPER, RELEASED):
        if not (folder / name).exists():
            continue
        other = _select_recipe(load(folder / name))
        differing = [f"{key} {own[key]!r} instead of {other[key]!r}" for key in own if own[key] != other[key]]
        if differing:
            differences.append(f"  differs from {_title(name, folder)}: {name_some(differing, _MAX_SHOWN)}")
        else:
            matching = _title(name, folder)
    return [f"recipe: {matching or 'your own'}", *differences]


def _title(name: str, folder: Path) -> str:
    if not (folder / RELEASED).exists():
        return name
    return f"{name} ({'the paper' if name == PAPER else 'the released code'}'s)"


def _select_recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that make a recipe."""
    return {
        key: value
        for key, value in flatten(settings).items()
        if key.startswith(_RECIPE_SECTIONS) or key in _RECIPE_KEYS
    }
