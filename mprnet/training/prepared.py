"""Training on prepared pictures (TRAINING.CACHE_DIR)."""

from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from mprnet.data.cache import PictureCache, pictures_of
from mprnet.data.folders import resolve_folder
from mprnet.data.paired import PairedPictures
from mprnet.errors import UserError


def load_cache(settings: CfgNode) -> PictureCache:
    """Return the cache of the training pictures.

    Raises:
        UserError: TRAINING.CACHE_DIR holds the pictures of another data set.
    """
    t = settings.TRAINING
    return PictureCache.load(Path(t.CACHE_DIR), resolve_folder(t.TRAIN_DIR, t.ELSE_IN).absolute())


def require_pictures(training: Any) -> PairedPictures:
    """Return a training set whose pictures can be prepared.

    Raises:
        UserError: it reads its files in a way of its own.
    """
    if not isinstance(training, PairedPictures):
        raise UserError(
            "TRAINING.CACHE_DIR needs a data set that reads its pairs of pictures with "
            "mprnet.data.paired.PairedPictures, but get_training_data of data_RGB.py returns an object of type "
            f"{type(training).__name__}: set TRAINING.CACHE_DIR ''."
        )
    return training


def use_prepared_pictures(training: Any, settings: CfgNode) -> str:
    """Make a training set read prepared pictures, and return a note for the user.

    Raises:
        UserError: some of the pictures are not prepared, or are not what they were when they were prepared; or as
            ``load_cache`` and ``require_pictures``.
    """
    pictures = require_pictures(training)
    cache = load_cache(settings)
    paths = pictures_of(pictures.pairs)
    if unprepared := cache.find_unprepared(paths):
        raise UserError(
            f"{len(unprepared):,} of the {len(paths):,} training pictures are not prepared in {cache.folder}, or have "
            f"changed since (the first: {unprepared[0]}): run train.py --prepare with the same settings, or set "
            "TRAINING.CACHE_DIR ''."
        )
    pictures.read_pair = cache.read_pair
    prepared = sum(path in cache.records and cache.records[path].width > 0 for path in paths)
    decoded = len(cache.left_out.intersection(paths))
    others = f"; {decoded:,} others are decoded (TRAINING.CACHE_GIB)" if decoded else ""
    form = ", as compressed tiles" if any(record.tiles for record in cache.records.values()) else ""
    return f"{prepared:,} pictures are read prepared from {cache.folder}{form}{others}"
