"""How programs end after a signal."""

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


def start(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("number", "stderr"), [(signal.SIGINT, "\nstopped.\n"), (signal.SIGTERM, "")])
def test_a_signal_while_a_progress_bar_is_made(number, stderr):
    ended = start(SIGNAL_IN_A_NEW_PROGRESS_BAR.format(number=int(number)))
    assert ended.returncode == 128 + number
    assert ended.stderr == stderr


def test_a_second_ctrl_c_ends_the_program():
    ended = start(SIGNAL_WHILE_THE_PROGRAM_ENDS)
    assert ended.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert ended.stderr == "\nstopped.\n"
