"""Holding out whole scenes of the training pairs, to validate on."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mprnet.data.pairs import Pair
from mprnet.errors import UserError


def split_by_scene(pairs: Sequence[Pair], part: float, scene: str, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Hold out whole scenes that have about ``part`` of the pairs.

    Pairs that share a target are of one scene.

    Args:
        part: 0 to 1.
        scene: a regular expression that finds the scene in a pair's name, see ``find_scene``.
        seed: chooses the scenes.

    Returns:
        The pairs to train on and the pairs that are held out, each in the order of ``pairs``.

    Raises:
        UserError: ``scene`` does not match some name, or there is only one scene.
    """
    names = [find_scene(pair, scene) for pair in pairs]
    joined = _join_scenes(pairs, names)
    scenes = [joined[name] for name in names]
    counts = Counter(scenes)
    if len(counts) < 2:
        raise UserError(
            f"TRAINING.HOLD_OUT needs at least two scenes, but TRAINING.SCENE {scene!r} finds {len(counts)}."
        )
    held_out: set[str] = set()
    for name in np.random.default_rng(seed).permutation(sorted(counts))[:-1]:
        if sum(counts[each] for each in held_out) >= part * len(pairs):
            break
        held_out.add(str(name))
    train = [pair for pair, name in zip(pairs, scenes, strict=True) if name not in held_out]
    return train, [pair for pair, name in zip(pairs, scenes, strict=True) if name in held_out]


def find_scene(pair: Pair, scene: str) -> str:
    """Return the scene of a pair: the part of its name that ``scene`` matches.

    Args:
        scene: a regular expression that must match at the start of the name. If it has groups, the scene is the first
            group that matches.

    Raises:
        UserError: it does not match.
    """
    match = re.match(scene, pair.name)
    if match is None:
        raise UserError(f"TRAINING.SCENE {scene!r} does not match the name {pair.name}.")
    return next((group for group in match.groups() if group is not None), match.group())


def _join_scenes(pairs: Sequence[Pair], scenes: Sequence[str]) -> dict[str, str]:
    """Join scenes whose pairs share a target.

    Returns:
        For each scene, the name of the joined scene: one of the names of its scenes.
    """
    parents = {scene: scene for scene in scenes}  # a forest; each tree is a joined scene

    def root(scene: str) -> str:
        while parents[scene] != scene:
            scene = parents[scene]
        return scene

    first_scenes: dict[Path, str] = {}  # by target
    for pair, scene in zip(pairs, scenes, strict=True):
        parents[root(scene)] = root(first_scenes.setdefault(pair.target, scene))
    return {scene: root(scene) for scene in parents}
