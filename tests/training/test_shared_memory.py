"""How many workers have space for their batches in shared memory."""

import shutil
from collections import namedtuple

import pytest

from mprnet.training import shared_memory
from mprnet.training.shared_memory import fit_workers

MIB = 2**20
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def set_free(monkeypatch, tmp_path):
    """A function that sets how much of the shared memory is free, in bytes."""
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(64 * MIB, 0, free))


@pytest.mark.parametrize(
    ("free", "workers"),
    # Two batches of a worker, one of the trainer, and 1/16 MiB for each process.
    [(64 * MIB, 12), (26 * MIB, 12), (25 * MIB, 11), (6 * MIB, 2), (4 * MIB, 1), (3 * MIB, 0), (0, 0)],
)
def test_as_many_workers_as_have_space_for_their_batches(set_free, free, workers):
    set_free(free)
    fitting, note = fit_workers(12, batch_bytes=MIB)
    assert fitting == workers
    if workers == 12:
        assert note == ""
    else:
        assert note.startswith(f"{workers} worker processes read pictures instead of 12: the batches of 12 need ")
        assert f"need 26 MiB in {shared_memory._FOLDER}, and {free // MIB} MiB are free. A container" in note
        assert "--shm-size" in note
        assert f"TRAINING.WORKERS {workers} " in note


def test_the_processes_of_a_machine_share_its_shared_memory(set_free, monkeypatch):
    set_free(26 * MIB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert fit_workers(12, MIB)[0] == 5


def test_without_workers_nothing_is_needed(set_free):
    set_free(0)
    assert fit_workers(0, MIB) == (0, "")


def test_other_systems_have_no_such_limit(set_free, monkeypatch, tmp_path):
    set_free(0)
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path / "missing")
    assert fit_workers(12, MIB) == (12, "")
