"""Train a task's network: what a task's train.py starts."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from mprnet.apps import command
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.data.synthetic.pairs import SyntheticPairs, picture_bank
from mprnet.model.network import MPRNet
from mprnet.training import settings as training_settings
from mprnet.training.loop import Trainer


def main(network: Callable[..., MPRNet], folder: Path) -> None:
    """Read the command line and train.

    Args:
        network: the task's MPRNet; widths that the settings name are passed to it.
        folder: the task's, where its YAML files are.
    """
    command.run(partial(_train, network, folder))


def _train(network: Callable[..., MPRNet], folder: Path) -> int:
    parser = argparse.ArgumentParser(description="Train MPRNet with the settings of a YAML file.")
    parser.add_argument("--config", type=Path, default=folder / "training_lite.yml", help="default: %(default)s")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings, such as OPTIM.BATCH_SIZE 8")
    arguments = parser.parse_args()
    settings = training_settings.load(arguments.config, arguments.overrides)
    torch.manual_seed(settings.TRAINING.SEED)

    names = ("N_FEAT", "SCALE_UNETFEATS", "SCALE_ORSNETFEATS", "NUM_CAB")
    model = network(**{name.lower(): settings.MODEL[name] for name in names if settings.MODEL[name]})
    training, validation = _synthetic_data(settings)
    run = Path(settings.TRAINING.SAVE_DIR) / settings.MODEL.MODE / "models" / settings.MODEL.SESSION
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {len(training):,} samples an epoch; results go to {run}")
    Trainer(model, training, validation, settings, run, _metadata(settings)).run()
    print(f"done: {run / 'model_best.pth'}")
    return 0


def _synthetic_data(settings: CfgNode) -> tuple[SyntheticPairs, list[tuple[Tensor, Tensor]]]:
    c, t = settings.SYNTHETIC, settings.TRAINING
    low, high = c.SIGMA

    def noise(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
        return gaussian_noise(rng, clean, rng.uniform(low, high))

    def validation_noise(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
        return gaussian_noise(rng, clean, c.VAL_SIGMA)

    bank = partial(picture_bank, Path(c.BANK_DIR), size=c.PICTURE_SIZE, workers=t.WORKERS)
    pictures = bank(seed=t.SEED, count=c.PICTURES)
    training = SyntheticPairs(pictures, noise, c.SAMPLES_PER_EPOCH, t.TRAIN_PS, t.SEED)
    # Other pictures than the training's: another seed.
    unseen = bank(seed=t.SEED + 1, count=c.VAL_PICTURES)
    pairs = SyntheticPairs(unseen, validation_noise, c.VAL_PICTURES, c.PICTURE_SIZE, t.SEED + 1)
    return training, [pairs[0, index] for index in range(len(pairs))]


def _metadata(settings: CfgNode) -> dict[str, str]:
    return {
        "training_patch": str(settings.TRAINING.TRAIN_PS),
        "training_data": f"dead leaves, Gaussian noise of sigma {settings.SYNTHETIC.SIGMA}",
        "seed": str(settings.TRAINING.SEED),
    }
