"""Which degraded picture belongs to which target: by name, by order only when asked."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from natsort import natsorted

from mprnet.data.photos import SUFFIXES
from mprnet.errors import UserError

# Words that tell the two sides of a pair apart in the names that data sets use: 0001_GT_SRGB_010 and
# 0001_NOISY_SRGB_010, norain-1 and rain-1, blur_3 and gt_3.
_SIDES = frozenset(("input", "degraded", "noisy", "noise", "blur", "blurred", "blurry", "rain", "rainy", "lq", "lr"))
_SIDES |= frozenset(("target", "gt", "groundtruth", "clean", "sharp", "norain", "norainy", "hq", "hr"))
_SHOWN = 3


@dataclass(frozen=True)
class Pair:
    """Two pictures of one scene, and the name they go by."""

    name: str
    input: Path
    target: Path


@dataclass(frozen=True)
class Matching:
    """Pairs in natural order of their names, and the files that found no partner."""

    pairs: list[Pair]
    orphans: list[Path]


def pictures(folder: Path) -> list[Path]:
    """The picture files of a folder (not of the folders within it), in natural order.

    Raises:
        UserError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}.")
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()]
    if not found:
        raise UserError(f"{folder} holds no pictures.")
    return natsorted(found, key=lambda path: path.name)


def side_folders(folder: Path) -> tuple[Path, Path]:
    """``folder``/input and ``folder``/target.

    Raises:
        UserError: one of them is not there (the sentence shows what is expected).
    """
    sides = folder / "input", folder / "target"
    for side in sides:
        if not side.is_dir():
            raise UserError(
                f"there is no folder {side}: pairs are expected as {folder}/input/NAME.png (degraded) and "
                f"{folder}/target/NAME.png."
            )
    return sides


def match_pairs(inputs: Path, targets: Path, by_order: bool = False) -> Matching:
    """Match the pictures of two folders.

    Names without suffix are compared, first as they are, then without the words that tell the sides apart. With
    ``by_order`` the n-th picture of one folder belongs to the n-th of the other, whatever they are called.

    Raises:
        UserError: a folder is missing or empty, a name is ambiguous, nothing matches, or (``by_order``) the folders
            differ in length.
    """
    left, right = pictures(inputs), pictures(targets)
    if by_order:
        if len(left) != len(right):
            raise UserError(f"{inputs} holds {len(left)} pictures and {targets} {len(right)}: no pairing by order.")
        return Matching([Pair(a.stem, a, b) for a, b in zip(left, right, strict=True)], [])
    partners = _join(left, right, lambda path: path.stem)
    rest_left = [path for path in left if path not in partners]
    taken = set(partners.values())
    rest_right = [path for path in right if path not in taken]
    # A name that says nothing but its side, such as blur.png, belongs to none.
    named_left, named_right = ([path for path in rest if _sideless(path)] for rest in (rest_left, rest_right))
    partners |= _join(named_left, named_right, _sideless)
    taken = set(partners.values())
    orphans = [path for path in left if path not in partners] + [path for path in right if path not in taken]
    if not partners:
        raise UserError(
            f"no picture of {inputs} has the name of one of {targets} ({left[0].name}, ... and {right[0].name}, ...); "
            "rename them, or pair them by order."
        )
    return Matching([Pair(path.stem, path, partners[path]) for path in left if path in partners], orphans)


def orphans_sentence(orphans: list[Path]) -> str:
    """How many files found no partner, and the first few of them."""
    shown = ", ".join(str(path) for path in orphans[:_SHOWN])
    more = f" and {len(orphans) - _SHOWN} more" if len(orphans) > _SHOWN else ""
    return f"{len(orphans)} pictures have no partner and are left out: {shown}{more}."


def _join(left: list[Path], right: list[Path], key: Callable[[Path], str]) -> dict[Path, Path]:
    """Partners of ``left``'s files among ``right``'s: those with the same key."""
    by_key: dict[str, Path] = {}
    for path in right:
        _claim(by_key, key(path), path)
    seen: dict[str, Path] = {}
    for path in left:
        _claim(seen, key(path), path)
    return {path: by_key[name] for name, path in seen.items() if name in by_key}


def _claim(names: dict[str, Path], name: str, path: Path) -> None:
    if name in names:
        raise UserError(f"{names[name]} and {path} go by the same name ({name}): keep one of them.")
    names[name] = path


def _sideless(path: Path) -> str:
    words = re.findall(r"[^\W\d_]+|\d+", path.stem)
    return "-".join(word for word in (w.lower() for w in words) if word not in _SIDES)
