"""What all programs that run a network share: which weights, and the options that say how."""

import argparse
import hashlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from mprnet import tasks
from mprnet.errors import UserError
from mprnet.inference.distributed import World
from mprnet.inference.precision import PRECISIONS
from mprnet.inference.restorer import Restorer
from mprnet.inference.tiling import SMALLEST
from mprnet.model.local_pooling import PATCHES
from mprnet.model.network import MPRNet

# Processes that share a folder meet at its end, and one may have far less to do than another.
TIMEOUT = timedelta(days=7)


def add_running(parser: argparse.ArgumentParser, precision: str) -> None:
    """The options that say how the network runs, which all programs share."""
    group = parser.add_argument_group("how the network runs (docs/inference.md)")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=precision,
        help=f"auto: bf16 where the machine is faster with it, else fp32; default: {precision}",
    )
    group.add_argument(
        "--tile",
        type=_tile,
        default="auto",
        metavar="auto|none|N",
        help="auto (default): in tiles where the memory is too small for the picture; N: in tiles of NxN pixels",
    )
    group.add_argument("--memory", type=_positive, metavar="GIB", help="to use at most; default: what is free")
    add_local_pooling(group)
    group.add_argument(
        "--ensemble", action="store_true", help="mean over the eight symmetries; takes eight times as long"
    )
    group.add_argument(
        "--compile", action="store_true", help="by torch.compile: minutes for every size of picture, then faster"
    )


def add_local_pooling(parser: argparse._ActionsContainer) -> None:
    """The options that say what channel attention pools over."""
    parser.add_argument(
        "--local_pooling",
        action="store_true",
        help="channel attention over windows of 1.5 training patches, not the whole picture: for deblurring",
    )
    parser.add_argument(
        "--training_patch",
        type=_patch,
        metavar="N",
        help="pixels of the training patches, for --local_pooling, which this implies; default: what the weights say",
    )


def _tile(text: str) -> int | str:
    if text in ("auto", "none"):
        return text
    if not text.isdecimal() or int(text) < SMALLEST:
        raise argparse.ArgumentTypeError(f"takes auto, none or a number from {SMALLEST} on, not {text}")
    return int(text)


def _patch(text: str) -> int:
    if not text.isdecimal() or int(text) not in PATCHES:
        raise argparse.ArgumentTypeError(f"takes a number from {PATCHES[0]} to {PATCHES[-1]}, not {text}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < 2**30:
        raise argparse.ArgumentTypeError(f"takes a number above 0, not {text}")
    return number


def load_network(folder: Path, weights: Path | None, grade: str | None = None) -> tuple[MPRNet, Path]:
    """Choose the weights of the task in ``folder``, print which, and load them.

    So nobody takes the results of the bundled weights for the paper's.

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
    """As the options of ``add_running``, and ``--device``, say; under torchrun on this process's device.

    Raises:
        UserError: options that do not go together, and as Restorer.
    """
    if world.size > 1 and a.device not in ("auto", world.device.type):
        raise UserError(f"torchrun gives each process its device, here {world.device}: leave --device {a.device} away.")
    if a.memory and a.tile != "auto":
        raise UserError("--memory is what --tile auto has to do with, and does not go with another --tile.")
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
    )
    if isinstance(a.tile, int) and restorer.tile != a.tile and world.is_main:
        print(f"tiles are of {restorer.tile} pixels: a multiple of 8, and no less than local pooling needs")
    return restorer


def described(a: argparse.Namespace, restorer: Restorer) -> dict[str, Any]:
    """How the network runs, as far as results depend on it."""
    return {
        "precision": restorer.precision,
        "tile": restorer.tile,
        "local_pooling": restorer.patch,
        "ensemble": a.ensemble,
        "compiled": a.compile,
    }


def add_weights(parser: argparse.ArgumentParser) -> None:
    """The options that say which weights to use."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="default: the published ones if they are there, else --grade lite"
    )
    group.add_argument("--grade", choices=tasks.GRADES, help="of the bundled weights: lite is quicker, plus is better")


def identity(weights: Path) -> dict[str, str]:
    """Which file it is, and its SHA-256."""
    return {"weights": weights.name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def _print(line: str) -> None:
    """Print a line, once for all processes of torchrun."""
    if os.environ.get("RANK", "0") == "0":
        print(line)
