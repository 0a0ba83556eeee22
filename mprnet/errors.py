"""The errors that are written for users."""


class UserError(ValueError):
    """An input of the user is wrong. The message is one sentence: what is wrong, where, and what to do.

    Programs print only the message, without a traceback, and exit with a non-zero status.
    """


def one_line(error: BaseException) -> str:
    """Return the error's message without line breaks and repeated spaces, for use within a sentence."""
    return " ".join(str(error).split())
