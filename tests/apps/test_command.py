"""How programs end when they are told to stop."""

import signal
import subprocess
import sys

import pytest

WHILE_A_BAR_IS_MADE = """
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

WHILE_IT_ENDS = """
import gc, signal
from mprnet.apps.command import run

gc.collect = lambda: signal.raise_signal(signal.SIGINT)
run(lambda: signal.raise_signal(signal.SIGINT))
"""


def started(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "\nstopped.\n"), (signal.SIGTERM, "")])
def test_a_stop_while_a_progress_bar_is_made(number, said):
    ended = started(WHILE_A_BAR_IS_MADE.format(number=int(number)))
    assert ended.returncode == 128 + number
    assert ended.stderr == said


def test_a_second_ctrl_c():
    ended = started(WHILE_IT_ENDS)
    assert ended.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert ended.stderr == "\nstopped.\n"
