import os
import signal
import subprocess
import sys
import textwrap

import pytest

from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.evaluation.scoring import score

PROGRAM = """
    import os, signal, time
    import numpy as np
    from mprnet.apps.command import run
    from mprnet.evaluation.scoring import Scorers

    def program():
        image = np.zeros((16, 16, 3), np.uint8)
        with Scorers(1) as scorers:
            scorers.submit("rgb", image, image).result()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            os.killpg(0, signal.SIGINT)  # this process gets it later, the scoring process now
            scorers.submit("rgb", image, image).result()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            time.sleep(60)
        return 0

    if __name__ == "__main__":
        run(program)
"""


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_prints_no_traceback_of_scoring_processes():
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, start_new_session=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "\nstopped.\n")


@pytest.mark.parametrize("measure", ["luma", "aligned"])
def test_an_image_smaller_than_the_window_has_no_ssim(measure):
    image = dead_leaves(4, 0, 44)[:, :10]
    psnr, ssim = score(measure, image, image)
    assert psnr > 50
    assert ssim is None
