"""What a training run is told: defaults, a YAML file, then overrides from the command line (yacs)."""

import contextlib
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from mprnet.errors import UserError


def defaults() -> CfgNode:
    """Every key there is, with the value it has when a YAML file is silent."""
    c = CfgNode()
    c.MODEL = CfgNode()
    c.MODEL.MODE = ""  # the task: part of the paths that are written
    c.MODEL.SESSION = "MPRNet"  # this run's name: likewise
    # The network's widths; 0 stands for the task's own (its MPRNet.py).
    c.MODEL.N_FEAT = 0
    c.MODEL.SCALE_UNETFEATS = 0
    c.MODEL.SCALE_ORSNETFEATS = 0
    c.MODEL.NUM_CAB = 0

    c.OPTIM = CfgNode()
    c.OPTIM.BATCH_SIZE = 16
    c.OPTIM.NUM_EPOCHS = 100
    c.OPTIM.LR_INITIAL = 2e-4
    c.OPTIM.LR_MIN = 1e-6
    c.OPTIM.BETA1 = 0.9
    c.OPTIM.WARMUP_EPOCHS = 3

    c.LOSS = CfgNode()
    c.LOSS.EDGE_WEIGHT = 0.05  # Equation 1

    c.TRAINING = CfgNode()
    c.TRAINING.VAL_AFTER_EVERY = 1  # epochs
    c.TRAINING.RESUME = False
    c.TRAINING.TRAIN_PS = 256  # height and width of the training patches
    c.TRAINING.SAVE_DIR = "./checkpoints"  # relative to the YAML file
    c.TRAINING.SEED = 1234
    c.TRAINING.PRECISION = "fp32"  # or bf16: autocast, the loss still in fp32
    c.TRAINING.COMPILE = False  # torch.compile: minutes at the start, faster steps after
    c.TRAINING.WORKERS = 2  # processes that draw pictures

    c.SYNTHETIC = CfgNode()  # generated training pictures (mprnet/data/synthetic)
    c.SYNTHETIC.BANK_DIR = "./Datasets/synthetic"  # relative to the YAML file
    c.SYNTHETIC.PICTURES = 2000
    c.SYNTHETIC.PICTURE_SIZE = 256
    c.SYNTHETIC.SAMPLES_PER_EPOCH = 4000
    c.SYNTHETIC.SIGMA = [0.0, 55.0]  # Gaussian noise, grey levels: uniform between the two
    c.SYNTHETIC.VAL_PICTURES = 16
    c.SYNTHETIC.VAL_SIGMA = 25.0
    return c


def load(path: Path, overrides: Sequence[str] = ()) -> CfgNode:
    """The settings of a run: ``path``'s over the defaults, ``overrides`` (KEY VALUE KEY VALUE ...) over both.

    Returns:
        A frozen node; paths in it are absolute.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value of the wrong type or out of its range.
    """
    settings = defaults()
    known = _flatten(settings)
    for key, value in _read_yaml(path).items():
        _put(settings, known, key, value, path.name)
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, but {overrides[-1]!r} stands alone.")
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        _put(settings, known, key, yaml.safe_load(text), "the command line")
    for key, (is_right, wanted) in _RANGES.items():
        value = _flatten(settings)[key]
        if not is_right(value):
            raise UserError(f"{key} is {value!r}, but must be {wanted}.")
    for section, key in (("TRAINING", "SAVE_DIR"), ("SYNTHETIC", "BANK_DIR")):
        settings[section][key] = str((path.parent / settings[section][key]).resolve())
    settings.freeze()
    return settings


_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "OPTIM.BATCH_SIZE": (lambda v: v >= 1, "at least 1"),
    "OPTIM.NUM_EPOCHS": (lambda v: v >= 1, "at least 1"),
    "OPTIM.LR_INITIAL": (lambda v: v > 0, "greater than 0"),
    "OPTIM.LR_MIN": (lambda v: v >= 0, "at least 0"),
    "OPTIM.BETA1": (lambda v: 0 <= v < 1, "at least 0 and less than 1"),
    "OPTIM.WARMUP_EPOCHS": (lambda v: v >= 0, "at least 0"),
    "LOSS.EDGE_WEIGHT": (lambda v: v >= 0, "at least 0"),
    "TRAINING.VAL_AFTER_EVERY": (lambda v: v >= 1, "at least 1"),
    "TRAINING.TRAIN_PS": (lambda v: v >= 8 and v % 8 == 0, "a positive multiple of 8"),
    "TRAINING.PRECISION": (lambda v: v in ("fp32", "bf16"), "fp32 or bf16"),
    "SYNTHETIC.PICTURES": (lambda v: v >= 1, "at least 1"),
    "SYNTHETIC.SAMPLES_PER_EPOCH": (lambda v: v >= 1, "at least 1"),
    "SYNTHETIC.SIGMA": (lambda v: len(v) == 2 and 0 <= v[0] <= v[1] <= 255, "two numbers, 0 <= low <= high <= 255"),
    "SYNTHETIC.VAL_PICTURES": (lambda v: v >= 1, "at least 1"),
}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the settings {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings: a YAML mapping such as 'OPTIM: {{BATCH_SIZE: 16}}' is needed.")
    return _flatten(content)


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _put(settings: CfgNode, known: dict[str, Any], key: str, value: Any, where: str) -> None:
    if key not in known:
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        raise UserError(f"{where} sets {key}, which is no setting; the nearest one is {nearest}.")
    default = known[key]
    if isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        # YAML 1.1 reads 2e-4 as text.
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(default, list) and isinstance(value, (list, tuple)):
        value = [type(default[0])(v) if isinstance(v, (int, float)) else v for v in value]
        fits = all(type(v) is type(default[0]) for v in value)
    else:
        fits = type(value) is type(default)
    if not fits:
        raise UserError(
            f"{where} sets {key} to {value!r}, but it takes a {type(default).__name__} such as {default!r}."
        )
    section, name = key.split(".")
    settings[section][name] = value
