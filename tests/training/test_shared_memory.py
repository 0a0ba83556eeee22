"""How many workers have space for their batches in shared memory, and its repeated use."""

import shutil
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from mprnet import UserError
from mprnet.training import shared_memory
from mprnet.training.shared_memory import BatchPool, fit_workers

MIB = 2**20
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def set_free(monkeypatch, tmp_path):
    """A function that sets how much of the shared memory is free, in bytes."""
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(64 * MIB, 0, free))


@pytest.mark.parametrize(
    ("free", "workers"),
    # Three places of a worker, and 1/16 MiB for each process.
    [(64 * MIB, 12), (37 * MIB, 12), (36 * MIB, 11), (7 * MIB, 2), (4 * MIB, 1), (3 * MIB, 0), (0, 0)],
)
def test_as_many_workers_as_have_space_for_their_batches(set_free, free, workers):
    set_free(free)
    fitting, note = fit_workers(12, batch_bytes=MIB)
    assert fitting == workers
    if workers == 12:
        assert note == ""
    else:
        assert note.startswith(f"{workers} worker processes read pictures instead of 12: the batches of 12 need ")
        assert f"need 37 MiB in {shared_memory._FOLDER}, and {free // MIB} MiB are free. A container" in note
        assert "--shm-size" in note
        assert f"TRAINING.WORKERS {workers} " in note


def test_the_processes_of_a_machine_share_its_shared_memory(set_free, monkeypatch):
    set_free(37 * MIB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert fit_workers(12, MIB)[0] == 6


def test_without_workers_nothing_is_needed(set_free):
    set_free(0)
    assert fit_workers(0, MIB) == (0, "")


def test_other_systems_have_no_such_limit(set_free, monkeypatch, tmp_path):
    set_free(0)
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path / "missing")
    assert fit_workers(12, MIB) == (12, "")


@pytest.fixture
def pool(monkeypatch):
    """The pool of two workers. This process takes the part of the second."""
    monkeypatch.setattr(shared_memory, "get_worker_info", lambda: SimpleNamespace(id=1))
    return BatchPool(2)


def stack(pool, value, count=2, dtype=torch.uint8):
    return pool.stack([torch.full((3, 4, 4), value, dtype=dtype)] * count)


def test_a_batch_keeps_its_place_until_it_is_released(pool):
    batches = [stack(pool, value) for value in range(5)]
    assert [batch.place for batch in batches] == [0, 1, 2, -1, -1]
    assert [batch.images.unique().tolist() for batch in batches] == [[value] for value in range(5)]
    assert all(batch.images.is_shared() and batch.worker == 1 for batch in batches)
    pool.release(batches[3])
    pool.release(batches[1])
    again = stack(pool, 9)
    assert again.place == 1
    assert again.images.data_ptr() == batches[1].images.data_ptr()
    assert stack(pool, 9).place == -1
    pool.release_all()
    assert [stack(pool, 9).place for _ in range(4)] == [0, 1, 2, -1]


def test_the_other_workers_places_stay_as_they_are(pool, monkeypatch):
    stack(pool, 1)
    monkeypatch.setattr(shared_memory, "get_worker_info", lambda: SimpleNamespace(id=0))
    other = [stack(pool, 1) for _ in range(2)]
    pool.release(other[0])
    assert pool._is_used.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    ("count", "dtype", "is_same"), [(1, torch.uint8, True), (8, torch.uint8, False), (2, torch.float32, False)]
)
def test_a_place_is_large_enough_for_its_batch(pool, count, dtype, is_same):
    first = stack(pool, 1)
    pool.release(first)
    second = stack(pool, 7, count, dtype)
    assert torch.equal(second.images, torch.full((count, 3, 4, 4), 7, dtype=dtype))
    assert (second.images.data_ptr() == first.images.data_ptr()) == is_same


def test_without_workers_memory_is_not_shared():
    batch = stack(BatchPool(0), 1)
    assert not batch.images.is_shared()
    assert batch.place == -1


def test_no_space_in_shared_memory_is_an_error(pool, monkeypatch):
    def run_out(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", run_out)
    message = r"^a worker found no space for a batch in /dev/shm: .*--shm-size 8g.* \(0 needs none\)\.$"
    with pytest.raises(UserError, match=message):
        stack(pool, 1)
