"""What a run trains on and is validated on: pairs of pictures, a data set of the task's own, or generated pictures."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from mprnet.data.folders import resolve_folder
from mprnet.data.paired import WholePairs
from mprnet.data.pairs import Pair
from mprnet.data.scenes import find_scene, split_by_scene
from mprnet.data.synthetic.degradations import make_degradations, split_names
from mprnet.data.synthetic.pairs import SyntheticPairs, load_picture_bank
from mprnet.errors import UserError
from mprnet.training.samples import TrainingSamples, ValidationPairs, file_pairs

GetData = Callable[[str | Path, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class RunData:
    """A run's data.

    Attributes:
        described: in words, for the metadata of the weights.
        split: what keeps training and validation apart. A resumed run gets it back from its checkpoint, so that no
            picture that was trained on is ever validated on: ``held_out``, the names of the pairs that are not trained
            on, and ``scene``, how their scenes were told; ``bank_seed``, the seed that generated pictures are drawn
            from.
        notes: sentences that the run's owner should read.
    """

    training: TrainingSamples
    validation: ValidationPairs
    described: str
    split: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def make_data(
    settings: CfgNode,
    get_training_data: GetData,
    get_validation_data: GetData,
    split: Mapping[str, Any] | None = None,
) -> RunData:
    """Return the data that the settings describe.

    Args:
        get_training_data, get_validation_data: the task's, from its data_RGB.py.
        split: of the run that is resumed; None for a new run, or one whose checkpoint does not say.

    Raises:
        UserError: there is nothing to train on or to validate on, or the two cannot be kept apart.
    """
    t = settings.TRAINING
    earlier = dict(split or {})
    if settings.SYNTHETIC.DEGRADATION:
        return _generated(settings, earlier)
    if not t.TRAIN_DIR:
        raise UserError("there is nothing to train on: set TRAINING.TRAIN_DIR, or SYNTHETIC.DEGRADATION.")
    training = training_set(settings, get_training_data)
    notes: list[str] = []
    held: list[Pair] = []
    if t.HOLD_OUT:
        held, notes = _hold_out(training, settings, earlier)
    elif count := len(earlier.get("held_out", ())):
        notes = [f"the {count:,} pairs that this run has held out so far are trained on from now on"]
    validation = WholePairs(held, t.VAL_PS) if held else validation_set(settings, get_validation_data)
    return RunData(
        TrainingSamples(training, t.SEED),
        ValidationPairs(validation),
        f"pairs of {t.TRAIN_DIR}",
        earlier | _split_of(held, earlier, t),
        notes,
    )


def _split_of(held: Sequence[Pair], earlier: Mapping[str, Any], training: CfgNode) -> dict[str, Any]:
    """What a checkpoint says of the pairs held out. Those that are not there now have not been trained on either."""
    names = {pair.name for pair in held} | set(earlier.get("held_out", ()) if held else ())
    return {"held_out": sorted(names)} | ({"scene": earlier.get("scene", training.SCENE)} if names else {})


def training_set(settings: CfgNode, get_training_data: GetData) -> Any:
    """Return what the task's ``get_training_data`` gives for these settings."""
    t = settings.TRAINING
    options = {
        "patch_size": t.TRAIN_PS,
        "seed": t.SEED,
        "saturation": settings.AUGMENT.SATURATION,
        "skip_broken": t.ON_BROKEN == "skip",
        **_pairing(t),
    }
    return get_training_data(resolve_folder(t.TRAIN_DIR, t.ELSE_IN), options)


def validation_set(settings: CfgNode, get_validation_data: GetData) -> Any:
    """Return what the task's ``get_validation_data`` gives for these settings.

    Raises:
        UserError: TRAINING.VAL_DIR is not set.
    """
    t = settings.TRAINING
    if not t.VAL_DIR:
        raise UserError("there is nothing to validate on: set TRAINING.VAL_DIR, or TRAINING.HOLD_OUT 0.05.")
    options = {"patch_size": t.VAL_PS, **_pairing(t)}
    return get_validation_data(resolve_folder(t.VAL_DIR, t.ELSE_IN), options)


def pairs_of(training: Any) -> Sequence[Pair]:
    """Return the pairs of files that a training set reads.

    Raises:
        UserError: it does not say.
    """
    pairs = file_pairs(training)
    if pairs is None:
        raise UserError(
            "TRAINING.HOLD_OUT needs a data set with an attribute pairs, a list of mprnet.data.pairs.Pair, but "
            f"get_training_data of data_RGB.py returns an object of type {type(training).__name__} without: set "
            "TRAINING.HOLD_OUT 0 and let get_validation_data return the pictures to validate on."
        )
    return pairs


def _pairing(training: CfgNode) -> dict[str, bool]:
    return {"by_order": training.PAIR_BY_ORDER, "many_to_one": training.PAIR_MANY_TO_ONE}


def _hold_out(training: Any, settings: CfgNode, earlier: Mapping[str, Any]) -> tuple[list[Pair], list[str]]:
    """Take the pairs to validate on out of ``training``, and return them, and notes.

    Args:
        earlier: the split of the run that is resumed; empty for a new one.
    """
    t = settings.TRAINING
    pairs = pairs_of(training)
    if earlier.get("held_out") is None:
        kept, held = split_by_scene(pairs, t.HOLD_OUT, t.SCENE, t.SEED)
        _take_out(training, kept)
        return held, []
    if not earlier["held_out"]:
        note = "this run has trained on all pairs, so that TRAINING.HOLD_OUT has none left to validate on"
        if not t.VAL_DIR:
            raise UserError(f"{note}: set TRAINING.VAL_DIR, or begin another run with another MODEL.SESSION.")
        return [], [f"{note}; it is validated on TRAINING.VAL_DIR"]
    names = set(earlier["held_out"])
    scene = earlier.get("scene", t.SCENE)  # by which it was split: later pairs of a scene stay on its side
    scenes = {find_scene(pair, scene) for pair in pairs if pair.name in names}
    targets = {pair.target for pair in pairs if find_scene(pair, scene) in scenes}
    held = [pair for pair in pairs if pair.target in targets]
    if not held:
        raise UserError(
            f"none of the {len(names):,} pairs that this run has held out is in {t.TRAIN_DIR}: name the folder that it "
            "began with, or begin another run with another MODEL.SESSION."
        )
    kept = [pair for pair in pairs if pair.target not in targets]
    if not kept:
        raise UserError(f"{t.TRAIN_DIR} holds only the pairs that this run validates on: there is nothing to train on.")
    _take_out(training, kept)
    notes = []
    if missing := len(names - {pair.name for pair in held}):
        notes.append(f"of the {len(names):,} pairs held out, {missing:,} are not in {t.TRAIN_DIR} any more")
    if {pair.name for pair in held} != _names_to_hold_out(pairs, t):
        notes.append(f"pairs held out: {len(held):,}, of the scenes that this run has held out from its beginning")
    return held, notes


def _take_out(training: Any, kept: list[Pair]) -> None:
    """Let a training set read only these pairs.

    Raises:
        UserError: it reads others nevertheless.
    """
    training.pairs = kept
    if len(training) != len(kept):
        raise UserError(
            f"TRAINING.HOLD_OUT sets the attribute pairs of the training data, but the length of "
            f"{type(training).__name__} does not follow it: read the items from pairs, or set TRAINING.HOLD_OUT 0."
        )


def _names_to_hold_out(pairs: Sequence[Pair], training: CfgNode) -> set[str]:
    """What a new run with these settings (TRAINING) would hold out; nothing if it would be refused."""
    try:
        return {pair.name for pair in split_by_scene(pairs, training.HOLD_OUT, training.SCENE, training.SEED)[1]}
    except UserError:
        return set()


def _generated(settings: CfgNode, earlier: dict[str, Any]) -> RunData:
    c, t = settings.SYNTHETIC, settings.TRAINING
    low, high = c.SIGMA
    seed = int(earlier.get("bank_seed", t.SEED))
    # One process of each machine draws, with all cores.
    workers = torch.multiprocessing.cpu_count() if os.environ.get("LOCAL_RANK", "0") == "0" else 0
    bank = partial(load_picture_bank, Path(c.BANK_DIR), size=c.PICTURE_SIZE, workers=workers)
    training = SyntheticPairs(
        bank(seed=seed, count=c.PICTURES),
        make_degradations(c.DEGRADATION, (low, high)),
        c.SAMPLES_PER_EPOCH,
        t.TRAIN_PS,
        t.SEED,
    )
    # The pictures to validate on are others: of another seed.
    unseen = bank(seed=seed + 1, count=c.VAL_PICTURES)
    degraded = make_degradations(c.DEGRADATION, (c.VAL_SIGMA, c.VAL_SIGMA), untouched=False)
    pairs = SyntheticPairs(unseen, degraded, c.VAL_PICTURES, c.PICTURE_SIZE, seed + 1)
    described = f"generated pictures (dead leaves), {c.DEGRADATION.replace('_', ' ')}"
    if "noise" in split_names(c.DEGRADATION):
        described += f"; Gaussian noise of sigma {low:g} to {high:g}"
    note = f"the generated pictures stay those of seed {seed}, with which this run began"
    return RunData(
        TrainingSamples(training, t.SEED),
        ValidationPairs([(*pairs[0, index], f"sample_{index}") for index in range(len(pairs))]),
        described,
        earlier | {"bank_seed": seed},
        [note] if seed != t.SEED else [],
    )
