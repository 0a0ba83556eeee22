"""Reads the settings of a training run: defaults, then a YAML file, then the command line's overrides (yacs)."""

import contextlib
import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from mprnet.data.pairs import choose_pairing
from mprnet.errors import UserError, one_line
from mprnet.tasks import working_folder
from mprnet.training.keys import PATHS, RANGES, get_defaults

# In a YAML file, this key names another file, whose settings come first.
_BASE = "_BASE_"
# The only setting of two types: True, False or AUTO.
RESUME, AUTO = "TRAINING.RESUME", "auto"


def load(path: Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Return the settings of a run.

    Args:
        path: a YAML file. Its settings replace the defaults. It may name another file, ``_BASE_: FILE``, whose settings
            it replaces. Paths in a file are relative to that file.
        overrides: KEY VALUE KEY VALUE ... They replace the file's settings. Paths are relative to the working
            directory.

    Returns:
        A frozen node. Its paths are absolute. A path that is not set is empty.

    Raises:
        UserError: the file does not exist or is not YAML, a key is unknown, or a value has the wrong type or is out of
            its range.
    """
    settings = get_defaults()
    defaults = flatten(settings)
    for key in PATHS:
        _set_value(settings, defaults, key, _resolve_path(defaults[key], working_folder(path.parent)), path.name)
    for file, content in _read_with_bases(path, ()):
        for key, value in content.items():
            if value is None and any(name.startswith(f"{key}.") for name in defaults):
                continue  # an empty section
            value = _resolve_path(value, _choose_folder(key, value, file)) if key in PATHS else value
            _set_value(settings, defaults, key, value, file.name)
    if len(overrides) % 2:
        raise UserError(
            f"settings on the command line are KEY VALUE pairs, but {overrides[-1]!r} stands alone (to name a file, "
            "use --config FILE)."
        )
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        # A string is not parsed as YAML: a path may contain characters that have a meaning in YAML.
        value = text if isinstance(defaults.get(key), str) else _parse_yaml(text, "the command line")
        value = _resolve_path(value, Path.cwd()) if key in PATHS else value
        _set_value(settings, defaults, key, value, "the command line")
    for key, (is_valid, description) in RANGES.items():
        value = flatten(settings)[key]
        if not is_valid(value):
            raise UserError(f"{key} is {value!r}, but must be {description}.")
    if settings.OPTIM.LR_MIN > settings.OPTIM.LR_INITIAL:
        raise UserError("OPTIM.LR_MIN is greater than OPTIM.LR_INITIAL: the learning rate has to fall, not to rise.")
    choose_pairing(settings.TRAINING.PAIR_BY_ORDER, settings.TRAINING.PAIR_MANY_TO_ONE)  # raises if both are True
    settings.freeze()
    return settings


def _read_with_bases(path: Path, dependents: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """Return path and content of the file and of its bases. A later file replaces settings of an earlier one.

    Args:
        dependents: the files that led to this one by _BASE_.
    """
    path = path.resolve()
    if path in dependents:
        raise UserError(f"{path} is its own {_BASE}: {' <- '.join(p.name for p in (*dependents, path))}.")
    content = _read_yaml(path)
    base = content.pop(_BASE, None)
    if base is None:
        return [(path, content)]
    if not isinstance(base, str):
        raise UserError(f"{path.name} sets {_BASE} to {base!r}, but it takes the name of a YAML file.")
    return [*_read_with_bases(path.parent / base, (*dependents, path)), (path, content)]


def _choose_folder(key: str, value: Any, file: Path) -> Path:
    """Return the folder that a path in a file of settings is relative to.

    In an installed package, data and results are in the working folder, but bundled weights to start from are beside
    the settings.
    """
    is_bundled = key == "TRAINING.INIT_WEIGHTS" and isinstance(value, str) and (file.parent / value).is_file()
    return file.parent if is_bundled else working_folder(file.parent)


def _resolve_path(value: Any, folder: Path) -> Any:
    return str((folder / value).resolve()) if isinstance(value, str) and value else value


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{source} is not YAML: {one_line(error)}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the file's settings as ``flatten`` does."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read the settings {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a YAML file: {error}.") from error
    content = _parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings: a YAML mapping such as 'OPTIM: {{BATCH_SIZE: 16}}' is needed.")
    try:
        return flatten(content)
    except RecursionError as error:
        raise UserError(f"{path} holds settings that contain themselves.") from error


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each setting that has changed, except ``TRAINING.RESUME``.

    Args:
        before, now: as ``flatten`` returns them. Settings that only one of them has are ignored.
    """
    common = [key for key in now if key in before and key != RESUME]
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


def _set_value(settings: CfgNode, defaults: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Check a value's type, and put it into ``settings``.

    Args:
        defaults: all keys, with values of the right types.
        source: where the value is from, for the error message.
    """
    if key not in defaults:
        nearest = difflib.get_close_matches(key, defaults, n=1, cutoff=0.0)[0]
        raise UserError(f"{source} sets {key}, which is not a setting; the nearest one is {nearest}.")
    default = defaults[key]
    if key == RESUME:
        if not isinstance(value, bool) and value != AUTO:
            raise UserError(f"{source} sets {key} to {value!r}, but it takes True, False or {AUTO}.")
        default = value
    item_type = type(default[0]) if isinstance(default, list) and default else int
    if isinstance(default, float):
        value = _to_float(key, value)
    elif isinstance(default, list) and isinstance(value, (list, tuple)):
        value = [_to_float(key, v) if item_type is float else v for v in value]
    is_right_type = type(value) is type(default)
    if isinstance(default, list) and is_right_type:
        is_right_type = all(type(v) is item_type for v in value)
    if not is_right_type:
        type_name = type(default).__name__
        raise UserError(f"{source} sets {key} to {value!r}, but it takes a value like {default!r} ({type_name}).")
    *sections, name = key.split(".")
    node = settings
    for section in sections:
        node = node[section]
    node[name] = value


def _to_float(key: str, value: Any) -> Any:
    """Return an integer, or text that is a number, as a float; anything else unchanged. YAML 1.1 reads 2e-4 as text."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key} is {value}, but must be a finite number.")
    return value
