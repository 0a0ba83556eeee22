"""Comparing file names, to find the two pictures of a pair."""

import re
import unicodedata

# Words by which data sets name the two sides of a pair: 0001_NOISY_SRGB_010 and 0001_GT_SRGB_010, rain-1 and norain-1,
# blur_3 and gt_3.
INPUT_WORDS = frozenset(
    ("input", "degraded", "noisy", "noise", "blur", "blurred", "blurry", "rain", "rainy", "lq", "lr")
)
TARGET_WORDS = frozenset(("target", "gt", "groundtruth", "clean", "sharp", "norain", "norainy", "hq", "hr"))
SEPARATORS = "_-. "


def normalize(name: str) -> str:
    """Return the name in the Unicode form NFC: file systems and archives encode the same letters in different ways."""
    return unicodedata.normalize("NFC", name)


def fold_case(name: str) -> str:
    """Return the name in a form that is the same for upper and lower case, in NFC."""
    return normalize(normalize(name).casefold())


def remove_side_words(name: str, words: frozenset[str]) -> str:
    """Return the name without the words that name the side of a pair, in NFC.

    A word is a run of ASCII letters, in upper or lower case, with no other letter or combining mark before or after it.
    If there are separators before and after the word, one of them is removed too, and so is a separator that would be
    left at the start or end of the name. If there are none, an underscore replaces the word. The parts before and after
    the word are never joined: 1_rain2 and 1rain2 become 1_2.

    Args:
        words: ``INPUT_WORDS`` or ``TARGET_WORDS``.

    Returns:
        The name; empty if only separators are left.
    """
    name = normalize(name)
    result, end = "", 0
    for word in re.finditer("[A-Za-z]+", name):
        if word.group().lower() not in words or _is_part_of_a_word(name, word.start(), word.end()):
            continue
        result += name[end : word.start()]
        end = word.end()
        after = name[end : end + 1]
        if result and after and after not in SEPARATORS:
            result += "" if result[-1] in SEPARATORS else "_"
        elif result and result[-1] in SEPARATORS:
            result = result[:-1]
        elif not result and after and after in SEPARATORS:
            end += 1
    result += name[end:]
    return result if result.strip(SEPARATORS) else ""


def prefixes(name: str) -> list[str]:
    """Return the parts of a name before each of its separators, the longest first: a_b and a for a_b_c."""
    return [name[:length] for length in range(len(name) - 1, 0, -1) if name[length] in SEPARATORS]


def _is_part_of_a_word(name: str, start: int, end: int) -> bool:
    neighbours = name[max(0, start - 1) : start] + name[end : end + 1]
    return any(unicodedata.category(character)[0] in "LM" for character in neighbours)
