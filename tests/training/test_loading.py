import errno
import itertools
import multiprocessing.process
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path

import cv2
import psutil
import pytest
import torch
from torch.utils.data import Dataset
from torch.utils.data._utils import signal_handling

from mprnet import UserError
from mprnet.errors import NotPreparedError
from mprnet.inference import launcher
from mprnet.training import loading
from mprnet.training.loading import SampleStacker, choose_workers, load_batches, make_loader, stop_workers
from mprnet.training.order import DistributedBatchSampler
from mprnet.training.stopping import list_stop_signals
from training.runs import Noise, overwrite_released_batches, start


class Acting(Noise):
    """Calls a function in the process that reads the sixth sample."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act = act

    def __getitem__(self, key):
        if key[1] == 5:
            self.act()
        return super().__getitem__(key)


def fail(error: type[UserError]) -> None:
    raise error("3.png: broken.")


def send_signal(number: int) -> None:
    os.kill(os.getpid(), number)


def stall(path: Path | None = None) -> None:
    """Wait for an hour, as for a disk that does not answer. Write the number of this process to a file before."""
    if path is not None:
        path.write_text(str(os.getpid()))
    time.sleep(3600)


class Handlers(Dataset):
    """Each sample says how its process handles signals: whether it ignores them, and has a handler for SIGTERM.

    The target is the number of OpenCV's threads.
    """

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key):
        ignored = (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
        ignores = all(signal.getsignal(number) == signal.SIG_IGN for number in ignored)
        handles = callable(signal.getsignal(signal.SIGTERM))
        handled = torch.tensor([[[float(ignores), float(handles)]]])
        return handled, torch.full_like(handled, cv2.getNumThreads())


def expect_error(loader, sentence: str) -> None:
    """Read batches until an error comes, and compare it."""
    with pytest.raises(UserError, match=sentence):
        list(load_batches(loader))
    stop_workers(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_with_and_without_workers(workers, monkeypatch):
    """Each is valid until the next one is taken."""
    overwritten = overwrite_released_batches(monkeypatch)
    sampler = DistributedBatchSampler(10, 4, seed=1)
    loader = make_loader(Noise(), sampler, workers, pin_memory=False)
    for epoch in (1, 2):
        sampler.epoch = epoch
        if epoch == 2:
            next(load_batches(loader))  # an epoch that is not read to its end
        for (degraded, target), keys in zip(load_batches(loader), sampler, strict=True):
            expected = [Noise()[key] for key in keys]
            assert torch.equal(degraded, torch.stack([sample[0] for sample in expected]))
            assert torch.equal(target, torch.stack([sample[1] for sample in expected]))
        if epoch == 1:
            assert len(overwritten) == (3 if workers else 0)
            assert not loader.collate_fn.pool._is_used.any()
    stop_workers(loader)


@pytest.mark.parametrize(("workers", "error"), [(0, UserError), (1, UserError), (1, NotPreparedError)])
def test_the_error_of_a_worker_has_no_traceback(workers, error):
    data = Acting(partial(fail, error))
    loader = make_loader(data, DistributedBatchSampler(10, 4, seed=1), workers, pin_memory=False)
    expect_error(loader, r"^3\.png: broken\.$")


@pytest.fixture
def threads():
    """How many threads OpenCV has in this process, also on a machine of one processor."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    yield 2
    cv2.setNumThreads(before)


def test_workers_do_not_end_on_signals_and_have_one_thread(threads):
    loader = make_loader(Handlers(), DistributedBatchSampler(1, 1, seed=1), 1, pin_memory=False)
    assert [batch.flatten().tolist() for batch in load_batches(loader)] == [[1, 1, 1, 1]]
    assert cv2.getNumThreads() == threads
    stop_workers(loader)


def test_opencv_has_one_thread_while_workers_start(threads):
    """A process that is forked while OpenCV has more threads can hang."""

    class Loader:
        num_workers = 0
        collate_fn = None

        def __iter__(self):
            self.threads = cv2.getNumThreads()
            return (cv2.getNumThreads() for _ in range(1))

    loader = Loader()
    assert list(load_batches(loader)) == [threads]
    assert loader.threads == 1


def test_workers_stay_for_the_next_epoch_until_they_are_stopped():
    loader = make_loader(Noise(), DistributedBatchSampler(10, 4, seed=1), 1, pin_memory=False)
    list(load_batches(loader))
    (worker,) = loader._iterator._workers
    list(load_batches(loader))
    assert loader._iterator._workers == [worker]
    assert worker.is_alive()
    stop_workers(loader)
    assert not worker.is_alive()
    stop_workers(make_loader(Noise(), DistributedBatchSampler(10, 4, seed=1), 0, pin_memory=False))


def test_items_of_several_sizes_are_an_error():
    small, large = (tuple(torch.zeros(2, 3, 8, side)) for side in (8, 16))
    with pytest.raises(UserError, match="several sizes, 16x8 and 8x8: crop them to one size"):
        SampleStacker(0)([small, large])
    assert [part.shape for part in SampleStacker(0)([small, small]).images] == [(2, 3, 8, 8)] * 2


def test_a_batch_is_of_bytes_only_if_all_its_samples_are():
    byte, real = torch.full((2, 3, 8, 8), 51, dtype=torch.uint8), torch.full((2, 3, 8, 8), 0.4)
    assert [part.dtype for part in SampleStacker(0)([tuple(byte), tuple(byte)]).images] == [torch.uint8] * 2
    for part in SampleStacker(0)([tuple(byte), tuple(real)]).images:
        assert part.dtype == torch.float32
        assert part[:, 0, 0, 0].tolist() == [torch.tensor(51.0).div(255).item(), real[0, 0, 0, 0].item()]


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(1, 1, 0), (2, 1, 0), (8, 1, 6), (64, 1, 12), (64, 8, 6), (8, 8, 0)]
)
def test_number_of_workers(monkeypatch, cores, processes, workers):
    monkeypatch.setattr(launcher, "available_processors", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert choose_workers() == workers
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert choose_workers() == max(0, min(12, cores - 2))


def test_a_worker_continues_for_30_seconds_after_sigterm(monkeypatch, threads):
    """The trainer still needs a batch from it."""
    before = {number: signal.getsignal(number) for number in list_stop_signals()}
    monkeypatch.setattr(Queue, "_on_queue_feeder_error", None)  # is replaced, too
    monkeypatch.setattr(torch.multiprocessing, "_prctl_pr_set_pdeathsig", lambda number: None)
    alarms = []
    monkeypatch.setattr(loading.signal, "alarm", alarms.append)
    try:
        loading._prepare_worker(0)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert alarms == [30]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGKILL, r"was killed, .*: lower TRAINING.WORKERS \(it is 1\)"),
        (signal.SIGBUS, r"/dev/shm: .*--shm-size.* TRAINING.WORKERS \(it is 1; 0 needs none\)"),
        (signal.SIGSEGV, r"has ended by SIGSEGV\. What it says is above; with TRAINING.WORKERS 0"),
    ],
)
def test_a_dead_worker_is_an_error_when_its_batch_is_awaited(number, sentence):
    loader = make_loader(
        Acting(partial(send_signal, number)), DistributedBatchSampler(10, 2, seed=1), 1, pin_memory=False
    )
    expect_error(loader, sentence)


def test_a_dead_worker_does_not_interrupt_a_step(monkeypatch):
    """PyTorch's handler of SIGCHLD raises an error wherever the program is."""
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    loader = make_loader(Noise(), DistributedBatchSampler(10, 2, seed=1), 1, pin_memory=False)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        next(load_batches(loader))
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)
        stop_workers(loader)


def test_a_worker_that_ends_is_an_error():
    loader = make_loader(Acting(partial(os._exit, 0)), DistributedBatchSampler(10, 2, seed=1), 1, pin_memory=False)
    expect_error(loader, "has ended with status 0")


def test_a_batch_that_cannot_be_sent_is_an_error(capfd):
    """Python would drop it, and the trainer would wait for ever."""
    numbers = itertools.count(1)

    def collate(samples):
        return threading.Lock() if next(numbers) == 3 else SampleStacker(1)(samples)  # locks cannot be pickled

    loader = make_loader(Noise(), DistributedBatchSampler(10, 2, seed=1), 1, pin_memory=False)
    loader.collate_fn = collate
    expect_error(loader, r"has ended with status 1\. What it says is above")
    assert "cannot send a batch: cannot pickle '_thread.lock' object" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EAGAIN, r"cannot be started \(.*\): lower TRAINING.WORKERS \(it is 2; 0 needs none\), or raise"),
        (errno.ENOSPC, r"/dev/shm: .*--shm-size.* TRAINING.WORKERS \(it is 2; 0 needs none\)\.$"),
    ],
)
def test_processes_that_cannot_be_started_are_an_error(monkeypatch, capfd, number, sentence):
    """The second one, as with ulimit -u."""
    numbers, start_process = itertools.count(1), multiprocessing.process.BaseProcess.start

    def refuse(process):
        if next(numbers) == 2:
            raise OSError(number, os.strerror(number))
        start_process(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    loader = make_loader(Noise(), DistributedBatchSampler(10, 2, seed=1), 2, pin_memory=False)
    expect_error(loader, sentence)
    assert not capfd.readouterr().err


def test_a_stalled_worker_is_not_waited_for():
    loader = make_loader(Acting(stall), DistributedBatchSampler(10, 10, seed=1), 1, pin_memory=False)
    iter(loader)
    (worker,) = loader._iterator._workers
    stop_workers(loader)
    assert worker.exitcode == -signal.SIGKILL


def load_until_killed(path: Path) -> None:
    data = Acting(partial(stall, path))
    next(load_batches(make_loader(data, DistributedBatchSampler(10, 10, seed=1), 1, pin_memory=False)))


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process that its parent has ended")
def test_a_stalled_worker_ends_when_the_trainer_is_killed(tmp_path):
    path = tmp_path / "worker"
    process = start(load_until_killed, path)
    while process.is_alive() and not (path.exists() and path.read_text()):
        time.sleep(0.01)
    worker = psutil.Process(int(path.read_text()))
    process.kill()
    worker.wait(60)
