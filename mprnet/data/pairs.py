"""Pairing degraded pictures with targets: by name, or, if asked, by order or several to one target."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from natsort import natsorted

from mprnet.data.kinds import is_picture
from mprnet.data.names import INPUT_WORDS, TARGET_WORDS, fold_case, normalize, prefixes, remove_side_words
from mprnet.errors import UserError, name_some

Pairing = Literal["name", "order", "many_to_one"]
_MANY_TO_ONE = "TRAINING.PAIR_MANY_TO_ONE True (for test.py: --many_to_one)"


@dataclass(frozen=True)
class Pair:
    """Two pictures of one scene, and the name of the pair."""

    name: str
    input: Path
    target: Path


@dataclass(frozen=True)
class Matching:
    """Pairs in natural order of their names, and files without a partner (orphans).

    Attributes:
        shareable: how many of the orphans are inputs for which ``many_to_one`` finds a target.
    """

    pairs: list[Pair]
    orphans: list[Path]
    shareable: int = 0


def find_pictures(folder: Path) -> list[Path]:
    """Return the picture files in a folder, in natural order. Hidden files and subfolders are left out.

    Raises:
        UserError: the folder does not exist, or has no pictures.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}.")
    pictures = [path for path in _visible_files(folder) if is_picture(path)]
    if not pictures:
        raise UserError(f"{folder} holds no pictures.")
    return natsorted(pictures, key=lambda path: path.name)  # natsort compares in one Unicode form


def _visible_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]


def find_pair_folders(folder: Path) -> tuple[Path, Path]:
    """Return ``folder``/input and ``folder``/target.

    Raises:
        UserError: one of them is missing. The message shows the expected folders.
    """
    sides = folder / "input", folder / "target"
    for side in sides:
        if not side.is_dir():
            raise UserError(
                f"there is no folder {side}: pairs are expected as {folder}/input/NAME.png (degraded) and "
                f"{folder}/target/NAME.png."
            )
    return sides


def choose_pairing(by_order: bool, many_to_one: bool) -> Pairing:
    """Return the pairing for these two settings.

    Raises:
        UserError: both are True.
    """
    if by_order and many_to_one:
        raise UserError(
            "pictures are paired by order or many to one, not both: set TRAINING.PAIR_BY_ORDER or "
            "TRAINING.PAIR_MANY_TO_ONE to False."
        )
    return "order" if by_order else "many_to_one" if many_to_one else "name"


def match_pairs(inputs: Path, targets: Path, pairing: Pairing = "name") -> Matching:
    """Pair the pictures of two folders.

    Args:
        pairing: "name" pairs equal names, compared in the Unicode form NFC. There are four steps, and each pairs only
            what the earlier steps have left: whole names; names without suffix; also without the words that name the
            side of a pair (``INPUT_WORDS`` and ``TARGET_WORDS``); also without case. If several targets have the same
            name, an input gets the one with its own suffix.
            "many_to_one" does the same first. Then each remaining input gets the target whose name is the longest
            prefix of its own name that ends before a separator: 1_14 gets 1.
            "order" pairs the n-th picture of one folder with the n-th picture of the other, whatever their names are.

    Returns:
        The name of a pair is the name of its input without suffix, or with suffix if another input has the same name
        without it.

    Raises:
        UserError: a folder is missing or empty, a name is ambiguous, nothing matches, or ("order") the folders hold
            different numbers of pictures or other files.
    """
    left, right = find_pictures(inputs), find_pictures(targets)
    if pairing == "order":
        _check_order(inputs, targets, left, right)
        return Matching(_make_pairs(dict(zip(left, right, strict=True))), [])
    partners = _match_names(left, right)
    if pairing == "many_to_one":
        partners |= _match_prefixes([path for path in left if path not in partners], right)
    orphans = [path for path in left if path not in partners]
    shareable = _count_shareable(orphans, right) if pairing == "name" else 0
    if not partners:
        advice = f"set {_MANY_TO_ONE}" if shareable else "pair them by order (TRAINING.PAIR_BY_ORDER True)"
        raise UserError(
            f"no picture of {inputs} has the name of one of {targets} ({left[0].name}, ... and {right[0].name}, ...); "
            f"rename them, or {advice}."
        )
    matched = set(partners.values())
    orphans += [path for path in right if path not in matched]
    return Matching(_make_pairs({path: partners[path] for path in left if path in partners}), orphans, shareable)


def _check_order(inputs: Path, targets: Path, left: list[Path], right: list[Path]) -> None:
    """Raise UserError if the pictures ``left`` of ``inputs`` and ``right`` of ``targets`` cannot be paired by order."""
    if len(left) != len(right):
        raise UserError(
            f"{inputs} holds {len(left)} pictures and {targets} {len(right)}: to be paired by order, they have to "
            "hold the same number."
        )
    for path in (path for folder in (inputs, targets) for path in _visible_files(folder) if not is_picture(path)):
        raise UserError(
            f"{path} is of a type that cannot be read: to be paired by order, the folders must hold only pictures."
        )


def describe_orphans(matching: Matching) -> str:
    """Return a message: how many files have no partner, the first of them, and the setting that would pair them."""
    orphans = matching.orphans
    sentence = f"{len(orphans)} pictures have no partner and are left out: {name_some(orphans)}."
    return " ".join(filter(None, (sentence, advise_pairing(matching))))


def advise_pairing(matching: Matching) -> str:
    """Return a sentence about the setting that would pair some orphans; empty if there is no such setting."""
    if not matching.shareable:
        return ""
    return f"{_MANY_TO_ONE} pairs {matching.shareable} of the inputs, several with one target."


def _make_pairs(partners: dict[Path, Path]) -> list[Pair]:
    stems = Counter(path.stem for path in partners)
    return [Pair(path.stem if stems[path.stem] == 1 else path.name, path, target) for path, target in partners.items()]


def _match_names(left: list[Path], right: list[Path]) -> dict[Path, Path]:
    """Return the target in ``right`` for each input in ``left`` whose name matches; each target occurs only once."""
    partners: dict[Path, Path] = {}
    steps: tuple[_Keys, ...] = ((_whole_name, _whole_name), (_stem, _stem), *_WITHOUT_SIDE_WORDS)
    for input_key, target_key in steps:
        matched = set(partners.values())
        targets = _group_by_key((path for path in right if path not in matched), target_key)
        inputs: dict[Path, Path] = {}  # by target
        for path in left:
            name = input_key(path)
            if path in partners or name not in targets:
                continue
            target = _choose_target(targets[name], path, name)
            if target in inputs:
                raise _same_name_error(inputs[target], path, name)
            inputs[target] = path
        partners |= {path: target for target, path in inputs.items()}
    return partners


def _match_prefixes(left: list[Path], right: list[Path]) -> dict[Path, Path]:
    """Return the target in ``right`` for each input in ``left`` whose name has a target's name as a prefix."""
    partners: dict[Path, Path] = {}
    for input_key, target_key in _WITHOUT_SIDE_WORDS:
        targets = _group_by_key(right, target_key)
        for path in left:
            name = next((name for name in prefixes(input_key(path)) if name in targets), None)
            if name is not None and path not in partners:
                partners[path] = _choose_target(targets[name], path, name)
    return partners


def _count_shareable(left: list[Path], right: list[Path]) -> int:
    try:
        return len(_match_prefixes(left, right))
    except UserError:  # the names are ambiguous: the setting would not help
        return 0


def _group_by_key(paths: Iterable[Path], key: Callable[[Path], str]) -> dict[str, list[Path]]:
    """Return the files for each key. Files with an empty key are left out: their names only say their side."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        if name := key(path):
            groups.setdefault(name, []).append(path)
    return groups


def _choose_target(targets: list[Path], path: Path, name: str) -> Path:
    """Return the target of the input ``path`` among those called ``name``; if there are several, by its suffix."""
    if len(targets) == 1:
        return targets[0]
    same_suffix = [target for target in targets if target.suffix.lower() == path.suffix.lower()]
    if len(same_suffix) == 1:
        return same_suffix[0]
    first, second = (same_suffix or targets)[:2]
    raise _same_name_error(first, second, name)


def _whole_name(path: Path) -> str:
    return normalize(path.name)


def _stem(path: Path) -> str:
    return normalize(path.stem)


def _stem_without_words(path: Path, words: frozenset[str]) -> str:
    return remove_side_words(path.stem, words)


def _folded_stem_without_words(path: Path, words: frozenset[str]) -> str:
    return fold_case(remove_side_words(path.stem, words))


# What is compared: a function of the input's path, and one of the target's.
_Keys = tuple[Callable[[Path], str], Callable[[Path], str]]
_WITHOUT_SIDE_WORDS: tuple[_Keys, ...] = tuple(
    (partial(key, words=INPUT_WORDS), partial(key, words=TARGET_WORDS))
    for key in (_stem_without_words, _folded_stem_without_words)
)


def _same_name_error(first: Path, second: Path, name: str) -> UserError:
    return UserError(f"{first} and {second} have the same name ({name}): keep one of them.")
