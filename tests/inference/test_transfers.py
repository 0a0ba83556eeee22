"""The order of copies and waits, on a machine without a GPU."""

import contextlib
import threading

import pytest
import torch

from mprnet import Restorer
from mprnet.data.photo_writing import write_photo
from mprnet.data.photos import Photo
from mprnet.inference import transfers
from mprnet.inference.folder import restore_all
from mprnet.inference.jobs import Job
from mprnet.inference.transfers import Transfers

CPU = torch.device("cpu")


class Log(list):
    """What streams and events are told, in order."""

    def __init__(self, monkeypatch) -> None:
        log = self

        class Stream:
            def __init__(self, device):
                self.name = "up" if "up" not in [each.name for each in streams] else "down"
                streams.append(self)

            def wait_stream(self, other):
                log.append(f"{self.name} waits for {other.name}")

            def record_event(self):
                log.append(f"event of {self.name}")
                return self

            def synchronize(self):
                log.append(f"host waits for {self.name}")

        streams = []
        current = Stream.__new__(Stream)
        current.name = "current"
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: log.append(f"kept for {stream.name}"))
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self.pin(tensor))
        monkeypatch.setattr(transfers, "to_device", lambda tensor, device: log.append("copy up") or tensor.clone())
        monkeypatch.setattr(transfers, "_empty_pinned", lambda tensor: Pinned(log, tensor))
        self.pinning: list[str] = []  # the names of the threads that pin images

    def pin(self, tensor):
        self.pinning.append(threading.current_thread().name)
        return tensor.clone()


class Pinned:
    """Pinned memory, to which a tensor is copied."""

    def __init__(self, log: Log, tensor: torch.Tensor) -> None:
        self.log = log

    def copy_(self, tensor, non_blocking=False):
        self.log.append("copy down" if non_blocking else "copy down, with a wait")
        return tensor.clone()


@pytest.fixture
def log(monkeypatch) -> Log:
    return Log(monkeypatch)


def make_transfers() -> Transfers:
    made = Transfers(torch.device("cuda", 0))
    made.device = CPU
    return made


def test_the_network_waits_for_the_upload_and_the_host_only_for_the_download(log):
    copies = make_transfers()
    image = torch.rand(1, 3, 4, 4)
    assert copies.overlaps
    assert torch.equal(copies.upload(copies.pin(image)), image)
    wait = copies.download([image, image + 1], CPU)
    up = ["copy up", "current waits for up", "kept for current"]
    assert log == [*up, "down waits for current", *["copy down", "kept for down"] * 2, "event of down"]
    first, second = wait()
    assert log[-1] == "host waits for down"
    assert torch.equal(second, image + 1)
    assert torch.equal(first, image)


def test_the_next_pictures_work_is_queued_before_the_last_result_is_waited_for(log, tiny, tmp_path):
    """In a folder, and whatever the files do."""
    restorer = Restorer(tiny, "cpu")
    restorer.transfers = make_transfers()
    restorer._run = lambda batch, grid: log.append("network") or [batch]
    jobs = []
    for number in range(4):
        jobs.append(Job(tmp_path / f"{number}.png", tmp_path / "out" / f"{number}.png"))
        write_photo(jobs[-1].source, Photo(torch.full((8, 8, 3), number, dtype=torch.uint8).numpy()))
    assert restore_all(jobs, restorer).done == 4
    order = [each for each in log if each in ("network", "host waits for down")]
    assert order == ["network", *["network", "host waits for down"] * 3, "host waits for down"]
    # Results and the flag that says whether they are finite are copied together, by threads that do not wait.
    assert log.count("copy down") == 2 * 4
    assert len(log.pinning) == 4
    assert all(name.startswith("read") for name in log.pinning)


def test_without_a_gpu_nothing_is_copied():
    copies = Transfers(CPU)
    image = torch.rand(1, 3, 4, 4)
    assert not copies.overlaps
    assert copies.pin(image) is image
    assert copies.upload(image) is image
    assert copies.download([image], CPU)()[0] is image


def test_without_enough_pinned_memory_pictures_are_copied_with_a_wait(log, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError(message)

    copies = make_transfers()
    image = torch.rand(1, 3, 4, 4)
    monkeypatch.setattr(torch.Tensor, "pin_memory", fail)
    message = "CUDA error: out of memory"
    assert copies.pin(image) is image
    message = "CUDA error: invalid argument"
    with pytest.raises(RuntimeError, match="invalid"):
        copies.pin(image)


@pytest.mark.parametrize("is_short", [False, True])
def test_results_are_copied_to_pinned_memory_if_there_is_some(monkeypatch, is_short):
    def make(tensor, device, pin_memory=False):
        if pin_memory and is_short:
            raise RuntimeError("CUDA error: out of memory")
        return "pinned" if pin_memory else "other"

    monkeypatch.setattr(torch, "empty_like", make)
    assert transfers._empty_pinned(torch.zeros(1)) == ("other" if is_short else "pinned")
