"""What a training run is told: defaults, a YAML file, then overrides from the command line (yacs)."""

import contextlib
import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from mprnet.data.pairs import choose_pairing
from mprnet.errors import UserError
from mprnet.training.keys import PATHS, RANGES, defaults

# In a YAML file: another one whose settings come first.
_BASE = "_BASE_"


def load(path: Path, overrides: Sequence[str] = ()) -> CfgNode:
    """The settings of a run: ``path``'s over the defaults, ``overrides`` (KEY VALUE KEY VALUE ...) over both.

    A file may begin with another one's settings, ``_BASE_: FILE``. Paths in a file are relative to that file, those in
    ``overrides`` to the working directory.

    Returns:
        A frozen node; paths in it are absolute, those not given empty.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value of the wrong type or out of its range.
    """
    settings = defaults()
    known = flatten(settings)
    for key in PATHS:
        _put(settings, known, key, _absolute(known[key], path.parent), path.name)
    for file, content in _chain(path, ()):
        for key, value in content.items():
            if value is None and any(name.startswith(f"{key}.") for name in known):
                continue  # a section without a line
            value = _absolute(value, file.parent) if key in PATHS else value
            _put(settings, known, key, value, file.name)
    if len(overrides) % 2:
        raise UserError(
            f"overrides come as KEY VALUE pairs, but {overrides[-1]!r} stands alone (a file is named by --config FILE)."
        )
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        # Text is taken as it is: a path may hold what means something in YAML.
        value = text if isinstance(known.get(key), str) else _parse(text, "the command line")
        value = _absolute(value, Path.cwd()) if key in PATHS else value
        _put(settings, known, key, value, "the command line")
    for key, (is_right, wanted) in RANGES.items():
        value = flatten(settings)[key]
        if not is_right(value):
            raise UserError(f"{key} is {value!r}, but must be {wanted}.")
    if settings.OPTIM.LR_MIN > settings.OPTIM.LR_INITIAL:
        raise UserError("OPTIM.LR_MIN is greater than OPTIM.LR_INITIAL: the rate is to fall, not to rise.")
    choose_pairing(settings.TRAINING.PAIR_BY_ORDER, settings.TRAINING.PAIR_MANY_TO_ONE)  # refuses both
    settings.freeze()
    return settings


def _chain(path: Path, above: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """The files that ``path`` begins with, and itself, in the order in which they count."""
    path = path.resolve()
    if path in above:
        raise UserError(f"{path} is its own {_BASE}: {' <- '.join(p.name for p in (*above, path))}.")
    content = _read_yaml(path)
    base = content.pop(_BASE, None)
    if base is None:
        return [(path, content)]
    if not isinstance(base, str):
        raise UserError(f"{path.name} sets {_BASE} to {base!r}, but it takes the name of a YAML file.")
    return [*_chain(path.parent / base, (*above, path)), (path, content)]


def _absolute(value: Any, folder: Path) -> Any:
    return str((folder / value).resolve()) if isinstance(value, str) and value else value


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read the settings {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a YAML file: {error}.") from error
    content = _parse(text, str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings: a YAML mapping such as 'OPTIM: {{BATCH_SIZE: 16}}' is needed.")
    try:
        return flatten(content)
    except RecursionError as error:
        raise UserError(f"{path} holds settings that contain themselves.") from error


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each setting that is not what it was; ``TRAINING.RESUME`` is left out.

    Args:
        before, now: as ``flatten`` gives them. Settings that only one of them knows are left out.
    """
    common = [key for key in now if key in before and key != "TRAINING.RESUME"]
    return [f"{key} is {now[key]!r} now, and was {before[key]!r}" for key in common if now[key] != before[key]]


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level: {"OPTIM.BATCH_SIZE": 16, ...}."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _put(settings: CfgNode, known: dict[str, Any], key: str, value: Any, where: str) -> None:
    if key not in known:
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        raise UserError(f"{where} sets {key}, which is no setting; the nearest one is {nearest}.")
    default = known[key]
    kind = type(default[0]) if isinstance(default, list) and default else int  # of a list's items
    if isinstance(default, float):
        value = _as_float(key, value)
    elif isinstance(default, list) and isinstance(value, (list, tuple)):
        value = [_as_float(key, v) if kind is float else v for v in value]
    fits = type(value) is type(default)
    if isinstance(default, list) and fits:
        fits = all(type(v) is kind for v in value)
    if not fits:
        wanted = type(default).__name__
        raise UserError(f"{where} sets {key} to {value!r}, but it takes a value like {default!r} ({wanted}).")
    *sections, name = key.split(".")
    node = settings
    for section in sections:
        node = node[section]
    node[name] = value


def _as_float(key: str, value: Any) -> Any:
    """A whole number or text that is a number (YAML 1.1 reads 2e-4 as text) as a float; anything else as it is."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key} is {value}, but must be a finite number.")
    return value
