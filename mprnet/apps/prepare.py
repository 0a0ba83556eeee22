"""Decodes the training pictures once: train.py --prepare."""

import math
import shutil
import sys
from pathlib import Path

from yacs.config import CfgNode

from mprnet.data.cache import PictureCache
from mprnet.data.preparing import Plan, plan_preparation, prepare_pictures
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
        plan = plan_preparation(pairs, cache, round(t.CACHE_GIB * _GIB))
        _check_space(plan, cache)
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


def _check_space(plan: Plan, cache: PictureCache) -> None:
    """Print the space that the plan needs and the space that is free.

    Raises:
        UserError: it is not enough.
    """
    free = shutil.disk_usage(cache.folder).free
    print(
        f"{len(plan.pictures):,} pictures take {_to_gib(plan.total)} in {cache.folder}; {_to_gib(plan.missing)} are to "
        f"be written, {_to_gib(free)} are free"
    )
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
