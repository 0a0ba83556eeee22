"""How a run of several processes is entered and left."""

import contextlib
import subprocess
import sys

import pytest
import torch

from mprnet import UserError
from mprnet.inference import distributed
from mprnet.inference.distributed import World, joined_world

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("device", "fails", "left"), [(CPU, False, 1), (CPU, True, 1), (GPU, False, 1), (GPU, True, 0)]
)
def test_what_failed_on_a_gpu_does_not_wait_for_the_others_to_leave(monkeypatch, device, fails, left):
    leaving = []
    monkeypatch.setattr(distributed, "join_world", lambda gpus, patience: World(0, 2, device))
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: leaving.append(1))
    with contextlib.suppress(UserError), joined_world([-1]):
        if fails:
            raise UserError("no")
    assert len(leaving) == left


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [
        ("UserError('no.')", 1, "error: no.\n"),
        ("ValueError('oh')", 1, "ValueError: oh\n"),
        ("SystemExit(143)", 143, ""),
    ],
)
def test_a_process_that_has_not_left_ends_at_once(tmp_path, failure, status, said):
    """Whatever else would be done at the end of the interpreter, such as waiting for the others."""
    script = f"""
import atexit, torch.distributed as dist
from mprnet import UserError
from mprnet.apps import command

def program():
    dist.init_process_group("gloo", init_method="file://{tmp_path}/met", rank=0, world_size=1)
    raise {failure}

atexit.register(print, "the end")
command.run(program)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == status, run.stderr
    assert run.stderr.endswith(said)
    assert run.stdout == ""


def test_what_the_first_process_cannot_have_none_goes_on_without(monkeypatch):
    @contextlib.contextmanager
    def taken():
        raise UserError("taken")
        yield

    with pytest.raises(UserError, match="taken"), World(0, 1, CPU).held(taken()):
        pytest.fail("went on")
    monkeypatch.setattr(World, "sum", lambda self, *values: [1.0])  # the first one's failure
    monkeypatch.setattr(
        distributed.dist, "all_gather_object", lambda found, mine: found.__setitem__(slice(None), ["taken", mine])
    )
    with pytest.raises(UserError, match="process 0 of this run: taken"), World(1, 2, CPU).held(taken()):
        pytest.fail("went on")
