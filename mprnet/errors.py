"""The errors that are written for users."""

from collections.abc import Sequence


class UserError(ValueError):
    """An input of the user is wrong. The message is one sentence: what is wrong, where, and what to do.

    Programs print only the message, without a traceback, and exit with a non-zero status.
    """

    def __str__(self) -> str:
        return escape_controls(super().__str__())


def escape_controls(text: str) -> str:
    r"""Return a text for a terminal: control characters except line breaks become ``\x1b`` and so on.

    The name of a file can hold characters that tell a terminal to clear itself or to change its title.
    """
    return text.translate(_ESCAPES)


_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) != "\n"}


def one_line(text: object, most: int = 300) -> str:
    """Return a text, such as an error's message, for use within a sentence.

    It has neither line breaks nor repeated spaces nor control characters, and is cut after ``most`` characters.
    """
    line = " ".join(str(text).split()).translate(dict.fromkeys([*range(32), 127], "?"))
    return line if len(line) <= most else f"{line[: most - 3]}..."


def name_some(names: Sequence[object], most: int = 3) -> str:
    """Return the first names for a sentence, and how many others there are: ``a, b, c and 2 more``."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return escape_controls(", ".join(map(str, names[:most]))) + more


class NotPreparedError(UserError):
    """Prepared pictures are missing. Unlike a broken picture, this must not be skipped."""
