"""The project's programs, each a process of its own, forked from one that has imported PyTorch already.

Importing PyTorch takes seconds, and the tests start hundreds of programs. A test of the interpreter's own start or end
takes subprocess instead.
"""

import atexit
import functools
import itertools
import multiprocessing
import os
import pkgutil
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# Not the modules themselves that tests start with -m: these are to be imported as __main__. PyTorch's compiler is
# imported by the first step of any optimizer.
CONTEXT = multiprocessing.get_context("forkserver")
_PROGRAMS = ["mprnet.apps.restore", "mprnet.apps.test", "mprnet.apps.train", "mprnet.evaluation.figures"]
CONTEXT.set_forkserver_preload([*_PROGRAMS, "torch._dynamo", "torch._inductor", "torch._higher_order_ops"])


class Stop(NamedTuple):
    """A signal that a program gets from itself, at one point of its work.

    Attributes:
        place: the full name of a function, or of a class's method.
        call: the signal comes at the start of this call of it, counted from 1.
        number: the signal.
    """

    place: str
    call: int
    number: int

    def prepare(self) -> None:
        """Let it happen in this process."""
        where, _, name = self.place.rpartition(".")
        owner = pkgutil.resolve_name(where)
        function = getattr(owner, name)
        calls = itertools.count(1)

        @functools.wraps(function)
        def stopping(*arguments: Any, **named: Any) -> Any:
            if next(calls) == self.call:
                os.kill(os.getpid(), self.number)
            return function(*arguments, **named)

        setattr(owner, name, stopping)


class Program:
    """A program that has been started: what ``python *command`` would be."""

    def __init__(
        self, *command: object, cwd: Path | None = None, stop: Stop | None = None, **environment: object
    ) -> None:
        """
        Args:
            command: a script and its arguments, or "-m", a module and its arguments.
            cwd: the program's working directory; that of the tests if None.
            stop: where a signal meets it.
            environment: variables beside those of the tests; what PyTorch reads on import comes too late.
        """
        self.command = [str(word) for word in command]
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        for path in self._outputs:
            path.touch()
        variables = {**os.environ, **{name: str(value) for name, value in environment.items()}}
        surroundings = (str(cwd or Path.cwd()), variables, [str(path) for path in self._outputs])
        self._process = CONTEXT.Process(target=_become, args=(self.command, *surroundings, stop))
        self._process.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far."""
        return self._outputs[0].read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._outputs[1].read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool], timeout: float = 300) -> None:
        """Return when ``condition`` holds or the program has ended.

        After ``timeout`` seconds the program is killed, and TimeoutExpired raised.
        """
        deadline = time.monotonic() + timeout
        while self._process.exitcode is None and not condition():
            if time.monotonic() > deadline:
                self._process.kill()
                raise subprocess.TimeoutExpired(self.command, timeout, self.stdout, self.stderr)
            time.sleep(0.002)

    def send_signal(self, number: int) -> None:
        """Send a signal, if the program has not ended."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def finished(self, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """Status and outputs of the program, once it has ended; ``timeout`` as for ``wait_until``."""
        self._process.join(timeout)
        self.wait_until(lambda: False, timeout=0)
        done = subprocess.CompletedProcess(self.command, self._process.exitcode, self.stdout, self.stderr)
        self._folder.cleanup()
        return done


def start_as_usual() -> None:
    """Let processes that this one starts be started as if it had not come from a server itself."""
    multiprocessing.set_start_method(None, force=True)


def run(
    *command: object, cwd: Path | None = None, stop: Stop | None = None, timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """Status and outputs of a program; arguments as for ``Program``."""
    return Program(*command, cwd=cwd, stop=stop).finished(timeout)


def _become(command: list[str], cwd: str, environment: dict[str, str], outputs: list[str], stop: Stop | None) -> None:
    """Be the program, as if the interpreter had been started with ``command``."""
    for number, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    start_as_usual()
    if stop is not None:
        stop.prepare()
    module = command[0] == "-m"
    sys.argv = command[1:] if module else command
    tests = str(Path(__file__).parent)
    sys.path[:] = [cwd if module else str(Path(command[0]).resolve().parent), *(p for p in sys.path if p != tests)]
    try:
        if module:
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which a forked process leaves out
