"""Signals that ask a run to stop."""

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

# A second Ctrl-C stops at once if it comes so many seconds after the first. Schedulers and torchrun may send the same
# signal twice within an instant.
_SECOND_SIGNAL_SECONDS = 1.0
# SLURM and others can send SIGUSR1 some minutes before the time of a job is over. SIGHUP comes when a terminal closes.
_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")


class Stopped(Exception):  # noqa: N818  # not an error: the user asked for it
    """The run stopped because of a signal. Its state is saved."""


class WaitInterrupted(BaseException):
    """A signal came while the run waited for data. Code of data sets must not catch it, so it is not an Exception."""


def list_stop_signals() -> list[int]:
    """Return the numbers of the signals that ask a run to stop. Windows has fewer of them."""
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class StopSignals:
    """Remembers the first signal that asks to stop, while it is used as a context manager.

    Attributes:
        number: of the signal; None if there was none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._time = 0.0
        self._is_waiting = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        is_under_nohup = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        for number in list_stop_signals():
            if not (is_under_nohup and number == signal.SIGHUP):
                self._handlers[number] = signal.signal(number, self.handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def interrupt(self) -> Iterator[None]:
        """Raise ``WaitInterrupted`` in this context if a signal comes, or has come before."""
        self._is_waiting = True
        try:
            if self.number is not None:
                raise WaitInterrupted
            yield
        finally:
            self._is_waiting = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            WaitInterrupted: the run waits for data.
            KeyboardInterrupt: this is a second Ctrl-C: the user does not want to wait until the state is saved.
        """
        now = time.monotonic()
        if self.number is None:
            self.number, self._time = number, now
            if self._is_waiting:
                self._is_waiting = False
                raise WaitInterrupted
        elif number == signal.SIGINT and now > self._time + _SECOND_SIGNAL_SECONDS:
            raise KeyboardInterrupt
