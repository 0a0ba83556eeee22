"""Starting and ending a run of several processes."""

import contextlib
import socket
import subprocess
import sys
from datetime import timedelta

import programs
import pytest
import torch

from mprnet import UserError
from mprnet.inference import distributed
from mprnet.inference.distributed import World, choose_gpu, distributed_world

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("device", "fails", "destroyed"), [(CPU, False, 1), (CPU, True, 1), (GPU, False, 1), (GPU, True, 0)]
)
def test_after_an_error_on_a_gpu_the_process_group_is_not_destroyed(monkeypatch, device, fails, destroyed):
    calls = []
    monkeypatch.setattr(distributed, "init_world", lambda gpus, patience: World(0, 2, device))
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: calls.append(1))
    with contextlib.suppress(UserError), distributed_world([-1]):
        if fails:
            raise UserError("no")
    assert len(calls) == destroyed


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        ("UserError('no.')", 1, "error: no.\n"),
        ("ValueError('oh')", 1, "ValueError: oh\n"),
        ("SystemExit(143)", 143, ""),
    ],
)
def test_a_failed_process_in_a_group_exits_at_once(tmp_path, failure, status, message):
    """It does not run what Python does at its end, such as waiting for the other processes."""
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
    assert run.stderr.endswith(message)
    assert run.stdout == ""


def test_no_process_continues_if_entering_fails_on_the_main_one(monkeypatch):
    @contextlib.contextmanager
    def fail():
        raise UserError("locked")
        yield

    with pytest.raises(UserError, match="locked"), World(0, 1, CPU).enter_on_main(fail()):
        pytest.fail("went on")
    monkeypatch.setattr(World, "all_reduce", lambda self, *values: [1.0])  # rank 0 has failed
    monkeypatch.setattr(
        distributed.dist, "all_gather_object", lambda results, own: results.__setitem__(slice(None), ["locked", own])
    )
    with pytest.raises(UserError, match="process 0 of this run: locked"), World(1, 2, CPU).enter_on_main(fail()):
        pytest.fail("went on")


@pytest.mark.parametrize(
    ("gpus", "local_rank", "processes", "available", "number"),
    [
        ([-1], 0, 1, 1, 0),
        ([-1], 2, 4, 4, 2),
        ([], 1, 2, 8, 1),
        ([2, 3], 0, 2, 4, 2),
        ([2, 3], 1, 2, 4, 3),
        ([3], 0, 1, 4, 3),
        ([0, 1, 2, 3], 0, 1, 1, 0),  # settings for a larger machine
        ([0, 1, 2, 3], 1, 2, 2, 1),
    ],
)
def test_choose_gpu(gpus, local_rank, processes, available, number):
    assert choose_gpu(gpus, local_rank, processes, available) == number


@pytest.mark.parametrize(
    ("gpus", "processes", "available", "sentence"),
    [
        ([-1], 4, 2, r"torchrun starts 4 processes on this machine for 2 GPUs \[0, 1\]: lower --nproc_per_node"),
        ([2, 3], 3, 4, r"3 processes on this machine for 2 GPUs \[2, 3\]"),
        ([5], 1, 2, "GPU names number 5, but this machine has 2, counted from 0"),
        ([0, -2], 2, 2, "GPU names number -2"),
        ([1, 1], 2, 2, r"GPU names a number twice, \[1, 1\]"),
    ],
)
def test_impossible_gpu_numbers_raise_a_clear_error(gpus, processes, available, sentence):
    with pytest.raises(UserError, match=sentence):
        choose_gpu(gpus, 0, processes, available)


def test_processes_of_torchrun_use_the_given_gpus(monkeypatch):
    devices = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 5)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    for name, value in {"RANK": 5, "WORLD_SIZE": 6, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert distributed.init_world([2, 3]).device == torch.device("cuda", 3)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)
    assert distributed.init_world([2, 3]).device == torch.device("cuda", 2)
    assert devices == [torch.device("cuda", 3), torch.device("cuda", 2)]


def test_the_timeout_is_passed_to_pytorch(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda kind, **options: calls.append((kind, options)))
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1234"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.init_world([-1], timedelta(days=1)) == World(0, 2, CPU)
    assert calls == [("gloo", {"timeout": timedelta(days=1), "device_id": None})]


def test_rank_0_is_the_main_process():
    assert [World(rank, 3, CPU).is_main for rank in range(3)] == [True, False, False]
    assert World(0, 1, CPU).all_reduce(1.5, 2.0) == [1.5, 2.0]
    tensor = torch.ones(2)
    assert World(0, 1, CPU).all_gather(tensor)[0] is tensor


def test_all_reduce_sums_in_float64(monkeypatch):
    """Two processes with the same numbers."""
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda total: total.mul_(2))
    assert World(0, 2, CPU).all_reduce(1e8 + 1, 0.25) == [2e8 + 2, 0.5]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (dict(RANK=0, WORLD_SIZE=2), "RANK and WORLD_SIZE are set, but MASTER_ADDR is not"),
        (dict(RANK="abc", WORLD_SIZE=2), "RANK is abc, not a number from 0 on"),
        (dict(RANK="", WORLD_SIZE=2), "RANK is not set, not a number"),
        (dict(RANK="9" * 5000, WORLD_SIZE=2), r"RANK is 9+\.\.\., not a number"),
        (dict(RANK=0, WORLD_SIZE=0), "WORLD_SIZE is 0, not a number from 1 on"),
        (dict(RANK=-1, WORLD_SIZE=1), "RANK is -1, not a number from 0 on"),
        (dict(RANK=2, WORLD_SIZE=2), "RANK is 2, but WORLD_SIZE is 2"),
        (dict(RANK=0, WORLD_SIZE=1, MASTER_ADDR="localhost"), "MASTER_PORT is not set, not a number"),
        (dict(RANK=0, WORLD_SIZE=1, MASTER_ADDR="localhost", MASTER_PORT=65536), "ports are below 65536"),
    ],
)
def test_wrong_variables_of_a_launcher_raise_a_clear_error(monkeypatch, variables, sentence):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match=sentence + ".*Start several processes with torchrun"):
        distributed.init_world([-1])


def test_processes_that_cannot_meet_raise_a_clear_error(monkeypatch):
    """Another program listens on the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        variables = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(UserError, match=f"cannot meet at 127.0.0.1:{port}, which .*(?i:address already in use)"):
            distributed.init_world([-1])


SHARE = """
import os, sys, time
from pathlib import Path
from mprnet import UserError
from mprnet.inference.distributed import distributed_world

folder, slow, dies = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
try:
    with distributed_world([-1]) as world:
        world.barrier()
        for name in ("first", "second"):
            for item in world.share(list("abcdefghijklmnop"), name):
                (folder / f"{name} {item} {world.rank}").touch()
                if world.rank == dies:
                    os._exit(3)
                time.sleep(0.3 if world.rank == slow else 0.01)
        (folder / f"sum {int(world.all_reduce(1)[0])} {world.rank}").touch()
except UserError as error:
    (folder / "error").write_text(str(error))
"""


def share_items(folder, slow: int, dies: int) -> list[str]:
    """Run two processes that share items, and return the names of what they have written."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (folder / "share.py").write_text(SHARE)
    (folder / "out").mkdir()
    meeting = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    arguments = (folder / "share.py", folder / "out", slow, dies)
    running = [programs.Program(*arguments, RANK=rank, **meeting) for rank in range(2)]
    ended = [each.wait() for each in running]
    assert [each.returncode for each in ended] == [3 if rank == dies else 0 for rank in range(2)], ended
    return sorted(path.name for path in (folder / "out").iterdir())


@pytest.mark.parametrize("slow", [0, 1])
def test_the_process_that_is_free_takes_the_next_item(tmp_path, slow):
    """Nothing is taken twice, and everything once. The slow process still has its first item when all are taken."""
    names = share_items(tmp_path, slow, dies=-1)
    for name in ("first", "second"):
        taken = [each.split() for each in names if each.startswith(name)]
        assert [item for _, item, _ in taken] == list("abcdefghijklmnop")
        by_slow = [item for _, item, rank in taken if int(rank) == slow]
        assert len(by_slow) < 5
    assert [each for each in names if each.startswith("sum")] == ["sum 2 0", "sum 2 1"]


def test_a_process_that_ends_leaves_the_other_items_to_the_others(tmp_path):
    names = share_items(tmp_path, slow=-1, dies=1)
    first = [each.split() for each in names if each.startswith("first")]
    assert [item for _, item, _ in first] == list("abcdefghijklmnop")
    assert sum(rank == "1" for _, _, rank in first) <= 1
    assert (tmp_path / "out" / "error").read_text() == "another process of this run has stopped: see what it says."


def test_the_end_of_the_process_that_counts_is_said_in_one_sentence(tmp_path):
    """Rank 0 keeps the counter, if no program such as torchrun does."""
    share_items(tmp_path, slow=1, dies=0)
    assert (tmp_path / "out" / "error").read_text() == "another process of this run has stopped: see what it says."


def test_one_process_takes_all_items():
    assert list(World(0, 1, CPU).share(["a", "b"], "x")) == ["a", "b"]


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        ("Connection closed by peer [127.0.0.1]:15793.", "another process of this run has stopped"),
        ("Timed out waiting 3600000ms for send operation to complete", "another process of this run does not answer"),
    ],
)
def test_a_failed_exchange_between_processes_raises_a_clear_error(monkeypatch, failure, sentence):
    monkeypatch.setattr(distributed, "init_world", lambda gpus, timeout: World(0, 2, CPU))
    with pytest.raises(UserError, match=sentence), distributed_world([-1]):
        raise RuntimeError(failure)
    with pytest.raises(RuntimeError, match="other"), distributed_world([-1]):
        raise RuntimeError("other")
