"""How all programs start and end: signals, error messages and the exit status."""

import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

from mprnet.errors import UserError, escape_controls
from mprnet.inference.distributed import is_initialized

# The name for the help text, such as "mprnet test", if a subcommand of mprnet runs.
subcommand: str | None = None

_NO_THREAD = "the system starts no more threads for this program: raise its limits (ulimit -u, ulimit -v)."


def run(program: Callable[[], int]) -> None:
    """Run ``program`` and exit with its status.

    If the user made a mistake (UserError) or the system refuses something (permissions, names, space), one sentence is
    printed and the status is 1. After Ctrl-C or SIGTERM, the status is the one that shells expect.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if sys.stderr is None:  # it is closed; progress bars need it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files can hold bytes that are not valid text
    try:
        status = program()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        print(escape_controls(f"error: {path}{error.strerror or error}."), file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        # Nothing is left to save: a second Ctrl-C ends the process at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _silence_unraisable_errors()
        print("\nstopped.", file=sys.stderr)
        status = 130
    except BaseException as error:
        is_thread_refused = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
        if is_thread_refused:
            print(f"error: {_NO_THREAD}", file=sys.stderr)
        elif not is_initialized():
            raise
        elif not isinstance(error, SystemExit):
            traceback.print_exc()
        status = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
    # After a failure, other processes still work. They end when this process has ended.
    if is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    # Free objects that hold a connection to other processes: their threads can abort the interpreter while it ends.
    gc.collect()
    sys.exit(status)


def _terminate(number: int, frame: FrameType | None) -> None:
    """End with an exception, so that unfinished files are removed."""
    _silence_unraisable_errors()
    sys.exit(128 + number)


def _silence_unraisable_errors() -> None:
    """Print no errors of half-made objects, such as a progress bar that a signal has interrupted."""
    sys.unraisablehook = lambda unraisable: None
