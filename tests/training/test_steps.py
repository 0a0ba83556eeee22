"""What ends a run between two steps. The state is saved first, and the resumed run reaches the same weights."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from mprnet import UserError
from mprnet.inference.distributed import World
from mprnet.training.advice import describe_memory
from mprnet.training.state import LATEST
from mprnet.training.stopping import Stopped
from training.runs import Grey, Noise, are_equal, make_trainer, run_processes, tiny_settings

SIDE = ["TRAINING.TRAIN_PS", 16]


def load(folder: Path) -> dict:
    return torch.load(folder / LATEST, weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """The last checkpoint of a run that nothing has ended early."""
    folder = tmp_path_factory.mktemp("whole")
    make_trainer(folder, tiny_settings()).run()
    return load(folder)


def finish(folder: Path, whole: dict) -> None:
    make_trainer(folder, tiny_settings("TRAINING.RESUME", True)).run()
    assert are_equal(load(folder)["state_dict"], whole["state_dict"])


class Stalls(Noise):
    """Its n-th sample does not come: the disk is stuck. Meanwhile a signal arrives at the trainer."""

    def __init__(self, sample: int, number: int) -> None:
        super().__init__()
        self.left, self.number, self.trainer = sample, number, os.getpid()

    def __getitem__(self, key):
        self.left -= 1
        if self.left == 0:
            os.kill(self.trainer, self.number)
            time.sleep(60)
        return super().__getitem__(key)


# The signal may come while PyTorch opens a socket to a worker. Python closes it then, with this warning.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_heard_while_a_batch_stalls(tmp_path, whole, number, workers):
    handler = signal.signal(number, signal.SIG_DFL)  # under nohup, SIGHUP is ignored
    try:
        trainer = make_trainer(tmp_path, tiny_settings(), Stalls(6, number), workers=workers)
        with pytest.raises(Stopped, match="stopped after 0 epochs"):
            trainer.run()
    finally:
        signal.signal(number, handler)
    assert trainer.signals.number == number
    finish(tmp_path, whole)


class Dies(Noise):
    """The worker that reads the n-th sample is killed, as by the system when memory runs out."""

    def __init__(self, sample: int) -> None:
        super().__init__()
        self.left = sample

    def __getitem__(self, key):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


def test_a_killed_worker_costs_no_step(tmp_path, whole):
    with pytest.raises(UserError, match=r"lower TRAINING\.WORKERS"):
        make_trainer(tmp_path, tiny_settings(), Dies(12), workers=1).run()
    assert load(tmp_path)["epoch"] == 1
    finish(tmp_path, whole)


def test_broken_data_costs_no_step(tmp_path, whole):
    class Broken(Noise):
        def __getitem__(self, key):
            if key[0] == 2:
                raise UserError("a.png: broken.")
            return super().__getitem__(key)

    with pytest.raises(UserError, match=r"a\.png: broken"):
        make_trainer(tmp_path, tiny_settings(), Broken()).run()
    assert (load(tmp_path)["epoch"], load(tmp_path)["steps_done"]) == (1, 0)
    finish(tmp_path, whole)


def test_broken_data_at_the_start_leaves_no_run(tmp_path):
    class Broken(Noise):
        def __getitem__(self, key):
            raise UserError("a.png: broken.")

    with pytest.raises(UserError, match=r"a\.png: broken"):
        make_trainer(tmp_path, tiny_settings(), Broken()).run()
    assert not (tmp_path / LATEST).exists()


def test_a_device_out_of_memory_costs_no_step(tmp_path, monkeypatch, whole):
    trainer = make_trainer(tmp_path, tiny_settings())
    forward, calls = trainer.stepper.model.forward, []

    def run_out(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(*arguments, **options)

    monkeypatch.setattr(trainer.stepper.model, "forward", run_out)
    with pytest.raises(UserError, match=r"more memory than cpu has \(.*\): set TRAINING.PRECISION bf16, then"):
        trainer.run()
    assert load(tmp_path)["steps_done"] == 2
    finish(tmp_path, whole)


def test_the_advice_about_memory_is_in_order_and_names_what_is_not_set():
    device = torch.device("cpu")
    sentence = describe_memory(tiny_settings(), device)
    places = [sentence.index(key) for key in ("PRECISION bf16", "CHECKPOINTING True", "ACCUMULATE 2", "BATCH_SIZE")]
    assert places == sorted(places)
    options = ["TRAINING.PRECISION", "bf16", "TRAINING.CHECKPOINTING", True, "OPTIM.ACCUMULATE", 4]
    sentence = describe_memory(tiny_settings(*options), device)
    assert "PRECISION" not in sentence
    assert "CHECKPOINTING" not in sentence
    assert "ACCUMULATE 8" in sentence


def train_with_a_stalled_process(world: World, folder: Path) -> None:
    """The disk of the second process is stuck, and both processes get SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    data = Stalls(4, signal.SIGTERM) if world.rank == 1 else Noise()
    data.trainer = os.getpid()
    with pytest.raises(Stopped, match="stopped after 0 epochs and 1 steps"):
        make_trainer(folder, tiny_settings(*SIDE), data, Grey(), world).run()


def train_with_a_broken_file(world: World, folder: Path) -> None:
    """The second process cannot read a file."""

    class Broken(Noise):
        def __getitem__(self, key):
            if world.rank == 1 and key[0] == 2:
                raise UserError("a.png: broken.")
            return super().__getitem__(key)

    with pytest.raises(UserError, match=r"a\.png: broken"):
        make_trainer(folder, tiny_settings(*SIDE), Broken(), Grey(), world).run()


def train_with_a_broken_first_file(world: World, folder: Path) -> None:
    """The second process can read nothing."""

    class Broken(Noise):
        def __getitem__(self, key):
            if world.rank == 1:
                raise UserError("a.png: broken.")
            return super().__getitem__(key)

    with pytest.raises(UserError, match=r"a\.png: broken"):
        make_trainer(folder, tiny_settings(*SIDE), Broken(), Grey(), world).run()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("train", "steps"),
    [
        (train_with_a_stalled_process, (0, 1)),
        (train_with_a_broken_file, (1, 0)),
        (train_with_a_broken_first_file, None),
    ],
)
def test_if_one_process_has_no_batch_all_save_and_stop(tmp_path, train, steps):
    assert run_processes(2, tmp_path, train, tmp_path / "run") == [0, 0]
    if steps is None:  # there is nothing to save
        assert not (tmp_path / "run" / LATEST).exists()
        return
    assert (load(tmp_path / "run")["epoch"], load(tmp_path / "run")["steps_done"]) == steps
