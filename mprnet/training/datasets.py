"""The training and validation data of a run: pairs of pictures, a data set of the task, or generated pictures."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from mprnet.data.folders import resolve_folder
from mprnet.data.paired import WholePairs
from mprnet.data.pairs import Pair
from mprnet.data.scenes import find_scene, split_by_scene
from mprnet.data.synthetic.degradations import make_degradations, split_names
from mprnet.data.synthetic.pairs import SyntheticPairs, load_picture_bank
from mprnet.errors import UserError
from mprnet.processors import available_processors
from mprnet.training.prepared import use_prepared_pictures
from mprnet.training.samples import TrainingSamples, ValidationPairs, find_pairs

GetData = Callable[[str | Path, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class RunData:
    """A run's data.

    Attributes:
        description: in words, for the metadata of the weights.
        split: how the data is split into training and validation. It is saved in checkpoints. So a resumed run never
            validates on pictures that it has trained on. Keys:

            - ``held_out``: names of the pairs that are held out of training;
            - ``scene``: the regular expression that found their scenes;
            - ``bank_seed``: the seed of the generated pictures.
        notes: sentences to print for the user.
    """

    training: TrainingSamples
    validation: ValidationPairs
    description: str
    split: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def reads_training_data(settings: CfgNode) -> bool:
    """True if a run reads its training data from a folder, False if it generates pictures.

    Raises:
        UserError: the settings name neither.
    """
    if settings.SYNTHETIC.DEGRADATION:
        return False
    if not settings.TRAINING.TRAIN_DIR:
        raise UserError("there is nothing to train on: set TRAINING.TRAIN_DIR, or SYNTHETIC.DEGRADATION.")
    return True


def make_data(
    settings: CfgNode,
    get_training_data: GetData,
    get_validation_data: GetData,
    split: Mapping[str, Any] | None = None,
) -> RunData:
    """Return the data that the settings describe.

    Args:
        get_training_data, get_validation_data: from the task's data_RGB.py.
        split: of the run to resume. None: a new run, or a checkpoint without a split.

    Raises:
        UserError: there is nothing to train on or to validate on, or the two cannot be kept apart.
    """
    t = settings.TRAINING
    saved_split = dict(split or {})
    if not reads_training_data(settings):
        return _make_synthetic_data(settings, saved_split)
    training = make_training_set(settings, get_training_data)
    notes: list[str] = []
    held_out: list[Pair] = []
    if t.HOLD_OUT:
        held_out, notes = _hold_out(training, settings, saved_split)
    elif count := len(saved_split.get("held_out", ())):
        notes = [f"from now on, this run also trains on the {count:,} pairs that it has held out so far"]
    if t.CACHE_DIR:
        notes.append(use_prepared_pictures(training, settings))
    validation = WholePairs(held_out, t.VAL_PS) if held_out else make_validation_set(settings, get_validation_data)
    return RunData(
        TrainingSamples(training, t.SEED),
        ValidationPairs(validation),
        f"pairs of {t.TRAIN_DIR}",
        saved_split | _make_split(held_out, saved_split, t),
        notes,
    )


def _make_split(held_out: Sequence[Pair], saved_split: Mapping[str, Any], training: CfgNode) -> dict[str, Any]:
    """Return the split to save in checkpoints. Pairs that were held out but are missing now stay in it."""
    names = {pair.name for pair in held_out} | set(saved_split.get("held_out", ()) if held_out else ())
    return {"held_out": sorted(names)} | ({"scene": saved_split.get("scene", training.SCENE)} if names else {})


def make_training_set(settings: CfgNode, get_training_data: GetData) -> Any:
    """Return what the task's ``get_training_data`` returns for these settings."""
    t = settings.TRAINING
    options = {
        "patch_size": t.TRAIN_PS,
        "seed": t.SEED,
        "saturation": settings.AUGMENT.SATURATION,
        "skip_broken": t.ON_BROKEN == "skip",
        **_pairing_options(t),
    }
    return get_training_data(resolve_folder(t.TRAIN_DIR, t.ELSE_IN), options)


def make_validation_set(settings: CfgNode, get_validation_data: GetData) -> Any:
    """Return what the task's ``get_validation_data`` returns for these settings.

    Raises:
        UserError: TRAINING.VAL_DIR is not set.
    """
    t = settings.TRAINING
    if not t.VAL_DIR:
        raise UserError("there is nothing to validate on: set TRAINING.VAL_DIR, or TRAINING.HOLD_OUT 0.05.")
    options = {"patch_size": t.VAL_PS, **_pairing_options(t)}
    return get_validation_data(resolve_folder(t.VAL_DIR, t.ELSE_IN), options)


def require_pairs(training: Any) -> Sequence[Pair]:
    """Return the pairs of files that a training set reads.

    Raises:
        UserError: it does not have them.
    """
    pairs = find_pairs(training)
    if pairs is None:
        raise UserError(
            "TRAINING.HOLD_OUT needs a data set with an attribute pairs, a list of mprnet.data.pairs.Pair, but "
            f"get_training_data of data_RGB.py returns an object of type {type(training).__name__} without it: set "
            "TRAINING.HOLD_OUT 0, and let get_validation_data return the pictures to validate on."
        )
    return pairs


def _pairing_options(training: CfgNode) -> dict[str, bool]:
    return {"by_order": training.PAIR_BY_ORDER, "many_to_one": training.PAIR_MANY_TO_ONE}


def _hold_out(training: Any, settings: CfgNode, saved_split: Mapping[str, Any]) -> tuple[list[Pair], list[str]]:
    """Remove the pairs to validate on from ``training``.

    Args:
        saved_split: of the run to resume; empty for a new run.

    Returns:
        The pairs, and notes for the user.
    """
    t = settings.TRAINING
    pairs = require_pairs(training)
    if saved_split.get("held_out") is None:
        training_pairs, held_out = split_by_scene(pairs, t.HOLD_OUT, t.SCENE, t.SEED)
        _set_pairs(training, training_pairs)
        return held_out, []
    if not saved_split["held_out"]:
        note = "this run has trained on all pairs, so TRAINING.HOLD_OUT cannot hold out any of them"
        if not t.VAL_DIR:
            raise UserError(f"{note}: set TRAINING.VAL_DIR, or start another run with another MODEL.SESSION.")
        return [], [f"{note}; the run is validated on TRAINING.VAL_DIR"]
    names = set(saved_split["held_out"])
    # All pairs of the held-out scenes are held out. So pairs that were added later do not mix the two sides.
    scene = saved_split.get("scene", t.SCENE)
    scenes = {find_scene(pair, scene) for pair in pairs if pair.name in names}
    targets = {pair.target for pair in pairs if find_scene(pair, scene) in scenes}
    held_out = [pair for pair in pairs if pair.target in targets]
    if not held_out:
        raise UserError(
            f"none of the {len(names):,} pairs that this run has held out is in {t.TRAIN_DIR}: set TRAINING.TRAIN_DIR "
            "to the folder that the run started with, or start another run with another MODEL.SESSION."
        )
    training_pairs = [pair for pair in pairs if pair.target not in targets]
    if not training_pairs:
        raise UserError(f"{t.TRAIN_DIR} holds only the pairs that this run validates on: there is nothing to train on.")
    _set_pairs(training, training_pairs)
    notes = []
    if missing := len(names - {pair.name for pair in held_out}):
        notes.append(f"of the {len(names):,} pairs held out, {missing:,} are not in {t.TRAIN_DIR} any more")
    if {pair.name for pair in held_out} != _new_run_held_out(pairs, t):
        notes.append(f"pairs held out: {len(held_out):,}, of the scenes that this run has held out from its start")
    return held_out, notes


def _set_pairs(training: Any, pairs: list[Pair]) -> None:
    """Make a training set read only these pairs.

    Raises:
        UserError: its length shows that it still reads others.
    """
    training.pairs = pairs
    if len(training) != len(pairs):
        raise UserError(
            f"TRAINING.HOLD_OUT sets the attribute pairs of the training data, but the length of "
            f"{type(training).__name__} does not follow it: read the items from pairs, or set TRAINING.HOLD_OUT 0."
        )


def _new_run_held_out(pairs: Sequence[Pair], training: CfgNode) -> set[str]:
    """Return the names of the pairs that a new run with these settings would hold out; none if it would fail."""
    try:
        return {pair.name for pair in split_by_scene(pairs, training.HOLD_OUT, training.SCENE, training.SEED)[1]}
    except UserError:
        return set()


def _make_synthetic_data(settings: CfgNode, saved_split: dict[str, Any]) -> RunData:
    c, t = settings.SYNTHETIC, settings.TRAINING
    low, high = c.SIGMA
    seed = int(saved_split.get("bank_seed", t.SEED))
    # One process of each machine generates the pictures, on all processors.
    workers = available_processors() if os.environ.get("LOCAL_RANK", "0") == "0" else 0
    bank = partial(load_picture_bank, Path(c.BANK_DIR), size=c.PICTURE_SIZE, workers=workers)
    training = SyntheticPairs(
        bank(seed=seed, count=c.PICTURES),
        make_degradations(c.DEGRADATION, (low, high)),
        c.SAMPLES_PER_EPOCH,
        t.TRAIN_PS,
        t.SEED,
    )
    # Validation pictures have another seed, so they are not among the training pictures.
    validation_bank = bank(seed=seed + 1, count=c.VAL_PICTURES)
    degraded = make_degradations(c.DEGRADATION, (c.VAL_SIGMA, c.VAL_SIGMA), untouched=False)
    pairs = SyntheticPairs(validation_bank, degraded, c.VAL_PICTURES, c.PICTURE_SIZE, seed + 1)
    description = f"generated pictures (dead leaves), {c.DEGRADATION.replace('_', ' ')}"
    if "noise" in split_names(c.DEGRADATION):
        description += f"; Gaussian noise of sigma {low:g} to {high:g}"
    note = f"the generated pictures are still those of seed {seed}, with which this run started"
    return RunData(
        TrainingSamples(training, t.SEED),
        ValidationPairs([(*pairs[0, index], f"sample_{index}") for index in range(len(pairs))]),
        description,
        saved_split | {"bank_seed": seed},
        [note] if seed != t.SEED else [],
    )
