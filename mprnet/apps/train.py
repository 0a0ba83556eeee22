"""Train a task's network: what a task's train.py starts."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from yacs.config import CfgNode

from mprnet.apps import command
from mprnet.apps.check import check_training
from mprnet.data.paired import PairedPictures, WholePairs, located, split_by_scene
from mprnet.data.synthetic.degradations import degradations, split_names
from mprnet.data.synthetic.pairs import SyntheticPairs, picture_bank
from mprnet.errors import UserError
from mprnet.files import locked, make_folder
from mprnet.inference.distributed import World, joined_world
from mprnet.model.network import MPRNet
from mprnet.model.weights import load_model
from mprnet.training import settings as training_settings
from mprnet.training.loading import free_workers
from mprnet.training.loop import Stopped, Trainer
from mprnet.training.state import LATEST

GetTraining = Callable[[str | Path, Mapping[str, Any]], PairedPictures]
GetValidation = Callable[[str | Path, Mapping[str, Any]], WholePairs]


@dataclass(frozen=True)
class _Data:
    training: Dataset[tuple[Tensor, Tensor, int]]
    names: Sequence[str]
    validation: Sequence[tuple[Tensor, Tensor, str]]
    described: str


def main(
    network: Callable[..., MPRNet], get_training_data: GetTraining, get_validation_data: GetValidation, folder: Path
) -> None:
    """Read the command line and train.

    Args:
        network: the task's MPRNet; widths that the settings name are passed to it.
        get_training_data, get_validation_data: the task's, from its data_RGB.py.
        folder: the task's, where its YAML files are.
    """
    command.run(partial(_train, network, get_training_data, get_validation_data, folder))


def _train(
    network: Callable[..., MPRNet], get_training_data: GetTraining, get_validation_data: GetValidation, folder: Path
) -> int:
    parser = argparse.ArgumentParser(description="Train MPRNet with the settings of a YAML file.")
    parser.add_argument("--config", type=Path, default=folder / "training.yml", help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="read all pairs, say what is wrong with them, and stop")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings, such as OPTIM.BATCH_SIZE 8")
    arguments = parser.parse_args()
    config: Path = arguments.config
    if not config.exists() and (folder / config).exists():
        config = folder / config  # a name of the task's own, from wherever one is
    settings = training_settings.load(config, arguments.overrides)
    if arguments.check:
        return check_training(settings)
    torch.manual_seed(settings.TRAINING.SEED)
    with joined_world(settings.GPU) as world:
        try:
            model = _model(network, settings)
            data = _data(settings, get_training_data, get_validation_data)
            run = Path(settings.TRAINING.SAVE_DIR) / settings.MODEL.MODE / "models" / settings.MODEL.SESSION
            make_folder(run)
            if any((run / name).exists() for name in (LATEST, "model_best.pth")) and not settings.TRAINING.RESUME:
                raise UserError(
                    f"{run} holds a run already: go on with it (TRAINING.RESUME True), or give this one another "
                    "MODEL.SESSION."
                )
            if world.is_main:
                _introduce(model, data, settings, world, run, folder.name)
            metadata = {"training_patch": str(settings.TRAINING.TRAIN_PS), "training_data": data.described}
            metadata |= {"task": settings.MODEL.MODE, "seed": str(settings.TRAINING.SEED)}
            workers = settings.TRAINING.WORKERS if settings.TRAINING.WORKERS >= 0 else free_workers()
            trainer = Trainer(
                model, data.training, data.names, data.validation, settings, run, metadata, world, workers
            )
            with world.held(locked(run)):
                trainer.run()
        except Stopped as stopped:
            if world.is_main:
                print(stopped)
            return 128 + (trainer.signal or 15)
    if world.is_main:
        best = run / "model_best.pth"
        print(f"done: {best if best.exists() else run}, best {trainer.progress.best:.3f} dB")
    return 0


def _model(network: Callable[..., MPRNet], settings: CfgNode) -> MPRNet:
    names = ("N_FEAT", "SCALE_UNETFEATS", "SCALE_ORSNETFEATS", "NUM_CAB")
    widths = {name.lower(): settings.MODEL[name] for name in names if settings.MODEL[name] >= 0}
    form = {name.lower(): settings.MODEL[name] for name in ("SUBNETWORKS", "SAM", "CSFF")}
    try:
        model = network(**widths, **form)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"MODEL describes no network that can be built: {str(error).splitlines()[0]}") from error
    if settings.TRAINING.INIT_WEIGHTS and not settings.TRAINING.RESUME:
        if not Path(settings.TRAINING.INIT_WEIGHTS).exists():
            raise UserError(
                f"there is no file of weights {settings.TRAINING.INIT_WEIGHTS}, which TRAINING.INIT_WEIGHTS starts "
                "from: train it first, name others, or say '' to start from random weights."
            )
        given = load_model(settings.TRAINING.INIT_WEIGHTS).state_dict()
        differences = [
            f"{key} of {list(given[key].shape) if key in given else 'none'} instead of {list(value.shape)}"
            for key, value in model.state_dict().items()
            if key not in given or given[key].shape != value.shape
        ]
        if differences or len(given) != len(model.state_dict()):
            raise UserError(
                f"{settings.TRAINING.INIT_WEIGHTS} holds another network than MODEL describes "
                f"({differences[0] if differences else 'one of more parts'}): set MODEL's keys to that network's, or "
                "TRAINING.INIT_WEIGHTS '' to start from random weights."
            )
        model.load_state_dict(given)
    return model


def _introduce(model: MPRNet, data: _Data, settings: CfgNode, world: World, run: Path, task: str) -> None:
    if settings.VERBOSE:
        print(model)
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{parameters:,} parameters on {world.size} x {world.device.type}, {len(data.names):,} samples an epoch, "
        f"{len(data.validation):,} to validate on; results go to {run}"
    )
    if world.size == 1 < len(settings.GPU) and world.device.type == "cuda":
        print(f"note: one process uses the first of GPU's {len(settings.GPU)}; torchrun starts one for each")
    if task != settings.MODEL.MODE:
        print(f"note: this trains {task}'s network, under MODEL.MODE's name, {settings.MODEL.MODE}")


def _data(settings: CfgNode, get_training_data: GetTraining, get_validation_data: GetValidation) -> _Data:
    t = settings.TRAINING
    if settings.SYNTHETIC.DEGRADATION:
        return _synthetic_data(settings)
    if not t.TRAIN_DIR:
        raise UserError("there is nothing to train on: set TRAINING.TRAIN_DIR, or SYNTHETIC.DEGRADATION.")
    pairing = {"by_order": t.PAIR_BY_ORDER} | ({"many_to_one": True} if t.PAIR_MANY_TO_ONE else {})
    options = {
        "patch_size": t.TRAIN_PS,
        "seed": t.SEED,
        "saturation": settings.AUGMENT.SATURATION,
        "skip_broken": t.ON_BROKEN == "skip",
        **pairing,
    }
    training = get_training_data(located(t.TRAIN_DIR, t.ELSE_IN), options)
    if t.HOLD_OUT:
        training.pairs, held = split_by_scene(training.pairs, t.HOLD_OUT, t.SCENE, t.SEED)
        validation = WholePairs(held, t.VAL_PS)
    else:
        if not t.VAL_DIR:
            raise UserError("there is nothing to validate on: set TRAINING.VAL_DIR, or TRAINING.HOLD_OUT 0.05.")
        validation = get_validation_data(located(t.VAL_DIR, t.ELSE_IN), {"patch_size": t.VAL_PS, **pairing})
    return _Data(training, [pair.name for pair in training.pairs], validation, f"pairs of {t.TRAIN_DIR}")


def _synthetic_data(settings: CfgNode) -> _Data:
    c, t = settings.SYNTHETIC, settings.TRAINING
    low, high = c.SIGMA
    # One process of each machine draws, with all cores.
    workers = torch.multiprocessing.cpu_count() if os.environ.get("LOCAL_RANK", "0") == "0" else 0
    bank = partial(picture_bank, Path(c.BANK_DIR), size=c.PICTURE_SIZE, workers=workers)
    pictures = bank(seed=t.SEED, count=c.PICTURES)
    degraded = degradations(c.DEGRADATION, (low, high))
    training = SyntheticPairs(pictures, degraded, c.SAMPLES_PER_EPOCH, t.TRAIN_PS, t.SEED)
    # Other pictures than the training's: another seed.
    unseen = bank(seed=t.SEED + 1, count=c.VAL_PICTURES)
    degraded = degradations(c.DEGRADATION, (c.VAL_SIGMA, c.VAL_SIGMA), untouched=False)
    pairs = SyntheticPairs(unseen, degraded, c.VAL_PICTURES, c.PICTURE_SIZE, t.SEED + 1)
    validation = [(*pairs[0, index][:2], f"sample_{index}") for index in range(len(pairs))]
    names = [f"sample {index}" for index in range(len(training))]
    kinds = c.DEGRADATION.replace("_", " ")
    described = f"generated pictures (dead leaves), {kinds}"
    if "noise" in split_names(c.DEGRADATION):
        described += f"; Gaussian noise of sigma {low:g} to {high:g}"
    return _Data(training, names, validation, described)
