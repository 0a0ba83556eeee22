"""Which pairs show one scene, and how whole scenes are held out of training."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mprnet.data.pairs import Pair
from mprnet.errors import UserError


def split_by_scene(pairs: Sequence[Pair], part: float, scene: str, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Hold out whole scenes, about ``part`` of the pairs: (to train on, held out), each in the order given.

    Args:
        scene: regular expression; what it matches at the start of a pair's name, or its first group that matches, is
            the scene. Pairs that share a target are of one scene.

    Raises:
        UserError: it does not match some name, or there is but one scene.
    """
    scenes = [scene_of(pair, scene) for pair in pairs]
    joined = _joined_scenes(pairs, scenes)
    counts = Counter(joined[its_scene] for its_scene in scenes)
    if len(counts) < 2:
        raise UserError(
            f"TRAINING.HOLD_OUT needs two scenes at least, and TRAINING.SCENE {scene!r} finds {len(counts)}."
        )
    held: set[str] = set()
    for name in np.random.default_rng(seed).permutation(sorted(counts))[:-1]:
        if sum(counts[each] for each in held) >= part * len(pairs):
            break
        held.add(str(name))
    sides: tuple[list[Pair], list[Pair]] = [], []
    for pair, its_scene in zip(pairs, scenes, strict=True):
        sides[joined[its_scene] in held].append(pair)
    return sides


def scene_of(pair: Pair, scene: str) -> str:
    """Return the part of a pair's name that tells its scene: what ``scene`` matches, as in ``split_by_scene``.

    Raises:
        UserError: it does not match.
    """
    match = re.match(scene, pair.name)
    if match is None:
        raise UserError(f"TRAINING.SCENE {scene!r} does not match the name {pair.name}.")
    return next((group for group in match.groups() if group is not None), match.group())


def _joined_scenes(pairs: Sequence[Pair], scenes: Sequence[str]) -> dict[str, str]:
    """Each scene's name, or that of one that it is joined with because pairs of both share a target."""
    first_of = {scene: scene for scene in scenes}

    def root(scene: str) -> str:
        while first_of[scene] != scene:
            scene = first_of[scene]
        return scene

    of_target: dict[Path, str] = {}
    for pair, scene in zip(pairs, scenes, strict=True):
        first_of[root(scene)] = root(of_target.setdefault(pair.target, scene))
    return {scene: root(scene) for scene in first_of}
