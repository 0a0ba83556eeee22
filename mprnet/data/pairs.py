"""Which degraded picture belongs to which target: by name; by order, or several to one, only when asked."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from natsort import natsorted

from mprnet.data.names import INPUT_WORDS, TARGET_WORDS, beginnings, caseless, composed, sideless
from mprnet.data.photos import SUFFIXES
from mprnet.errors import UserError

Pairing = Literal["name", "order", "many_to_one"]
_SHOWN = 3
_MANY_TO_ONE = "TRAINING.PAIR_MANY_TO_ONE True (for test.py: --many_to_one)"


@dataclass(frozen=True)
class Pair:
    """Two pictures of one scene, and the name they go by."""

    name: str
    input: Path
    target: Path


@dataclass(frozen=True)
class Matching:
    """Pairs in natural order of their names, and the files that found no partner.

    Attributes:
        shareable: how many of the orphans are inputs that ``many_to_one`` would pair.
    """

    pairs: list[Pair]
    orphans: list[Path]
    shareable: int = 0


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
    return natsorted(found, key=lambda path: path.name)  # natsort compares in one Unicode form


def _other_files(folder: Path) -> list[Path]:
    return [
        p for p in folder.iterdir() if p.suffix.lower() not in SUFFIXES and not p.name.startswith(".") and p.is_file()
    ]


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


def pairing_of(by_order: bool, many_to_one: bool) -> Pairing:
    """The pairing that these two settings ask for.

    Raises:
        UserError: both are asked for.
    """
    if by_order and many_to_one:
        raise UserError(
            "pictures are paired by order or many to one, not both: set TRAINING.PAIR_BY_ORDER or "
            "TRAINING.PAIR_MANY_TO_ONE to False."
        )
    return "order" if by_order else "many_to_one" if many_to_one else "name"


def match_pairs(inputs: Path, targets: Path, pairing: Pairing = "name") -> Matching:
    """Match the pictures of two folders.

    Args:
        pairing: "name" compares the names in Unicode's form NFC: as they are, without suffix, without the words that
            tell the sides apart, and at last without case. Each step takes what the steps before have left. Of
            targets with the same name, an input takes the one with its own suffix.
            "many_to_one" does the same. Then each input that is left takes the target whose name is the longest
            beginning of its own, up to a separator: 1_14 belongs to 1.
            "order": the n-th picture of one folder belongs to the n-th of the other, whatever they are called.

    Returns:
        Each pair has the name of its input without suffix; with suffix, if two inputs differ in nothing else.

    Raises:
        UserError: a folder is missing or empty, a name is ambiguous, nothing matches, or ("order") the folders differ
            in length.
    """
    left, right = pictures(inputs), pictures(targets)
    if pairing == "order":
        if len(left) != len(right):
            raise UserError(
                f"{inputs} holds {len(left)} pictures and {targets} {len(right)}: to be paired by order, they have to "
                "hold the same number."
            )
        if others := [path for folder in (inputs, targets) for path in _other_files(folder)]:
            raise UserError(
                f"{others[0]} is of a type that is not read here: to be paired by order, the folders have to hold "
                "pictures alone."
            )
        return Matching(_named(dict(zip(left, right, strict=True))), [])
    partners = _match_names(left, right)
    if pairing == "many_to_one":
        partners |= _match_beginnings([path for path in left if path not in partners], right)
    rest = [path for path in left if path not in partners]
    shareable = _count_shareable(rest, right) if pairing == "name" else 0
    if not partners:
        advice = f"set {_MANY_TO_ONE}" if shareable else "pair them by order (TRAINING.PAIR_BY_ORDER True)"
        raise UserError(
            f"no picture of {inputs} has the name of one of {targets} ({left[0].name}, ... and {right[0].name}, ...); "
            f"rename them, or {advice}."
        )
    taken = set(partners.values())
    orphans = rest + [path for path in right if path not in taken]
    return Matching(_named({path: partners[path] for path in left if path in partners}), orphans, shareable)


def orphans_sentence(matching: Matching) -> str:
    """How many files found no partner, the first few of them, and the setting that would help."""
    orphans = matching.orphans
    shown = ", ".join(str(path) for path in orphans[:_SHOWN])
    more = f" and {len(orphans) - _SHOWN} more" if len(orphans) > _SHOWN else ""
    sentence = f"{len(orphans)} pictures have no partner and are left out: {shown}{more}."
    return " ".join(filter(None, (sentence, sharing_sentence(matching))))


def sharing_sentence(matching: Matching) -> str:
    """Which setting pairs inputs that found no partner; empty if none would."""
    if not matching.shareable:
        return ""
    return f"{_MANY_TO_ONE} pairs {matching.shareable} of the inputs, several with one target."


def _named(partners: dict[Path, Path]) -> list[Pair]:
    stems = Counter(path.stem for path in partners)
    return [Pair(path.stem if stems[path.stem] == 1 else path.name, path, target) for path, target in partners.items()]


def _match_names(left: list[Path], right: list[Path]) -> dict[Path, Path]:
    """Partners of ``left``'s files among ``right``'s; each target has one at most."""
    partners: dict[Path, Path] = {}
    levels: tuple[_Keys, ...] = ((_whole_name, _whole_name), (_stem, _stem), *_SIDELESS)
    for key_of_input, key_of_target in levels:
        taken = set(partners.values())
        targets = _by_key((path for path in right if path not in taken), key_of_target)
        claims: dict[Path, Path] = {}
        for path in left:
            name = key_of_input(path)
            if path in partners or name not in targets:
                continue
            target = _one_of(targets[name], path, name)
            if target in claims:
                raise _same_name(claims[target], path, name)
            claims[target] = path
        partners |= {path: target for target, path in claims.items()}
    return partners


def _match_beginnings(left: list[Path], right: list[Path]) -> dict[Path, Path]:
    """Partners of ``left``'s files among ``right``'s: those whose names theirs begin with."""
    partners: dict[Path, Path] = {}
    for key_of_input, key_of_target in _SIDELESS:
        targets = _by_key(right, key_of_target)
        for path in left:
            name = next((name for name in beginnings(key_of_input(path)) if name in targets), None)
            if name is not None and path not in partners:
                partners[path] = _one_of(targets[name], path, name)
    return partners


def _count_shareable(left: list[Path], right: list[Path]) -> int:
    try:
        return len(_match_beginnings(left, right))
    except UserError:  # ambiguous: of no help
        return 0


def _by_key(paths: Iterable[Path], key: Callable[[Path], str]) -> dict[str, list[Path]]:
    """Files by their keys. An empty key, of a name that says nothing but its side, belongs to none."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        if name := key(path):
            groups.setdefault(name, []).append(path)
    return groups


def _one_of(targets: list[Path], path: Path, name: str) -> Path:
    """The target of ``path`` among those that are called ``name``: the one with its suffix, if there are several."""
    if len(targets) == 1:
        return targets[0]
    alike = [target for target in targets if target.suffix.lower() == path.suffix.lower()]
    if len(alike) == 1:
        return alike[0]
    first, second = (alike or targets)[:2]
    raise _same_name(first, second, name)


def _whole_name(path: Path) -> str:
    return composed(path.name)


def _stem(path: Path) -> str:
    return composed(path.stem)


def _sideless(path: Path, words: frozenset[str]) -> str:
    return sideless(path.stem, words)


def _caseless(path: Path, words: frozenset[str]) -> str:
    return caseless(sideless(path.stem, words))


# How names without the words of their side are compared: the input's, and the target's.
_Keys = tuple[Callable[[Path], str], Callable[[Path], str]]
_SIDELESS: tuple[_Keys, ...] = tuple(
    (partial(key, words=INPUT_WORDS), partial(key, words=TARGET_WORDS)) for key in (_sideless, _caseless)
)


def _same_name(first: Path, second: Path, name: str) -> UserError:
    return UserError(f"{first} and {second} go by the same name ({name}): keep one of them.")
