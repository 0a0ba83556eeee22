"""The one kind of error that people are meant to read."""


class UserError(ValueError):
    """Something the user gave is not as needed; the message is one sentence: what, where, what to do.

    Programs print it alone, without a traceback, and exit with a non-zero status.
    """


def one_line(error: BaseException) -> str:
    """Return the error's message without line breaks and repeated spaces, for use within a sentence."""
    return " ".join(str(error).split())
