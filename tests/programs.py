"""Runs the project's programs in processes of their own, for tests.

Importing PyTorch takes seconds, and the tests start hundreds of programs. So all programs are forked from one process
that has already imported PyTorch. Tests of the start or the end of the Python interpreter use subprocess instead.
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

import torch

CONTEXT = multiprocessing.get_context("forkserver")
# Modules that tests start with -m are not in this list: they have to be imported as __main__.
_PROGRAMS = ["mprnet.apps.restore", "mprnet.apps.test", "mprnet.apps.train", "mprnet.evaluation.figures"]
# The first step of any optimizer imports PyTorch's compiler.
CONTEXT.set_forkserver_preload([*_PROGRAMS, "torch._dynamo", "torch._inductor", "torch._higher_order_ops"])


class Stop(NamedTuple):
    """A signal that a program sends to itself when it calls a function.

    Attributes:
        function: the full name of a function or method.
        call: which call of the function, counted from 1. The signal is sent at its start.
        number: the number of the signal.
    """

    function: str
    call: int
    number: int

    def prepare(self) -> None:
        """Wrap the function in this process, before the program starts."""
        parent, _, name = self.function.rpartition(".")
        owner = pkgutil.resolve_name(parent)
        function = getattr(owner, name)
        calls = itertools.count(1)

        @functools.wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            if next(calls) == self.call:
                os.kill(os.getpid(), self.number)
            return function(*arguments, **named)

        setattr(owner, name, wrapper)


class WithoutDistributed(NamedTuple):
    """A PyTorch that is built without torch.distributed, as on some machines: the module is there, but empty."""

    def prepare(self) -> None:
        """Empty the module in this process, before the program starts."""
        for name in [name for name in vars(torch.distributed) if not name.startswith("_")]:
            if name not in ("GroupName", "ProcessGroup"):
                delattr(torch.distributed, name)
        torch.distributed.is_available = lambda: False


class Program:
    """A running program, as if it had been started with ``python *command``."""

    def __init__(
        self, *command: object, cwd: Path | None = None, stop: Stop | None = None, **environment: object
    ) -> None:
        """
        Args:
            command: a script and its arguments, or "-m", a module and its arguments.
            cwd: the program's working directory. None: the working directory of the tests.
            stop: a signal that the program sends to itself, or another object whose ``prepare`` is called in the
                program's process before it starts.
            environment: more environment variables. Variables that PyTorch reads on import have no effect.
        """
        self.command = [str(word) for word in command]
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        for path in self._outputs:
            path.touch()
        variables = {**os.environ, **{name: str(value) for name, value in environment.items()}}
        outputs = [str(path) for path in self._outputs]
        arguments = (self.command, str(cwd or Path.cwd()), variables, outputs, stop)
        self._process = CONTEXT.Process(target=_run_program, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._process.pid

    @property
    def stdout(self) -> str:
        """What the program has written to standard output so far."""
        return self._outputs[0].read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What the program has written to standard error so far."""
        return self._outputs[1].read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool], timeout: float = 300) -> None:
        """Wait until ``condition`` returns True or the program has ended.

        Raises:
            TimeoutExpired: after ``timeout`` seconds. The program is killed.
        """
        deadline = time.monotonic() + timeout
        while self._process.exitcode is None and not condition():
            if time.monotonic() > deadline:
                self._process.kill()
                raise subprocess.TimeoutExpired(self.command, timeout, self.stdout, self.stderr)
            time.sleep(0.002)

    def send_signal(self, number: int) -> None:
        """Send a signal to the program if it has not ended."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """Wait until the program has ended, and return its exit status and outputs.

        Raises:
            TimeoutExpired: after ``timeout`` seconds. The program is killed.
        """
        self._process.join(timeout)
        self.wait_until(lambda: False, timeout=0)
        done = subprocess.CompletedProcess(self.command, self._process.exitcode, self.stdout, self.stderr)
        self._folder.cleanup()
        return done


def reset_start_method() -> None:
    """Make this process start other processes by the default method, not by the method that it was started with."""
    multiprocessing.set_start_method(None, force=True)


def run(
    *command: object, cwd: Path | None = None, stop: Stop | None = None, timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """Run a program, and return its exit status and outputs. The arguments are those of ``Program``."""
    return Program(*command, cwd=cwd, stop=stop).wait(timeout)


def _run_program(
    command: list[str], cwd: str, environment: dict[str, str], outputs: list[str], stop: Stop | None
) -> None:
    """Run the program in this process, as if the interpreter had been started with ``command``."""
    for number, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    reset_start_method()
    if stop is not None:
        stop.prepare()
    is_module = command[0] == "-m"
    sys.argv = command[1:] if is_module else command
    tests = str(Path(__file__).parent)
    sys.path[:] = [cwd if is_module else str(Path(command[0]).resolve().parent), *(p for p in sys.path if p != tests)]
    try:
        if is_module:
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing does not call them in a forked process
