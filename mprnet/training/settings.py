"""What a training run is told: defaults, a YAML file, then overrides from the command line (yacs)."""

import contextlib
import difflib
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from mprnet.data.synthetic.degradations import NAMES, split_names
from mprnet.errors import UserError


def defaults() -> CfgNode:
    """Every key there is, with the value it has when a YAML file is silent."""
    c = CfgNode()
    c.GPU = [-1]  # numbers of the GPUs to use in this process; [-1] takes the first there is, else the CPU
    c.VERBOSE = False  # print the network before training

    c.MODEL = CfgNode()
    c.MODEL.MODE = ""  # the task: part of the paths that are written
    c.MODEL.SESSION = "MPRNet"  # this run's name: likewise
    # The network's widths; 0 stands for the task's own (its MPRNet.py).
    c.MODEL.N_FEAT = 0
    c.MODEL.SCALE_UNETFEATS = 0
    c.MODEL.SCALE_ORSNETFEATS = 0
    c.MODEL.NUM_CAB = 0
    # The network's form (Table 6): each stage's subnetwork, unet or orsnet; supervised attention; cross-stage fusion.
    c.MODEL.SUBNETWORKS = ["unet", "unet", "orsnet"]
    c.MODEL.SAM = True
    c.MODEL.CSFF = True

    c.OPTIM = CfgNode()
    c.OPTIM.BATCH_SIZE = 16  # of all processes together
    c.OPTIM.NUM_EPOCHS = 100
    # Steps; if not 0, as many whole epochs are trained as reach it, whatever NUM_EPOCHS says.
    c.OPTIM.NUM_ITERATIONS = 0
    c.OPTIM.LR_INITIAL = 2e-4
    c.OPTIM.LR_MIN = 1e-6
    c.OPTIM.BETA1 = 0.9
    c.OPTIM.WEIGHT_DECAY = 0.0
    c.OPTIM.WARMUP_EPOCHS = 3
    c.OPTIM.COSINE_EXTRA_EPOCHS = 0  # the cosine's length beyond the training's end
    c.OPTIM.GRAD_CLIP = 0.0  # largest norm of the gradient; 0: not clipped
    c.OPTIM.ACCUMULATE = 1  # parts that a batch is computed in, one after the other
    c.OPTIM.EMA = 0.0  # decay of the weights' running average, which is then validated and kept; 0: none

    c.LOSS = CfgNode()
    c.LOSS.EDGE_WEIGHT = 0.05  # Equation 1
    c.LOSS.CLAMP = False  # clamp the outputs to [0, 1] first

    c.AUGMENT = CfgNode()
    c.AUGMENT.SATURATION = [1.0, 1.0]  # range of the saturation factor that a third of the samples get
    c.AUGMENT.MIXUP_FROM_EPOCH = 0  # 0: never
    c.AUGMENT.MIXUP_ALPHA = 0.6  # of the Beta distribution

    c.TRAINING = CfgNode()
    c.TRAINING.VAL_AFTER_EVERY = 1  # epochs
    c.TRAINING.VAL_TIMES = 1  # validations within each epoch that is validated, evenly spread
    # If not empty, validate in these epochs and, if VAL_ALL_FROM is not 0, in all from that one on, whatever
    # VAL_AFTER_EVERY says; and at the end.
    c.TRAINING.VAL_EPOCHS = []
    c.TRAINING.VAL_ALL_FROM = 0
    c.TRAINING.RESUME = False  # go on from model_latest.pth
    c.TRAINING.INIT_WEIGHTS = ""  # start from these weights, with a fresh optimizer
    c.TRAINING.TRAIN_PS = 256  # height and width of the training patches
    c.TRAINING.VAL_PS = 0  # centre crop for validation; 0: whole images
    c.TRAINING.TRAIN_DIR = ""  # a folder with input/ and target/
    c.TRAINING.VAL_DIR = ""
    c.TRAINING.ELSE_IN = ""  # a folder to look for TRAIN_DIR and VAL_DIR in, if they are not where they are said to be
    c.TRAINING.PAIRS = 0  # how many there are in the data sets as published, for --check; 0: not known
    c.TRAINING.VAL_PAIRS = 0
    c.TRAINING.HOLD_OUT = 0.0  # part of the training scenes to validate on, in the place of VAL_DIR
    c.TRAINING.SCENE = ".*"  # regular expression for what of a name (its first group, if any) tells the scene
    c.TRAINING.PAIR_BY_ORDER = False
    c.TRAINING.SAVE_DIR = "./checkpoints"
    c.TRAINING.SAVE_IMAGES = False  # write every validation result, not only the sheet
    c.TRAINING.SAVE_MINUTES = 15.0  # between checkpoints within an epoch
    c.TRAINING.SEED = 1234
    c.TRAINING.WORKERS = -1  # processes that read pictures; -1: as many as the machine has to spare
    c.TRAINING.ON_BROKEN = "stop"  # or skip: what to do about a picture that cannot be read
    c.TRAINING.MAX_BAD_STEPS = 25  # steps in a row whose loss or gradient is not finite, before the run stops
    c.TRAINING.PRECISION = "fp32"  # or bf16, fp16: autocast, the loss still in fp32
    c.TRAINING.COMPILE = False  # torch.compile: minutes at the start, faster steps after
    # When compiled: the part of the activations' memory that may be kept, the rest being recomputed, cheapest first.
    c.TRAINING.COMPILE_BUDGET = 0.9
    c.TRAINING.CHECKPOINTING = False  # recompute activations in the backward pass: less memory, a third more time

    c.SYNTHETIC = CfgNode()  # generated training pictures (mprnet/data/synthetic), for TRAIN_DIR and VAL_DIR
    # noise, camera_noise, rain or motion_blur, or several, comma-separated; empty: none are generated
    c.SYNTHETIC.DEGRADATION = ""
    c.SYNTHETIC.BANK_DIR = "./Datasets/synthetic"
    c.SYNTHETIC.PICTURES = 2000
    c.SYNTHETIC.PICTURE_SIZE = 256
    c.SYNTHETIC.SAMPLES_PER_EPOCH = 4000
    c.SYNTHETIC.SIGMA = [0.0, 55.0]  # Gaussian noise, grey levels: uniform between the two
    c.SYNTHETIC.VAL_PICTURES = 16
    c.SYNTHETIC.VAL_SIGMA = 25.0
    return c


_PATHS = (
    "SYNTHETIC.BANK_DIR",
    *(f"TRAINING.{k}" for k in ("TRAIN_DIR", "VAL_DIR", "ELSE_IN", "SAVE_DIR", "INIT_WEIGHTS")),
)
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
    known = _flatten(settings)
    for key in _PATHS:
        _put(settings, known, key, _absolute(known[key], path.parent), path.name)
    for file, content in _chain(path, ()):
        for key, value in content.items():
            if value is None and any(name.startswith(f"{key}.") for name in known):
                continue  # a section without a line
            value = _absolute(value, file.parent) if key in _PATHS else value
            _put(settings, known, key, value, file.name)
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, but {overrides[-1]!r} stands alone.")
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        # Text is taken as it is: a path may hold what means something in YAML.
        value = text if isinstance(known.get(key), str) else _parse(text, "the command line")
        value = _absolute(value, Path.cwd()) if key in _PATHS else value
        _put(settings, known, key, value, "the command line")
    for key, (is_right, wanted) in _RANGES.items():
        value = _flatten(settings)[key]
        if not is_right(value):
            raise UserError(f"{key} is {value!r}, but must be {wanted}.")
    if settings.OPTIM.LR_MIN > settings.OPTIM.LR_INITIAL:
        raise UserError("OPTIM.LR_MIN is greater than OPTIM.LR_INITIAL: the rate is to fall, not to rise.")
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


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


_AT_LEAST_1 = (lambda v: v >= 1, "at least 1")
_AT_LEAST_0 = (lambda v: v >= 0, "at least 0")
_WIDTH = (lambda v: 0 <= v <= 4096, "from 0 to 4096")
_PART = (lambda v: 0 <= v < 1, "at least 0 and less than 1")
_NAME = (lambda v: re.fullmatch(r"[^./\\][^/\\]{0,99}|", v) is not None, "a plain name, without folders")
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "MODEL.MODE": _NAME,
    "MODEL.SESSION": _NAME,
    "MODEL.N_FEAT": _WIDTH,
    "MODEL.SCALE_UNETFEATS": _WIDTH,
    "MODEL.SCALE_ORSNETFEATS": _WIDTH,
    "MODEL.NUM_CAB": _WIDTH,
    "MODEL.SUBNETWORKS": (
        lambda v: 1 <= len(v) <= 3 and set(v) <= {"unet", "orsnet"},
        "one to three of unet and orsnet",
    ),
    "OPTIM.BATCH_SIZE": _AT_LEAST_1,
    "OPTIM.NUM_EPOCHS": _AT_LEAST_1,
    "OPTIM.NUM_ITERATIONS": _AT_LEAST_0,
    "OPTIM.LR_INITIAL": (lambda v: v > 0, "greater than 0"),
    "OPTIM.LR_MIN": _AT_LEAST_0,
    "OPTIM.BETA1": _PART,
    "OPTIM.WEIGHT_DECAY": _AT_LEAST_0,
    "OPTIM.WARMUP_EPOCHS": _AT_LEAST_0,
    "OPTIM.COSINE_EXTRA_EPOCHS": _AT_LEAST_0,
    "OPTIM.GRAD_CLIP": _AT_LEAST_0,
    "OPTIM.ACCUMULATE": _AT_LEAST_1,
    "OPTIM.EMA": _PART,
    "LOSS.EDGE_WEIGHT": _AT_LEAST_0,
    "AUGMENT.SATURATION": (lambda v: len(v) == 2 and 0 <= v[0] <= v[1], "two numbers, 0 <= low <= high"),
    "AUGMENT.MIXUP_FROM_EPOCH": _AT_LEAST_0,
    "AUGMENT.MIXUP_ALPHA": (lambda v: v > 0, "greater than 0"),
    "TRAINING.VAL_AFTER_EVERY": _AT_LEAST_1,
    "TRAINING.VAL_TIMES": (lambda v: 1 <= v <= 1000, "from 1 to 1000"),
    "TRAINING.VAL_ALL_FROM": _AT_LEAST_0,
    "TRAINING.PAIRS": _AT_LEAST_0,
    "TRAINING.VAL_PAIRS": _AT_LEAST_0,
    "TRAINING.TRAIN_PS": (lambda v: 8 <= v <= 8192 and v % 8 == 0, "a multiple of 8 from 8 to 8192"),
    "TRAINING.SCENE": (_is_pattern, "a regular expression"),
    "TRAINING.VAL_PS": _AT_LEAST_0,
    "TRAINING.HOLD_OUT": _PART,
    "TRAINING.SAVE_MINUTES": _AT_LEAST_0,
    "TRAINING.SEED": (lambda v: 0 <= v < 2**63, "at least 0 and less than 2^63"),
    "TRAINING.WORKERS": (lambda v: v >= -1, "-1 or more"),
    "TRAINING.ON_BROKEN": (lambda v: v in ("stop", "skip"), "stop or skip"),
    "TRAINING.MAX_BAD_STEPS": _AT_LEAST_1,
    "TRAINING.COMPILE_BUDGET": (lambda v: 0 <= v <= 1, "from 0 to 1"),
    "TRAINING.PRECISION": (lambda v: v in ("fp32", "bf16", "fp16"), "fp32, bf16 or fp16"),
    "SYNTHETIC.DEGRADATION": (
        lambda v: v == "" or set(split_names(v)) <= set(NAMES),
        f"of {', '.join(NAMES)}, comma-separated, or empty",
    ),
    "SYNTHETIC.PICTURES": _AT_LEAST_1,
    "SYNTHETIC.PICTURE_SIZE": _AT_LEAST_1,
    "SYNTHETIC.VAL_SIGMA": (lambda v: 0 <= v <= 255, "from 0 to 255"),
    "SYNTHETIC.SAMPLES_PER_EPOCH": _AT_LEAST_1,
    "SYNTHETIC.SIGMA": (lambda v: len(v) == 2 and 0 <= v[0] <= v[1] <= 255, "two numbers, 0 <= low <= high <= 255"),
    "SYNTHETIC.VAL_PICTURES": _AT_LEAST_1,
}


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
        return _flatten(content)
    except RecursionError as error:
        raise UserError(f"{path} holds settings that contain themselves.") from error


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
