"""Decodes the training pictures once: train.py --prepare."""

import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from mprnet.data.cache import PictureCache
from mprnet.data.pairs import Pair
from mprnet.data.preparation_plan import Plan, plan_preparation, plan_tiles
from mprnet.data.preparing import prepare_pictures
from mprnet.errors import UserError
from mprnet.files import lock_folder, make_folder
from mprnet.training.datasets import GetData, make_training_set, reads_training_data
from mprnet.training.prepared import load_cache, require_pictures

_GIB = 2**30
_MARGIN = 2**26  # bytes of the disk to leave free


def prepare_training(settings: CfgNode, get_training_data: GetData) -> int:
    """Prepare the training pictures of ``settings``. Return the exit status: 1 if some of them cannot be read.

    Args:
        get_training_data: the task's function, from its data_RGB.py.

    Raises:
        UserError: there is nothing to prepare, no folder for it, or not enough space.
    """
    t = settings.TRAINING
    if not reads_training_data(settings):
        print("these settings train on generated pictures: there is nothing to prepare.")
        return 0
    if not t.CACHE_DIR:
        raise UserError("there is no folder for the prepared pictures: set TRAINING.CACHE_DIR.")
    # All pairs: which of them are held out can differ from run to run.
    pairs = require_pictures(make_training_set(settings, get_training_data)).pairs
    folder = Path(t.CACHE_DIR)
    make_folder(folder)
    with lock_folder(folder):
        cache = load_cache(settings)
        plan = _choose_plan(pairs, cache, t.CACHE_GIB)
        result = prepare_pictures(plan, cache)
    for problem in result.problems:
        print(f"{'skipped' if t.ON_BROKEN == 'skip' else 'error'}: {problem}", file=sys.stderr)
    prepared = len(plan.pictures) - len(result.problems)
    print(f"{prepared:,} pictures are prepared in {folder}; {result.decoded:,} of them were decoded now")
    if plan.left_out:
        print(f"{len(plan.left_out):,} more do not fit into TRAINING.CACHE_GIB {t.CACHE_GIB:g}: training decodes them")
    if not result.problems or t.ON_BROKEN == "skip":
        return 0
    print("see above for what to fix; with TRAINING.ON_BROKEN skip, training leaves these pairs out.", file=sys.stderr)
    return 1


def _choose_plan(pairs: Sequence[Pair], cache: PictureCache, most: float) -> Plan:
    """Return what to prepare, and print the space that it needs and the space that is free.

    All pictures as pixels if they fit; else all as compressed tiles if these fit; else the first pairs that fit into
    ``most``, in GiB, as pixels.

    Raises:
        UserError: the space on the disk is not enough.
    """
    free = shutil.disk_usage(cache.folder).free
    limit = round(most * _GIB)
    plan = pixels = plan_preparation(pairs, cache)
    is_over = 0 < limit < pixels.total
    if is_over or pixels.missing + _MARGIN > free:
        tiles = plan_tiles(pairs, cache)
        if (not limit or tiles.total <= limit) and tiles.missing + _MARGIN <= free:
            plan = tiles
        elif is_over:
            plan = plan_preparation(pairs, cache, limit)
    if plan.tiled:
        kept = f"{_to_gib(_MARGIN)} of them are kept free"
        bound = f"TRAINING.CACHE_GIB {most:g}" if is_over else f"fits into the {_to_gib(free)} that are free ({kept})"
        print(
            f"{_to_gib(pixels.total if is_over else pixels.missing)} as pixels, more than {bound}: stored as "
            f"compressed tiles, about {_to_gib(plan.total)}"
        )
    print(
        f"{len(plan.pictures):,} pictures take {_to_gib(plan.total)} in {cache.folder}; {_to_gib(plan.missing)} are to "
        f"be written, {_to_gib(free)} are free"
    )
    _check_space(plan, cache, free)
    return plan


def _check_space(plan: Plan, cache: PictureCache, free: int) -> None:
    """Check that the plan fits into the ``free`` bytes of the disk.

    Raises:
        UserError: it does not.
    """
    lacking = plan.missing + _MARGIN - free
    if lacking > 0:
        possible = math.floor(10 * (plan.total - lacking) / _GIB) / 10
        part = f", or prepare a part of the pictures (TRAINING.CACHE_GIB {possible:g})" if possible > 0 else ""
        raise UserError(
            f"{cache.folder}: {_to_gib(lacking)} of free space are missing for the prepared pictures: free them, name "
            f"a folder on another disk (TRAINING.CACHE_DIR){part}."
        )


def _to_gib(size: int) -> str:
    return f"{size / _GIB:,.2f} GiB"
