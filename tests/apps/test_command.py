"""How programs end after a signal, and if the system refuses what they need."""

import os
import signal
import subprocess
import sys

import pytest

SIGNAL_IN_A_NEW_PROGRESS_BAR = """
import signal
from tqdm import tqdm
from mprnet.apps.command import run

class Bar(tqdm):
    @classmethod
    def _get_free_pos(cls, instance=None):
        signal.raise_signal({number})
        return super()._get_free_pos(instance)

run(lambda: len(Bar(range(3))))
"""

SIGNAL_WHILE_THE_PROGRAM_ENDS = """
import gc, signal
from mprnet.apps.command import run

gc.collect = lambda: signal.raise_signal(signal.SIGINT)
run(lambda: signal.raise_signal(signal.SIGINT))
"""


WITHOUT_STDERR = """
import os, sys
from tqdm import tqdm
from mprnet.apps.command import run

assert sys.stderr is None
run(lambda: print(sum(tqdm([1, 2]))) or 3)
"""

WITHOUT_THREADS = """
import threading
from concurrent.futures import ThreadPoolExecutor
from mprnet.apps import command

def refuse(thread):
    raise RuntimeError("can't start new thread")

def work():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(print)

command.is_initialized = lambda: {is_shared}
threading.Thread.start = refuse
command.run(work)
"""


def start(program, **options):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize(("number", "stderr"), [(signal.SIGINT, "\nstopped.\n"), (signal.SIGTERM, "")])
def test_a_signal_while_a_progress_bar_is_made(number, stderr):
    ended = start(SIGNAL_IN_A_NEW_PROGRESS_BAR.format(number=int(number)))
    assert ended.returncode == 128 + number
    assert ended.stderr == stderr


def test_a_second_ctrl_c_ends_the_program():
    ended = start(SIGNAL_WHILE_THE_PROGRAM_ENDS)
    assert ended.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert ended.stderr == "\nstopped.\n"


@pytest.mark.skipif(os.name != "posix", reason="needs file descriptors")
def test_a_program_runs_without_stderr():
    ended = start(WITHOUT_STDERR, preexec_fn=lambda: os.close(2))
    assert (ended.returncode, ended.stdout) == (3, "3\n")


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_refused_thread_is_said_in_one_sentence(is_shared):
    ended = start(WITHOUT_THREADS.format(is_shared=is_shared))
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: the system starts no more threads for this program")
    assert ended.stderr.count("\n") == 1
