"""Whole runs of a tiny network: their logs, files, skipped steps and stops."""

import io
import itertools
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mprnet import UserError
from mprnet.inference.distributed import World
from mprnet.training import logs, loop, state, stopping, writer
from mprnet.training import progress as module
from mprnet.training.loading import load_batches
from mprnet.training.mixup import draw_mixup
from mprnet.training.state import LATEST
from mprnet.training.stopping import Stopped
from training.runs import (
    ONE_PROCESS,
    SLOW_LOGS,
    Grey,
    Noise,
    are_equal,
    make_trainer,
    overwrite_released_batches,
    read_log,
    tiny_settings,
)


@pytest.fixture(autouse=True)
def _without_slow_logs(monkeypatch):
    for name in SLOW_LOGS:
        monkeypatch.setattr(logs, name, lambda *arguments: None)


def run(folder: Path, *overrides: object, **data: object) -> loop.Trainer:
    trainer = make_trainer(folder, tiny_settings(*overrides), **data)  # type: ignore[arg-type]
    trainer.run()
    return trainer


def replace_validation(monkeypatch, measure: Callable[[], float]) -> list[object]:
    """Replace validations. A validation's PSNR is ``measure()``. Return a list of the networks that are validated."""
    validated: list[object] = []

    def validate(self, model, signals) -> dict[str, float]:
        validated.append(model)
        return {"input_psnr": 20.0, "psnr": measure()}

    monkeypatch.setattr(loop.Validator, "validate", validate)
    return validated


def record_saves(monkeypatch, trainer: loop.Trainer) -> list[tuple[int, int]]:
    """Return a list to which each save of the latest checkpoint appends (epochs done, steps done)."""
    progress, save, places = trainer.progress, trainer.progress.save, []

    def record(**options: bool) -> None:
        places.append((progress.epochs_done, progress.steps_done))
        save(**options)

    monkeypatch.setattr(progress, "save", record)
    return places


def test_hundreds_of_steps_with_a_broken_sample(tmp_path, capsys):
    epochs = ["OPTIM.NUM_EPOCHS", 8, "TRAINING.VAL_AFTER_EVERY", 8]
    trainer = make_trainer(tmp_path, tiny_settings(*epochs), Noise(200, broken=17))
    before = {key: value.clone() for key, value in trainer.stepper.model.state_dict().items()}
    trainer.run()
    rows = read_log(tmp_path)
    assert rows[-1]["step"] == "400"
    assert {row["skipped_steps"] for row in rows if row["epoch"].isdecimal()} == {"1"}
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert [row["step"] for row in rows] == [f"{step}" for step in range(50, 401, 50)]
    for row in read_log(tmp_path, with_meter=True):
        assert float(row["recent_loss"]) > 0
        assert float(row["samples_per_second"]) > 0
        assert 0 <= float(row["data_wait"]) <= 1
        assert float(row["memory_gib"]) > 0.05
        assert row["end"] > "2026"
    assert len(capsys.readouterr().err) < 8_000
    assert "1 steps skipped (loss or gradient not finite or too large)" in (tmp_path / "log.txt").read_text()
    after = trainer.stepper.model.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not are_equal(after, before)


def test_the_log_has_a_row_for_each_epoch_with_learning_rate_and_loss(tmp_path):
    rates = ["OPTIM.LR_INITIAL", 0.003, "OPTIM.LR_MIN", 0.001, "OPTIM.WARMUP_EPOCHS", 2]
    run(tmp_path, "OPTIM.NUM_EPOCHS", 4, "TRAINING.VAL_AFTER_EVERY", 2, *rates)
    rows = read_log(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["step"] for row in rows] == ["3", "6", "9", "12"]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.0015, 0.003, 0.003, 0.002])
    assert [bool(row["psnr"]) for row in rows] == [False, True, False, True]
    assert float(rows[1]["input_psnr"]) == pytest.approx(20, abs=1e-3)
    assert {path.name for path in tmp_path.glob("*.pth")} == {
        "model_best.pth", "model_epoch_2.pth", "model_epoch_4.pth", LATEST, "model_latest_before.pth"
    }  # fmt: skip


def test_rows_within_an_epoch(tmp_path, monkeypatch):
    """There is one row for a step that is validated, and for the last of an epoch. A resumed run adds no second one."""
    replace_validation(monkeypatch, lambda: 21.0)
    options = ["TRAINING.LOG_STEPS", 2, "TRAINING.VAL_TIMES", 2]
    with pytest.raises(Stopped):
        run(tmp_path, *options, training=Signalling(17, signal.SIGTERM))  # after the fourth step
    run(tmp_path, *options, "TRAINING.RESUME", True)
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows] == ["2", "3", "4", "5", "6"]
    assert [bool(row["psnr"]) for row in rows] == [True, True, False, True, True]
    assert [row["epoch"] for row in rows] == ["0.666667", "1", "1.333333", "1.666667", "2"]


def test_times_of_steps_of_data_and_of_validations(tmp_path, monkeypatch):
    """A step takes 2 seconds, a sample 0.2, and a validation 1000, which does not count."""
    now = [0.0]

    class Slow(Noise):
        def __getitem__(self, key):
            now[0] += 0.2
            return super().__getitem__(key)

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    replace_validation(monkeypatch, lambda: now.__setitem__(0, now[0] + 1000) or 21.0)
    trainer = make_trainer(tmp_path, tiny_settings(), Slow())
    update = trainer.stepper.update

    def slow(*arguments: object, **options: object):
        now[0] += 2
        return update(*arguments, **options)

    monkeypatch.setattr(trainer.stepper, "update", slow)
    trainer.run()  # ten samples in three steps
    rows = read_log(tmp_path, with_meter=True)
    assert [float(row["samples_per_second"]) for row in rows] == pytest.approx([10 / 8] * 2)
    assert [float(row["data_wait"]) for row in rows] == pytest.approx([1 / 4] * 2)


def test_without_log_steps_there_are_only_epochs(tmp_path):
    run(tmp_path, "TRAINING.LOG_STEPS", 0)
    assert [row["step"] for row in read_log(tmp_path)] == ["3", "6"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_seldom_and_only_on_a_terminal(tmp_path, monkeypatch):
    """While the clock stands still, 200 steps draw it once. Its end and the validation write some more lines."""
    replace_validation(monkeypatch, lambda: 21.0)
    monkeypatch.setattr("tqdm.std.time", lambda: 0.0)
    options = ["OPTIM.NUM_EPOCHS", 1, "OPTIM.BATCH_SIZE", 1]
    for stream, is_drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        run(tmp_path / str(is_drawn), *options, training=Noise(200))
        bars = stream.getvalue().count("epoch 1/1")
        assert 1 <= bars < 10 if is_drawn else not stream.getvalue()


def test_num_iterations_is_rounded_up_to_whole_epochs(tmp_path):
    assert make_trainer(tmp_path, tiny_settings("OPTIM.NUM_ITERATIONS", 7)).epochs == 3  # of three steps each
    assert make_trainer(tmp_path, tiny_settings("OPTIM.NUM_ITERATIONS", 6)).epochs == 2
    assert make_trainer(tmp_path, tiny_settings("OPTIM.NUM_EPOCHS", 5)).epochs == 5


def test_the_best_weights_are_kept(tmp_path, monkeypatch):
    measured = iter([25.0, 27.0, 26.0])
    replace_validation(monkeypatch, lambda: next(measured))
    trainer = run(tmp_path, "OPTIM.NUM_EPOCHS", 3)
    assert trainer.progress.best_psnr == 27.0
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["epoch"] == 2
    assert [row["best_psnr"] for row in read_log(tmp_path)] == ["25.0", "27.0", "27.0"]


def test_a_validation_of_nan_is_not_test_the_best_weights_may_be_from_within_an_epoch(tmp_path, monkeypatch):
    measured = iter([float("nan"), 30.0])
    replace_validation(monkeypatch, lambda: next(measured))
    trainer = run(tmp_path)
    assert trainer.progress.best_psnr == 30.0
    assert (tmp_path / "model_best.pth").exists()


def test_validation_steps_an_epoch(tmp_path, monkeypatch):
    replace_validation(monkeypatch, lambda: 21.0)
    times = ["TRAINING.VAL_TIMES", 3, "TRAINING.VAL_EPOCHS", [1], "TRAINING.VAL_ALL_FROM", 3, "OPTIM.BATCH_SIZE", 2]
    run(tmp_path, "OPTIM.NUM_EPOCHS", 4, *times)
    rows = read_log(tmp_path)
    assert [row["epoch"] for row in rows] == ["0.4", "0.6", "1", "2", "2.4", "2.6", "3", "3.4", "3.6", "4"]
    assert [row["step"] for row in rows] == ["2", "3", "5", "10", "12", "13", "15", "17", "18", "20"]
    assert [bool(row["psnr"]) for row in rows] == [True] * 3 + [False] + [True] * 6
    assert {path.name for path in tmp_path.glob("model_epoch_*")} == {f"model_epoch_{epoch}.pth" for epoch in (1, 3, 4)}


@pytest.mark.parametrize("first_epoch", [0, 1, 2])
def test_mixup_starts_in_its_epoch_and_differs_in_each_step(tmp_path, monkeypatch, first_epoch):
    trainer = make_trainer(tmp_path, tiny_settings("AUGMENT.MIXUP_FROM_EPOCH", first_epoch, "AUGMENT.MIXUP_ALPHA", 2.0))
    update, seen = trainer.stepper.update, []

    def record(degraded, target, counts, mixup, get_flags, **options):
        seen.append(mixup)
        return update(degraded, target, counts, mixup, get_flags, **options)

    monkeypatch.setattr(trainer.stepper, "update", record)
    trainer.run()
    assert [mixup is not None for mixup in seen] == {0: [False] * 6, 1: [True] * 6, 2: [False] * 3 + [True] * 3}[
        first_epoch
    ]
    weights = [tuple(mixup.weights) for mixup in seen if mixup is not None]
    assert len(set(weights)) == len(weights)
    if first_epoch == 1:
        assert [len(row) for row in weights] == [4, 4, 2] * 2
        assert weights[1] == tuple(draw_mixup(4, 2.0, [1234, 1, 1, 1]).weights)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ([], "lower OPTIM.LR_INITIAL (it is 0.001), or set OPTIM.GRAD_CLIP 1"),
        (["OPTIM.GRAD_CLIP", 1.0], "lower OPTIM.LR_INITIAL (it is 0.001)"),
        (
            ["TRAINING.PRECISION", "bf16", "OPTIM.GRAD_CLIP", 1.0],
            "lower OPTIM.LR_INITIAL (it is 0.001), or train with TRAINING.PRECISION fp32",
        ),
    ],
)
def test_too_many_skipped_steps_stop_the_run_and_list_the_batch(tmp_path, options, advice):
    options = ["TRAINING.MAX_BAD_STEPS", 4, *options]
    trainer = make_trainer(tmp_path, tiny_settings(*options), Noise(10, broken=None))
    trainer.data.training.data = type("Broken", (Noise,), {"__getitem__": _make_nan})()
    with pytest.raises(UserError, match="above 100, in 4 steps in a row") as caught:
        trainer.run()
    # This advice is given because the first epoch is done.
    earlier = "start another run from an earlier model_epoch_N.pth (TRAINING.INIT_WEIGHTS)"
    listed = tmp_path / "skipped_batch.txt"
    assert str(caught.value).endswith(f"(the last batch is listed in {listed}): {advice}, or {earlier}.")
    assert trainer.progress.totals.skipped_in_a_row == 4
    trainer.sampler.epoch = 2
    listed = (tmp_path / "skipped_batch.txt").read_text().splitlines()
    assert listed == [f"sample {index}" for index in trainer.sampler.global_batch(0)]


def _make_nan(self: Noise, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((3, 16, 16), float("nan")), torch.zeros(3, 16, 16)


def test_the_previous_checkpoint_survives_a_save_that_fails(tmp_path, monkeypatch):
    """If the latest checkpoint is damaged, the previous one is needed until a new one is written."""
    run(tmp_path, "OPTIM.NUM_EPOCHS", 1)
    (tmp_path / LATEST).write_bytes(b"damaged")

    def raise_no_space(path: Path, content: object) -> None:
        raise UserError(f"{path}: cannot be written (No space left on device).")

    with monkeypatch.context() as patch:
        patch.setattr(state, "write_atomically", raise_no_space)
        with pytest.raises(UserError, match="No space left"):
            run(tmp_path, "TRAINING.RESUME", True)
    assert run(tmp_path, "TRAINING.RESUME", True).progress.epochs_done == 2


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    save_latest, epochs = writer.save_latest, []

    def fail_at_the_end(folder: Path, content: dict, *options: bool) -> None:
        epochs.append(content["epoch"])
        if content["epoch"] == 2:
            raise UserError("no space")
        save_latest(folder, content, *options)

    monkeypatch.setattr(writer, "save_latest", fail_at_the_end)
    with pytest.raises(UserError, match="no space"):
        run(tmp_path)
    assert epochs[-2:] == [2, 2]  # it was tried twice


def test_a_checkpoint_that_could_not_be_written_is_written_after_the_next_step(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, tiny_settings("OPTIM.NUM_EPOCHS", 1))
    places = record_saves(monkeypatch, trainer)
    has_failed = property(lambda self: trainer.progress.steps_done == 1 and not places)
    monkeypatch.setattr(writer.CheckpointWriter, "has_failed", has_failed)
    trainer.run()
    assert places == [(0, 2), (0, 3), (1, 0)]


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys):
    (tmp_path / "log.csv").mkdir()
    assert run(tmp_path).progress.epochs_done == 2
    assert capsys.readouterr().err.count("warning: could not write this line to the log: epoch 1: loss") == 1


class RaisingStopIteration(Noise):
    """Raises StopIteration, as next() of an empty iterator does. A loader ends the epoch then."""

    addressed_by_epoch = False

    def __getitem__(self, key):
        return next(iter([])) if key == 3 else super().__getitem__((1, key))


def test_data_that_ends_too_early_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"item 3 of the training data cannot be read \(StopIteration\)"):
        run(tmp_path / "a", training=RaisingStopIteration())
    trainer = make_trainer(tmp_path / "b", tiny_settings())
    monkeypatch.setattr(loop, "load_batches", lambda loader: itertools.islice(load_batches(loader), 2))
    with pytest.raises(UserError, match="the training data ended after 2 of 3 steps"):
        trainer.run()


class Signalling(Noise):
    """Sends a signal to this process while the n-th sample is read."""

    def __init__(self, sample: int, number: signal.Signals) -> None:
        super().__init__()
        self.left, self.number = sample, number

    def __getitem__(self, key):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.number)
        return super().__getitem__(key)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("sample", [1, 5, 10, 11])
def test_a_run_stopped_by_a_signal_resumes_to_the_same_weights(tmp_path, number, sample):
    """The signal comes while the run waits for the first, second or last batch of an epoch, or for the next one's."""
    handler = signal.getsignal(number)
    whole = run(tmp_path / "whole")
    with pytest.raises(Stopped, match=r"stopped after .* set TRAINING.RESUME True to continue"):
        run(tmp_path / "stopped", training=Signalling(sample, number))
    assert signal.getsignal(number) == handler
    checkpoint = torch.load(tmp_path / "stopped" / LATEST, weights_only=True)
    assert 3 * checkpoint["epoch"] + checkpoint["steps_done"] == {1: 0, 5: 1, 10: 2, 11: 3}[sample]
    resumed = run(tmp_path / "stopped", "TRAINING.RESUME", True)
    assert are_equal(resumed.stepper.model.state_dict(), whole.stepper.model.state_dict())
    assert read_log(tmp_path / "stopped") == read_log(tmp_path / "whole")


@pytest.mark.parametrize(
    ("number", "seconds", "stops_at_once"),
    [(signal.SIGINT, 1.5, True), (signal.SIGINT, 0.5, False), (signal.SIGTERM, 9, False)],
)
def test_a_second_signal(tmp_path, monkeypatch, number, seconds, stops_at_once):
    """A second Ctrl-C after some time is from a user who does not want to wait until the state is saved."""
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    trainer = make_trainer(tmp_path, tiny_settings())
    trainer.signals.handle(number, None)
    assert trainer.signals.number == number
    now[0] = seconds
    if stops_at_once:
        with pytest.raises(KeyboardInterrupt):
            trainer.signals.handle(number, None)
    else:
        trainer.signals.handle(number, None)


def test_signals_do_not_end_a_run_that_writes_its_last_checkpoint(tmp_path, monkeypatch):
    """A second SIGUSR1 would end it at once by default."""
    handlers, close = [], writer.CheckpointWriter.close

    def record(self) -> None:
        handlers.append(signal.getsignal(signal.SIGUSR1))
        close(self)

    monkeypatch.setattr(writer.CheckpointWriter, "close", record)
    trainer = make_trainer(tmp_path, tiny_settings(), Signalling(5, signal.SIGUSR1))
    with pytest.raises(Stopped):
        trainer.run()
    assert handlers == [trainer.signals.handle]


class Bytes(Noise):
    def __getitem__(self, key):
        return tuple(image.clamp(0, 1).mul(255).to(torch.uint8) for image in super().__getitem__(key))


@pytest.mark.parametrize("kind", [Noise, Bytes])
def test_no_step_needs_a_batch_whose_memory_is_used_again(tmp_path, monkeypatch, kind):
    """With floats, the network's input is the memory of the batch itself."""
    options = ["AUGMENT.MIXUP_FROM_EPOCH", 2, "OPTIM.EMA", 0.9, "OPTIM.ACCUMULATE", 2, "TRAINING.VAL_TIMES", 3]
    alone = run(tmp_path / "alone", *options, training=kind())
    overwritten = overwrite_released_batches(monkeypatch)
    shared = run(tmp_path / "shared", *options, training=kind(), workers=2)
    assert set(overwritten) == {0, 1}
    for name in ("model", "eval_model"):
        assert are_equal(*(getattr(trainer.stepper, name).state_dict() for trainer in (alone, shared)))
    assert read_log(tmp_path / "alone") == read_log(tmp_path / "shared")


def test_save_minutes_0_saves_after_every_step(tmp_path, monkeypatch):
    for minutes, saves in ((0.0, 3), (1e9, 0)):
        folder = tmp_path / str(saves)
        trainer = make_trainer(folder, tiny_settings("OPTIM.NUM_EPOCHS", 1, "TRAINING.SAVE_MINUTES", minutes))
        places = record_saves(monkeypatch, trainer)
        trainer.run()
        assert [place for place in places if place[1] > 0][:-1] == [(0, 1), (0, 2), (0, 3)][:saves]
        assert places[-2:] == [(0, 3), (1, 0)]  # before the validation, and after it


def test_the_ema_is_validated_and_saved_as_weights(tmp_path, monkeypatch):
    validated = replace_validation(monkeypatch, lambda: 21.0)
    trainer = run(tmp_path, "OPTIM.EMA", 0.9)
    ema = trainer.stepper.ema
    assert ema is not None
    assert validated == [ema.module] * 2
    checkpoint = torch.load(tmp_path / LATEST, weights_only=True)
    assert are_equal(checkpoint["state_dict"], ema.module.state_dict())
    assert are_equal(checkpoint["trained"], trainer.stepper.model.state_dict())


def test_a_resumed_run_has_the_same_ema(tmp_path):
    whole = run(tmp_path / "whole", "OPTIM.EMA", 0.9)
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", "OPTIM.EMA", 0.9, training=Signalling(5, signal.SIGTERM))
    resumed = run(tmp_path / "stopped", "OPTIM.EMA", 0.9, "TRAINING.RESUME", True)
    assert are_equal(resumed.stepper.eval_model.state_dict(), whole.stepper.eval_model.state_dict())


def test_save_images_and_on_broken_reach_the_validation(tmp_path):
    class OneBroken(Grey):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index):
            if index == 0:
                raise UserError("0.png: broken.")
            return super().__getitem__(index)

    with pytest.raises(UserError, match=r"0\.png: broken"):
        run(tmp_path / "a", "OPTIM.NUM_EPOCHS", 1, validation=OneBroken())
    options = ["TRAINING.SAVE_IMAGES", True, "TRAINING.ON_BROKEN", "skip"]
    run(tmp_path / "b", "OPTIM.NUM_EPOCHS", 1, *options, validation=OneBroken())
    assert [path.name for path in (tmp_path / "b" / "validation").iterdir()] == ["grey.png"]


def test_the_validation_data_is_used(tmp_path):
    trainer = run(tmp_path, validation=Grey(0.3))
    assert float(read_log(tmp_path)[-1]["input_psnr"]) == pytest.approx(13.979, abs=1e-3)
    assert trainer.progress.best_psnr == pytest.approx(float(read_log(tmp_path)[-1]["best_psnr"]))


def test_an_equal_psnr_does_not_replace_test_the_best_weights_may_be_from_within_an_epoch(tmp_path, monkeypatch):
    replace_validation(monkeypatch, lambda: 25.0)
    run(tmp_path, "OPTIM.NUM_EPOCHS", 3)
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["epoch"] == 1


def test_the_best_weights_may_be_from_within_an_epoch(tmp_path, monkeypatch):
    measured = iter([25.0, 21.0, 20.0])
    replace_validation(monkeypatch, lambda: next(measured))
    run(tmp_path, "OPTIM.NUM_EPOCHS", 1, "TRAINING.VAL_TIMES", 3)
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert (best["epoch"], best["steps_done"], best["best_psnr"]) == (0, 1, 25.0)


def test_the_last_epoch_is_always_validated(tmp_path):
    run(tmp_path, "OPTIM.NUM_EPOCHS", 3, "TRAINING.VAL_AFTER_EVERY", 2)
    assert [bool(row["psnr"]) for row in read_log(tmp_path)] == [False, True, True]


@pytest.mark.parametrize(("ema", "values"), [(0.0, 3), (0.9, 4)])
def test_a_disk_without_space_for_four_checkpoints_is_noted(tmp_path, monkeypatch, capsys, ema, values):
    trainer = make_trainer(tmp_path, tiny_settings("OPTIM.EMA", ema))
    size = 4 * values * sum(parameter.numel() for parameter in trainer.stepper.model.parameters())
    free = shutil.disk_usage(tmp_path)._replace(free=4 * size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    trainer.run()
    assert f"MiB are free in {tmp_path}: free some space, or set TRAINING.SAVE_DIR to" in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free._replace(free=4 * size))
    make_trainer(tmp_path / "other", tiny_settings("OPTIM.EMA", ema)).run()
    assert "free some space" not in capsys.readouterr().out


def test_notes_of_the_data_are_printed(tmp_path):
    trainer = make_trainer(tmp_path, tiny_settings("OPTIM.NUM_EPOCHS", 1))
    trainer.data.notes.append("something to know")
    trainer.run()
    assert "note: something to know" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(("minutes", "saves"), [(1.0, 3), (2.0, 0)])
def test_save_minutes_are_minutes(tmp_path, monkeypatch, minutes, saves):
    monkeypatch.setattr(loop.Progress, "seconds_since_save", 90.0)
    trainer = make_trainer(tmp_path, tiny_settings("OPTIM.NUM_EPOCHS", 1, "TRAINING.SAVE_MINUTES", minutes))
    places = record_saves(monkeypatch, trainer)
    trainer.run()
    assert [steps for _, steps in places] == [*[1, 2, 3][:saves], 3, 0]  # before the validation, and after it


class Second(World):
    """The second of two processes. All sums over processes are those of this process alone."""

    def all_reduce(self, *values: float) -> list[float]:
        return list(values)

    def all_reduce_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    """The run is without DistributedDataParallel, which needs a real process group."""
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda network, **options: network)
    world = Second(1, 2, ONE_PROCESS.device)
    trainer = make_trainer(tmp_path, tiny_settings("TRAINING.VAL_AFTER_EVERY", 1), world=world)
    replace_validation(monkeypatch, lambda: 21.0)
    trainer.run()
    assert trainer.progress.epochs_done == 2
    trainer.steps._make_divergence_error()
    assert not list(tmp_path.iterdir())


def test_workers_end_if_the_run_fails(tmp_path, monkeypatch, list_children):
    def fail(*arguments: object, **options: object) -> None:
        raise UserError("no")

    trainer = make_trainer(tmp_path, tiny_settings(), workers=1)
    monkeypatch.setattr(trainer.stepper, "update", fail)
    with pytest.raises(UserError, match="no"):
        trainer.run()
    assert not list_children()


def test_a_resumed_run_does_not_repeat_a_validation_within_an_epoch(tmp_path, monkeypatch):
    """The run is stopped after the validation of its first step, and resumes with the second step."""
    validated = replace_validation(monkeypatch, lambda: 21.0)
    times = ["OPTIM.NUM_EPOCHS", 1, "TRAINING.VAL_TIMES", 3]
    with pytest.raises(Stopped):
        run(tmp_path, *times, training=Signalling(5, signal.SIGTERM))  # before the second step
    assert len(validated) == 1
    run(tmp_path, *times, "TRAINING.RESUME", True)
    assert len(validated) == 3
    assert [row["step"] for row in read_log(tmp_path)] == ["1", "2", "3"]


def test_the_time_between_checkpoints_is_counted_from_the_last_one(tmp_path, monkeypatch):
    """With steps of 400 seconds and checkpoints every 15 minutes, there is a checkpoint at every third step."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    trainer = make_trainer(tmp_path, tiny_settings("OPTIM.NUM_EPOCHS", 1), Noise(28))
    places, update = record_saves(monkeypatch, trainer), trainer.stepper.update

    def slow(*arguments: object, **options: object):
        now[0] += 400
        return update(*arguments, **options)

    monkeypatch.setattr(trainer.stepper, "update", slow)
    trainer.run()
    assert [steps for _, steps in places] == [3, 6, 7, 0]


def test_luma_chooses_the_best_model_if_the_settings_say_so(tmp_path, monkeypatch):
    """RGB PSNR is the highest in the first epoch, and that of luma in the second."""
    values = [{"psnr": 31.0, "luma_psnr": 30.0}, {"psnr": 30.0, "luma_psnr": 33.0}, {"psnr": 29.0, "luma_psnr": 32.0}]
    inputs = {"input_psnr": 20.0, "input_luma_psnr": 21.0}
    for best_by, best, column, epoch in (("rgb", 31.0, "best_psnr", 1), ("luma", 33.0, "best_luma_psnr", 2)):
        measured = iter(values)
        monkeypatch.setattr(loop.Validator, "validate", lambda *arguments, m=measured: inputs | next(m))
        trainer = run(tmp_path / best_by, "OPTIM.NUM_EPOCHS", 3, "TRAINING.BEST_BY", best_by)
        assert (trainer.progress.best_by, trainer.progress.best_psnr) == (best_by, best)
        assert torch.load(tmp_path / best_by / "model_best.pth", weights_only=True)["epoch"] == epoch
        assert float(read_log(tmp_path / best_by)[-1][column]) == best


class SignallingPair(Grey):
    """Two pairs. Sends a signal to this process when the second one is read for the n-th time."""

    def __init__(self, reading: int) -> None:
        super().__init__()
        self.left = reading

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index):
        self.left -= index
        if index and self.left == 0:
            signal.raise_signal(signal.SIGTERM)
        return super().__getitem__(index)


@pytest.mark.parametrize(("reading", "place"), [(2, (0, 1)), (3, (0, 2)), (4, (0, 3))])
def test_a_run_stopped_within_a_validation_repeats_it_and_reaches_the_same_weights(tmp_path, reading, place):
    """The validation is within an epoch, or at its end. The pairs are read once before, for the fingerprint."""
    options = ["TRAINING.VAL_TIMES", 3]
    whole = run(tmp_path / "whole", *options, validation=SignallingPair(-1))
    with pytest.raises(Stopped, match=f"stopped after 0 epochs and {place[1]} steps"):
        run(tmp_path / "stopped", *options, validation=SignallingPair(reading))
    checkpoint = torch.load(tmp_path / "stopped" / LATEST, weights_only=True)
    assert (checkpoint["epoch"], checkpoint["steps_done"]) == place
    assert len(checkpoint["history"]) == place[1] - 1
    resumed = run(tmp_path / "stopped", *options, "TRAINING.RESUME", True, validation=SignallingPair(-1))
    assert are_equal(resumed.stepper.model.state_dict(), whole.stepper.model.state_dict())
    assert read_log(tmp_path / "stopped") == read_log(tmp_path / "whole")


def test_workers_of_the_validation_end_with_the_run(tmp_path, list_children):
    trainer = run(tmp_path, "OPTIM.NUM_EPOCHS", 1, workers=1)
    assert not list_children()
    assert trainer.progress.is_finished
