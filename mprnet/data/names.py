"""What of a file's name counts when pictures are matched."""

import re
import unicodedata

# Words that tell the two sides of a pair apart in the names that data sets use: 0001_GT_SRGB_010 and
# 0001_NOISY_SRGB_010, norain-1 and rain-1, blur_3 and gt_3.
INPUT_WORDS = frozenset(
    ("input", "degraded", "noisy", "noise", "blur", "blurred", "blurry", "rain", "rainy", "lq", "lr")
)
TARGET_WORDS = frozenset(("target", "gt", "groundtruth", "clean", "sharp", "norain", "norainy", "hq", "hr"))
SEPARATORS = "_-. "


def composed(name: str) -> str:
    """The name in Unicode's form NFC: file systems and archives write the same letters in different ways."""
    return unicodedata.normalize("NFC", name)


def caseless(name: str) -> str:
    """The name in a form that is the same for large and small letters; NFC."""
    return composed(composed(name).casefold())


def sideless(name: str, words: frozenset[str]) -> str:
    """The name without the words of its side, in NFC; all else stays as it is.

    Such a word is a run of ASCII letters, large or small, beside no other letter or combining mark. Of the separators
    on its two sides one goes with it. What stood on its two sides is never joined: 1_rain2 becomes 1_2, and so does
    1rain2.

    Args:
        words: ``INPUT_WORDS`` or ``TARGET_WORDS``.

    Returns:
        An empty name if there was nothing else in it but separators.
    """
    name = composed(name)
    kept, end = "", 0
    for word in re.finditer("[A-Za-z]+", name):
        if word.group().lower() not in words or _is_part_of_a_word(name, word.start(), word.end()):
            continue
        kept += name[end : word.start()]
        end = word.end()
        after = name[end : end + 1]
        if kept and after and after not in SEPARATORS:
            kept += "" if kept[-1] in SEPARATORS else "_"
        elif kept and kept[-1] in SEPARATORS:
            kept = kept[:-1]
        elif not kept and after and after in SEPARATORS:
            end += 1
    kept += name[end:]
    return kept if kept.strip(SEPARATORS) else ""


def beginnings(name: str) -> list[str]:
    """The parts of a name before each of its separators, the longest first: a_b and a, for a_b_c."""
    return [name[:place] for place in range(len(name) - 1, 0, -1) if name[place] in SEPARATORS]


def _is_part_of_a_word(name: str, start: int, end: int) -> bool:
    beside = name[max(0, start - 1) : start] + name[end : end + 1]
    return any(unicodedata.category(character)[0] in "LM" for character in beside)
