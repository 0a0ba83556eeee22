"""Options of all programs that run a network: which weights to use, and how the network runs."""

import argparse
import hashlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from mprnet import tasks
from mprnet.data.png import LEVELS
from mprnet.errors import UserError
from mprnet.inference.distributed import World
from mprnet.inference.precision import PRECISIONS
from mprnet.inference.restorer import Restorer
from mprnet.inference.strength import check_strength
from mprnet.inference.tiling import SMALLEST
from mprnet.model.local_pooling import PATCHES
from mprnet.model.network import MPRNet

# Processes that share a folder wait for each other at its end, and one process can have much less work than another.
TIMEOUT = timedelta(days=7)


def add_running_options(parser: argparse.ArgumentParser, precision: str) -> None:
    """Add the options of how the network runs. ``precision`` is the default of --precision."""
    group = parser.add_argument_group("how the network runs (docs/inference.md)")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=precision,
        help=f"auto: bf16 if the machine is faster with it, else fp32; default: {precision}",
    )
    group.add_argument(
        "--tile",
        type=_parse_tile,
        default="auto",
        metavar="auto|none|N",
        help="auto (default): use tiles if the picture does not fit in memory; none: never; N: use tiles of NxN pixels",
    )
    group.add_argument(
        "--memory", type=parse_positive, metavar="GIB", help="the most memory to use; default: all that is free"
    )
    add_local_pooling_options(group)
    group.add_argument(
        "--ensemble", action="store_true", help="mean over the eight symmetries of the image; takes eight times as long"
    )
    group.add_argument(
        "--strength",
        type=_parse_strength,
        default=1.0,
        metavar="0..1",
        help="how much of the network's change is in the result: less keeps more of the original; default: 1",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="use torch.compile: it takes minutes for each size of pictures, and is faster afterwards",
    )


def add_local_pooling_options(parser: argparse._ActionsContainer) -> None:
    """Add the options of local pooling."""
    parser.add_argument(
        "--local_pooling",
        action="store_true",
        help="channel attention over windows of 1.5 training patches, not over the whole picture: for deblurring",
    )
    parser.add_argument(
        "--training_patch",
        type=_parse_patch,
        metavar="N",
        help="size of the training patches in pixels; turns on --local_pooling; default: what the weights state",
    )


def add_png_option(parser: argparse._ActionsContainer) -> None:
    """Add the option of how PNGs are compressed."""
    parser.add_argument(
        "--png_level",
        type=int,
        choices=LEVELS,
        metavar=f"{LEVELS[0]}..{LEVELS[-1]}",
        help="how hard PNGs are compressed: 9 takes ten times as long, for smaller files; default: fast",
    )


def _parse_tile(text: str) -> int | str:
    if text in ("auto", "none"):
        return text
    if not text.isdecimal() or int(text) < SMALLEST:
        raise argparse.ArgumentTypeError(f"takes auto, none or a number, {SMALLEST} or more, not {text}")
    return int(text)


def _parse_patch(text: str) -> int:
    if not text.isdecimal() or int(text) not in PATCHES:
        raise argparse.ArgumentTypeError(f"takes a number from {PATCHES[0]} to {PATCHES[-1]}, not {text}")
    return int(text)


def parse_positive(text: str) -> float:
    """Return the number of an option that takes a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < 2**30:
        raise argparse.ArgumentTypeError(f"takes a number above 0, not {text}")
    return number


def _parse_strength(text: str) -> float:
    try:
        return check_strength(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"takes a number from 0 to 1, not {text}") from error


def load_network(folder: Path, weights: Path | None, grade: str | None = None) -> tuple[MPRNet, Path]:
    """Choose the weights of the task in ``folder``, print the choice, and load them.

    The printed line shows whether results are those of the bundled weights or of the published ones.

    Returns:
        The network, and the path of its weights.

    Raises:
        UserError: as tasks.choose_weights and tasks.load_weights.
    """
    path, line = tasks.choose_weights(folder, weights, grade)
    _print(line)
    model, note = tasks.load_weights(path, folder)
    if note:
        _print(note)
    return model, path


def make_restorer(model: MPRNet, a: argparse.Namespace, world: World, stage: int | None) -> Restorer:
    """Return a Restorer with the options of ``add_running_options`` and ``--device``.

    Args:
        a: the command line.
        world: under torchrun, the Restorer is on the device of this process.
        stage: as for Restorer.

    Raises:
        UserError: options that do not go together; or as Restorer.
    """
    if world.size > 1 and a.device not in ("auto", world.device.type):
        raise UserError(f"torchrun gives each process its device, here {world.device}: remove --device {a.device}.")
    if a.memory and a.tile != "auto":
        raise UserError("--memory sets the limit for --tile auto: do not use it with another --tile.")
    restorer = Restorer(
        model,
        str(world.device) if world.size > 1 else a.device,
        a.precision,
        stage,
        a.tile,
        a.training_patch or a.local_pooling,
        a.ensemble,
        a.compile,
        int(a.memory * 2**30) if a.memory else None,
        a.strength,
    )
    if isinstance(a.tile, int) and restorer.tile != a.tile and world.is_main:
        print(f"the size of tiles is {restorer.tile} pixels: a multiple of 8, and large enough for local pooling")
    return restorer


def describe_running(a: argparse.Namespace, restorer: Restorer) -> dict[str, Any]:
    """Return the settings of the Restorer that results depend on. The strength is left out if it is 1."""
    settings = {
        "precision": restorer.precision,
        "tile": restorer.tile,
        "local_pooling": restorer.patch,
        "ensemble": a.ensemble,
        "compiled": a.compile,
    }
    return settings if restorer.strength == 1 else {**settings, "strength": restorer.strength}


def add_weights_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the weights."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="the weights to use; default: the published ones if they are there, else --grade plus",
    )
    group.add_argument(
        "--grade", choices=tasks.GRADES, help="the bundled weights to use: lite is faster, plus is mostly better"
    )


def identify_weights(weights: Path) -> dict[str, str]:
    """Return the file's name and its SHA-256."""
    return {"weights": weights.name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def _print(line: str) -> None:
    """Print a line. Under torchrun, only one process prints it."""
    if os.environ.get("RANK", "0") == "0":
        print(line)
