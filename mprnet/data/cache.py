"""Prepared pictures: the pictures of a data set, decoded once, and read through memory maps."""

import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mprnet.data.limits import read_file
from mprnet.data.pairs import Pair
from mprnet.data.reading import check_sizes, read_rgb
from mprnet.data.tiles import Picture, TiledPicture
from mprnet.errors import NotPreparedError, UserError
from mprnet.files import write_atomically
from mprnet.processors import available_processors

# Change it when ``read_rgb`` returns other pixels, or the files of tiles change. At most 16 characters.
_DECODER = "mprnet 2"
_INDEX = "index.json"
_NAME = re.compile(r"([0-9a-f]{32})_([0-9]+)x([0-9]+)(?:\.rgb|_([0-9]+)\.tiles)")


@dataclass(frozen=True)
class Record:
    """A picture file when it was prepared.

    Attributes:
        size: of the file in bytes.
        modified: when the file was modified, in nanoseconds.
        digest: of the file's content, as ``digest_content`` returns it.
        width, height: of the picture in pixels; 0 if it could not be read.
        tiles: bytes of the file of compressed tiles; 0 if the picture is stored as pixels.
    """

    size: int
    modified: int
    digest: str
    width: int
    height: int
    tiles: int = 0

    @property
    def stored(self) -> int:
        """Return how many bytes the prepared picture takes."""
        return self.tiles or 3 * self.width * self.height


@dataclass
class PictureCache:
    """The prepared pictures of a data set.

    ``folder`` holds a file for each picture: its pixels, (H, W, 3) uint8, or compressed tiles of them. The file's name
    is the digest of the content of the source file, and so the file is never changed. The index says which source file
    has which digest.

    Attributes:
        folder: where the prepared pictures are.
        source: the folder of the data set. The index has paths relative to it, so the data set can be moved.
        records: for each picture that is prepared, or could not be read.
        left_out: pictures that are not prepared, because of a limit on the space.
    """

    folder: Path
    source: Path
    records: dict[Path, Record] = field(default_factory=dict)
    left_out: set[Path] = field(default_factory=set)

    @classmethod
    def load(cls, folder: Path, source: Path) -> "PictureCache":
        """Return the cache in ``folder``. If its index is missing or damaged, the cache is empty.

        Raises:
            UserError: the cache belongs to another data set.
        """
        try:
            index = json.loads((folder / _INDEX).read_bytes())
            records = {source / name: Record(*values) for name, values in index["pictures"].items()}
            left_out = {source / name for name in index["left_out"]}
            origin = Path(index["source"])
            if index["decoder"] != _DECODER:
                raise ValueError("the pictures were decoded by another version")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(folder, source)
        if origin != source and origin.exists():
            raise UserError(
                f"{folder} holds the prepared pictures of {origin}, not of {source}: name another folder "
                "(TRAINING.CACHE_DIR)."
            )
        return cls(folder, source, records, left_out)

    def save(self) -> None:
        """Write the index.

        Raises:
            UserError: it cannot be written.
        """
        index = {
            "decoder": _DECODER,
            "source": str(self.source),
            "pictures": {self._relative(path): list(vars(record).values()) for path, record in self.records.items()},
            "left_out": sorted(map(self._relative, self.left_out)),
        }
        write_atomically(self.folder / _INDEX, json.dumps(index, indent=0).encode())

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.source) if path.is_relative_to(self.source) else path)

    def file_of(self, record: Record) -> Path:
        """Return the path of a prepared picture."""
        return self.folder / _name_of(record)

    def is_prepared(self, path: Path) -> bool:
        """True if a picture is prepared, or could not be read, and its size and time are as they were then."""
        record = self.records.get(path)
        return record is not None and self._has_file(record) and _matches_status(path, record)

    def _has_file(self, record: Record) -> bool:
        if not record.width:
            return True
        try:
            return self.file_of(record).stat().st_size == record.stored
        except OSError:
            return False

    def find_unprepared(self, paths: Iterable[Path]) -> list[Path]:
        """Return the pictures that are not prepared as they are now: new or changed ones.

        A file with another time is read, and has not changed if its content is the same. Pictures in ``left_out`` are
        not returned.
        """
        suspects = [path for path in paths if path not in self.left_out and not self.is_prepared(path)]
        with ThreadPoolExecutor(available_processors()) as pool:
            results = pool.map(self._has_same_content, suspects)
            bar = tqdm(results, "comparing", len(suspects), unit="picture", leave=False, disable=None)
            return [path for path, is_same in zip(suspects, bar, strict=True) if not is_same]

    def _has_same_content(self, path: Path) -> bool:
        record = self.records.get(path)
        if record is None or not self._has_file(record):
            return False
        try:
            return path.stat().st_size == record.size and digest_content(read_file(path), path) == record.digest
        except (OSError, UserError):
            return False

    def read_pair(self, pair: Pair) -> tuple[Picture, Picture]:
        """Return the same as ``reading.read_pair``, as read-only memory maps; as ``TiledPicture`` if it is stored so.

        Pictures that are left out, or could not be read, are decoded.

        Raises:
            NotPreparedError: a prepared picture has been removed.
            UserError: as ``reading.read_pair``.
        """
        degraded, target = self._read(pair.input), self._read(pair.target)
        check_sizes(pair, degraded, target)
        return degraded, target

    def _read(self, path: Path) -> Picture:
        record = self.records.get(path)
        if record is None or not record.width:
            return read_rgb(path)
        file = os.path.join(self.folder, _name_of(record))  # much faster than a Path
        try:
            # A map keeps its file open. So there are no more than two at a time.
            with open(file, "rb") as opened:
                data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            if record.tiles:
                if len(data) != record.tiles:
                    raise ValueError("cut short")
                return TiledPicture(data, record.height, record.width, file)
            return np.frombuffer(data, np.uint8).reshape(record.height, record.width, 3)
        except (OSError, ValueError) as error:
            raise NotPreparedError(f"{file}: missing or cut short: run train.py --prepare again.") from error


def pictures_of(pairs: Sequence[Pair]) -> list[Path]:
    """Return the picture files of pairs in order, each of them once."""
    return list(dict.fromkeys(path for pair in pairs for path in (pair.input, pair.target)))


def digest_content(data: bytes, path: Path) -> str:
    """Return a digest of all that a picture's pixels depend on: the file's content, its suffix, and our decoder."""
    suffix = path.suffix.lower().encode(errors="surrogateescape")
    digest = hashlib.blake2b(suffix, digest_size=16, person=_DECODER.encode())
    digest.update(data)
    return digest.hexdigest()


def find_prepared_files(folder: Path, tiled: bool) -> dict[str, tuple[int, int, int]]:
    """Return digest, and width, height and tiles as in ``Record``, of the prepared pictures in ``folder``.

    Incomplete files are left out.

    Args:
        tiled: return those that are stored as tiles. False: as pixels.
    """
    found: dict[str, tuple[int, int, int]] = {}
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match and bool(match[4]) == tiled:
            width, height, tiles = int(match[2]), int(match[3]), int(match[4] or 0)
            if path.stat().st_size == (tiles or 3 * width * height):
                found[match[1]] = width, height, tiles
    return found


def remove_unused_files(cache: PictureCache) -> None:
    """Remove the prepared pictures in the cache's folder that are not in its index."""
    used = {_name_of(record) for record in cache.records.values()}
    for path in cache.folder.iterdir():
        if _NAME.fullmatch(path.name) and path.name not in used:
            path.unlink()


def _name_of(record: Record) -> str:
    return f"{record.digest}_{record.width}x{record.height}{f'_{record.tiles}.tiles' if record.tiles else '.rgb'}"


def _matches_status(path: Path, record: Record) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (record.size, record.modified)
