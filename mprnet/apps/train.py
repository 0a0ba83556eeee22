"""Trains a task's network: the program behind a task's train.py."""

import argparse
import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from yacs.config import CfgNode

from mprnet.apps import command
from mprnet.apps.check import check_training
from mprnet.apps.prepare import prepare_training
from mprnet.errors import UserError
from mprnet.evaluation.protocols import load_protocols
from mprnet.files import lock_folder, make_folder
from mprnet.inference.distributed import World, distributed_world
from mprnet.model.ablations import AblationMPRNet, build_network
from mprnet.model.network import MPRNet
from mprnet.model.weights import full_metadata, load_model
from mprnet.training import settings as training_settings
from mprnet.training.datasets import GetData, RunData, make_data
from mprnet.training.loading import choose_workers
from mprnet.training.loop import Trainer
from mprnet.training.measures import MEASURES, RGB
from mprnet.training.order import ceil_divide
from mprnet.training.recipes import describe_recipe
from mprnet.training.shared_memory import fit_workers
from mprnet.training.state import BEST, LATEST, Checkpoint, has_checkpoint, load_latest
from mprnet.training.stopping import Stopped

# How long a process waits for another one. Only one of them may have to compile the network, to validate the largest
# pictures, to write a checkpoint, or to read from a disk that does not answer for some minutes. If another process is
# killed, a process does not wait: its connection is closed.
PATIENCE = timedelta(hours=1)


def main(
    network: Callable[..., MPRNet], get_training_data: GetData, get_validation_data: GetData, folder: Path
) -> None:
    """Read the command line and train.

    Args:
        network: the task's MPRNet. It gets the widths that the settings name.
        get_training_data, get_validation_data: the task's functions, from its data_RGB.py.
        folder: the task's folder, with its YAML files.
    """
    command.run(partial(_train, network, get_training_data, get_validation_data, folder))


def _train(
    network: Callable[..., MPRNet], get_training_data: GetData, get_validation_data: GetData, folder: Path
) -> int:
    a = _parse(folder)
    settings = training_settings.load(a.config, a.overrides)
    if a.check:
        return check_training(settings, get_training_data, get_validation_data)
    if a.prepare:
        return prepare_training(settings, get_training_data)
    torch.manual_seed(settings.TRAINING.SEED)
    with distributed_world(settings.GPU, PATIENCE) as world:
        try:
            run = Path(settings.TRAINING.SAVE_DIR) / settings.MODEL.MODE / "models" / settings.MODEL.SESSION
            with world.fail_together():
                resume = _choose_resume(settings, run)
                model = _make_model(network, settings, use_initial=not resume)
                make_folder(run)
            with world.enter_on_main(lock_folder(run)):
                checkpoint = _load_checkpoint(run, world, resume)
                split = checkpoint.content.get("split") if checkpoint else None
                data = make_data(settings, get_training_data, get_validation_data, split)
                if world.is_main:
                    _print_start(model, data, settings, world, run, folder)
                statements = {"training_patch": str(settings.TRAINING.TRAIN_PS), "training_data": data.description}
                statements |= {"task": settings.MODEL.MODE, "seed": str(settings.TRAINING.SEED)}
                metadata = full_metadata(model, statements)
                workers, measure = _choose_workers(data, settings, world), _find_measure(folder)
                trainer = Trainer(model, data, settings, run, metadata, world, workers, checkpoint, measure)
                trainer.run()
        except Stopped as stopped:
            if world.is_main:
                print(stopped)
            return 128 + (trainer.signals.number or 15)
    if world.is_main:
        best, progress = run / BEST, trainer.progress
        value = f"best {MEASURES[progress.best_by].title} {progress.best_psnr:.3f} dB"
        print(f"done: {best}, {value}" if best.exists() else f"done: {run}")
    return 0


def _parse(folder: Path) -> argparse.Namespace:
    """Read the command line, and find the file of settings."""
    parser = argparse.ArgumentParser(
        prog=command.subcommand, description="Train MPRNet with the settings of a YAML file."
    )
    parser.add_argument("--config", type=Path, default=folder / "training.yml", help="settings; default: %(default)s")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--check", action="store_true", help="read all pairs, say what is wrong with them, and stop")
    modes.add_argument(
        "--prepare", action="store_true", help="decode the training pictures once, into TRAINING.CACHE_DIR, and stop"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings, such as OPTIM.BATCH_SIZE 8")
    a = parser.parse_intermixed_args()  # options may stand between the settings
    if not a.config.exists() and (folder / a.config).exists():
        a.config = folder / a.config  # a file of the task, named from another folder
    return a


def _choose_resume(settings: CfgNode, run: Path) -> bool:
    """Return whether to resume the run in the folder ``run``.

    Raises:
        UserError: a new run would overwrite it.
    """
    resume = settings.TRAINING.RESUME
    if resume == training_settings.AUTO:
        resume = has_checkpoint(run)
    if any((run / name).exists() for name in (LATEST, BEST)) and not resume:
        raise UserError(
            f"{run} already holds a run: continue it (TRAINING.RESUME True), or choose another MODEL.SESSION "
            "for this one."
        )
    return resume


def _choose_workers(data: RunData, settings: CfgNode, world: World) -> int:
    """Return how many worker processes read pictures. If fewer than wanted have space, add a note to ``data``."""
    wanted = settings.TRAINING.WORKERS if settings.TRAINING.WORKERS >= 0 else choose_workers()
    samples = ceil_divide(settings.OPTIM.BATCH_SIZE, world.size)
    batch_bytes = samples * data.training.count_bytes(settings.TRAINING.TRAIN_PS)
    # Within an epoch, the validation's workers read beside those of the training.
    workers, note = fit_workers(wanted, batch_bytes + data.validation.count_bytes())
    data.notes.extend([note] if note else [])
    return workers


def _load_checkpoint(run: Path, world: World, resume: bool) -> Checkpoint | None:
    """Return the checkpoint to resume from; None for a new run.

    Raises:
        UserError: on every rank, if it cannot be loaded on one, or is not the same on all.
    """
    with world.fail_together():
        checkpoint = load_latest(run) if resume else None
    steps = -1
    if checkpoint is not None:
        steps = checkpoint.content.get("steps_before", 0) + checkpoint.content.get("steps_done", 0)
    with world.fail_together():
        if world.all_reduce(steps)[0] != world.size * steps:
            raise UserError(
                f"not all processes of this run find the same checkpoint in {run}: TRAINING.SAVE_DIR has to be a "
                "folder that all machines share."
            )
    return checkpoint


def _find_measure(folder: Path) -> str:
    """Return the task's own measure, from its benchmarks.yml; RGB PSNR without this file."""
    path = folder / "benchmarks.yml"
    return load_protocols(path).measure if path.exists() else RGB


def _make_model(network: Callable[..., MPRNet], settings: CfgNode, use_initial: bool) -> MPRNet:
    names = ("N_FEAT", "SCALE_UNETFEATS", "SCALE_ORSNETFEATS", "NUM_CAB")
    widths = {name.lower(): settings.MODEL[name] for name in names if settings.MODEL[name] >= 0}
    form = {name.lower(): settings.MODEL[name] for name in ("SUBNETWORKS", "SAM", "CSFF")}
    try:
        with torch.device("meta"):
            config = network(**widths).config
        model = build_network({**config, **form}, network, AblationMPRNet)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"the network that MODEL describes cannot be built: {str(error).splitlines()[0]}") from error
    if settings.TRAINING.INIT_WEIGHTS and use_initial:
        if not Path(settings.TRAINING.INIT_WEIGHTS).is_file():
            raise UserError(
                f"there is no file of weights {settings.TRAINING.INIT_WEIGHTS}, which TRAINING.INIT_WEIGHTS names: "
                "train it first, name another file, or set '' to start from random weights."
            )
        initial = load_model(settings.TRAINING.INIT_WEIGHTS).state_dict()
        differences = [
            f"{key} of {list(initial[key].shape) if key in initial else 'none'} instead of {list(value.shape)}"
            for key, value in model.state_dict().items()
            if key not in initial or initial[key].shape != value.shape
        ]
        if differences or len(initial) != len(model.state_dict()):
            raise UserError(
                f"{settings.TRAINING.INIT_WEIGHTS} holds another network than MODEL describes "
                f"({differences[0] if differences else 'it has more parts'}): set MODEL's keys as for that network, or "
                "TRAINING.INIT_WEIGHTS '' to start from random weights."
            )
        model.load_state_dict(initial)
    return model


def _print_start(model: MPRNet, data: RunData, settings: CfgNode, world: World, run: Path, folder: Path) -> None:
    if settings.VERBOSE:
        print(model)
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{parameters:,} parameters on {world.size} x {world.device.type}, {len(data.training):,} samples an epoch, "
        f"{len(data.validation):,} to validate on; results go to {run}"
    )
    if world.size == 1 < len(settings.GPU) and world.device.type == "cuda":
        print(f"note: one process uses only the first GPU of {len(settings.GPU)}; torchrun starts a process for each")
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ.get("TORCHELASTIC_MAX_RESTARTS") != "0":
        # https://github.com/pytorch/pytorch/issues/135712
        print("note: torchrun can restart the run only if TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is set for torchrun")
    if folder.name != settings.MODEL.MODE:
        print(f"note: this trains {folder.name}'s network under another name, {settings.MODEL.MODE} (MODEL.MODE)")
    if not settings.SYNTHETIC.DEGRADATION:
        print("\n".join(describe_recipe(settings, folder)))
