"""What all programs share: how they end."""

import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

from torch import distributed

from mprnet.errors import UserError

# The name for the help text, such as "mprnet test", if a subcommand of mprnet runs.
subcommand: str | None = None


def run(program: Callable[[], int]) -> None:
    """Run ``program`` and exit with its status.

    What a person did wrong, and what the system refuses (permissions, names, space), is printed as one sentence, with
    status 1; a wish to stop ends it with the status that shells expect.
    """
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        status = program()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}.", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing more to save: once more ends it at once
        _let_the_unfinished_go()
        print("\nstopped.", file=sys.stderr)
        status = 130
    except BaseException as error:
        if not distributed.is_initialized():
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        status = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
    if distributed.is_initialized():  # a failure with other processes still at work: they end when this one has
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    # What still holds a connection to other processes goes now: while the interpreter ends, its threads may abort it.
    gc.collect()
    sys.exit(status)


def _terminate(number: int, frame: FrameType | None) -> None:
    """End as if by an exception, so that unfinished files are cleared away."""
    _let_the_unfinished_go()
    sys.exit(128 + number)


def _let_the_unfinished_go() -> None:
    """Say nothing of objects that a stop met while they were made, such as a progress bar: they cannot end properly."""
    sys.unraisablehook = lambda unraisable: None
