"""The counters of a run, its learning rate, and its checkpoints."""

import pytest
import torch

from mprnet.inference.distributed import World
from mprnet.training import progress as module
from mprnet.training.datasets import RunData
from mprnet.training.logs import RunLogger
from mprnet.training.order import DistributedBatchSampler
from mprnet.training.progress import Progress
from mprnet.training.samples import TrainingSamples, ValidationPairs
from mprnet.training.state import LATEST, Checkpoint, load_latest
from mprnet.training.step import Stepper
from training.runs import ONE_PROCESS, Grey, Noise, are_equal, tiny_network, tiny_settings

SECOND = World(1, 2, torch.device("cpu"))


def make_progress(
    folder, *overrides: object, epochs: int = 4, world: World = ONE_PROCESS, samples: int = 10
) -> Progress:
    """Return the progress of a run with three steps in an epoch."""
    settings = tiny_settings("OPTIM.LR_INITIAL", 0.8, "OPTIM.LR_MIN", 0.0, "OPTIM.WARMUP_EPOCHS", 2, *overrides)
    data = RunData(TrainingSamples(Noise(), 0), ValidationPairs(Grey()), "noise", {"held_out": ["a"]})
    stepper = Stepper(tiny_network().train(), settings, ONE_PROCESS)
    sampler = DistributedBatchSampler(samples, settings.OPTIM.BATCH_SIZE, settings.TRAINING.SEED)
    logger = RunLogger(folder, is_main=world.is_main)
    return Progress(stepper, sampler, epochs, logger, {"task": "Mine"}, data, settings, world)


def save(progress: Progress) -> None:
    """Save, and wait until the checkpoint is written."""
    progress.save()
    progress.writer.wait()


def save_run(folder, steps: int, best_psnr: float = float("-inf")) -> Checkpoint:
    """Return the checkpoint of a run after so many steps."""
    progress = make_progress(folder)
    advance(progress, steps)
    progress.best_psnr = best_psnr
    save(progress)
    return load_latest(folder)


def learning_rate(progress: Progress) -> float:
    (group,) = progress._stepper.optimizer.param_groups
    return group["lr"]


def advance(progress: Progress, steps: int) -> None:
    for _ in range(steps):
        progress.steps_done += 1
        progress.totals.add(2.0, 4, True)
        if progress.steps_done == 3:
            progress.end_epoch()


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_counters_and_learning_rate_in_each_step(tmp_path):
    progress = make_progress(tmp_path)
    places, rates = [], []
    for _ in range(12):
        assert not progress.is_finished
        places.append((progress.epochs_done, progress.steps_done, progress.total_steps))
        rates.append(learning_rate(progress))
        advance(progress, 1)
    assert places == [(step // 3, step % 3, step) for step in range(12)]
    assert rates == pytest.approx([0.4] * 3 + [0.8] * 3 + [0.8] * 3 + [0.4] * 3)
    assert progress.is_finished
    assert (progress.totals.loss, progress.totals.samples) == (0.0, 0.0)


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_the_content_of_a_checkpoint(tmp_path):
    progress = make_progress(tmp_path)
    advance(progress, 5)
    progress.best_psnr = 31.5
    progress._logger.history = [{"epoch": 1}]
    content = progress.make_checkpoint()
    assert {key: content[key] for key in ("epoch", "steps_before", "steps_done", "best_psnr", "history")} == {
        "epoch": 1, "steps_before": 3, "steps_done": 2, "best_psnr": 31.5, "history": [{"epoch": 1}]
    }  # fmt: skip
    assert content["totals"] == {"loss": 4.0, "samples": 8.0, "skipped": 0.0}
    assert content["metadata"] == {"task": "Mine", "epoch": "1"}
    assert content["split"] == {"held_out": ["a"]}
    assert content["settings"]["OPTIM.LR_INITIAL"] == 0.8
    assert set(content["validation"]) == {"pictures", "TRAINING.VAL_PS", "measure"}
    assert content["trained"] is None
    assert {"optimizer", "scaler", "average"} <= set(content)
    assert are_equal(content["state_dict"], progress._stepper.model.state_dict())


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_resumed_run_has_the_same_counters_and_learning_rate(tmp_path):
    first = make_progress(tmp_path)
    advance(first, 8)
    first.best_psnr = 31.5
    first._logger.history = [{"epoch": 1}, {"epoch": 2}]
    save(first)
    resumed = make_progress(tmp_path)
    resumed.resume(load_latest(tmp_path))
    for name in ("epochs_done", "steps_done", "total_steps", "best_psnr"):
        assert getattr(resumed, name) == getattr(first, name), name
    assert resumed.totals.state_dict() == first.totals.state_dict()
    assert resumed._logger.history == first._logger.history
    assert learning_rate(resumed) == learning_rate(first)
    advance(first, 1)
    advance(resumed, 1)
    assert learning_rate(resumed) == learning_rate(first) == pytest.approx(0.4)


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("change", [["OPTIM.BATCH_SIZE", 5], ["TRAINING.SEED", 8]])
def test_changed_batches_restart_the_epoch_and_its_steps_still_count(tmp_path, change):
    checkpoint = save_run(tmp_path, 5)
    resumed = make_progress(tmp_path, *change)
    resumed.resume(checkpoint)
    assert (resumed.epochs_done, resumed.steps_done, resumed.total_steps) == (1, 0, 5)
    assert resumed.totals.samples == 0.0


def test_a_changed_number_of_samples_restarts_the_epoch(tmp_path):
    checkpoint = save_run(tmp_path, 2)
    resumed = make_progress(tmp_path, samples=12)
    resumed.resume(checkpoint)
    assert (resumed.steps_done, resumed.total_steps) == (0, 2)


def test_changed_batches_do_not_matter_at_the_end_of_an_epoch(tmp_path, capsys):
    checkpoint = save_run(tmp_path, 3)
    resumed = make_progress(tmp_path, "OPTIM.BATCH_SIZE", 5)
    resumed.resume(checkpoint)
    assert (resumed.epochs_done, resumed.total_steps) == (1, 3)
    assert "trained from its start" not in capsys.readouterr().out


def test_only_the_main_process_writes_the_checkpoint(tmp_path, monkeypatch):
    gathered = []
    monkeypatch.setattr(module.EpochTotals, "gather_on_main", lambda self, world: gathered.append(world))
    save(make_progress(tmp_path, world=SECOND))
    assert gathered == [SECOND]
    assert not (tmp_path / LATEST).exists()
    save(make_progress(tmp_path))
    assert (tmp_path / LATEST).exists()


def test_seconds_since_the_last_save(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    progress = make_progress(tmp_path)
    now[0] = 160.0
    assert progress.seconds_since_save == 60.0
    save(progress)
    assert progress.seconds_since_save == 0.0


def test_a_damaged_checkpoint_is_not_kept_as_the_previous_one(tmp_path):
    """After the next save, the latest checkpoint is kept again."""
    first = make_progress(tmp_path)
    content = first.make_checkpoint()
    for _ in range(2):
        save(first)
    previous = tmp_path / "model_latest_before.pth"
    resumed = make_progress(tmp_path)
    resumed.resume(Checkpoint(content, previous))
    (tmp_path / LATEST).write_bytes(b"damaged")
    expected = previous.read_bytes()
    for _ in range(2):
        advance(resumed, 1)  # makes all checkpoints different
        save(resumed)
        assert previous.read_bytes() == expected
        expected = (tmp_path / LATEST).read_bytes()
        assert previous.read_bytes() != b"damaged"


def test_checkpoints_of_the_published_code_can_be_resumed(tmp_path):
    """They hold only epoch, weights and optimizer."""
    first = make_progress(tmp_path)
    advance(first, 3)
    content = {key: first.make_checkpoint()[key] for key in ("epoch", "state_dict", "optimizer")}
    resumed = make_progress(tmp_path)
    resumed.resume(Checkpoint(content, tmp_path / LATEST))
    assert (resumed.epochs_done, resumed.steps_done, resumed.total_steps, resumed.best_psnr) == (1, 0, 3, float("-inf"))
    assert resumed.totals.samples == 0.0


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_changed_learning_rate_is_used_during_the_warm_up(tmp_path):
    first = make_progress(tmp_path)
    save(first)
    resumed = make_progress(tmp_path, "OPTIM.LR_INITIAL", 0.1)
    resumed.resume(load_latest(tmp_path))
    assert learning_rate(resumed) == pytest.approx(0.05)
    advance(resumed, 3)
    assert learning_rate(resumed) == pytest.approx(0.1)


def test_a_changed_measure_resets_the_best_also_in_the_first_epoch(tmp_path):
    checkpoint = save_run(tmp_path, 2, 31.5)
    for measure, best in ((checkpoint.content["validation"]["measure"], 31.5), ("another", float("-inf"))):
        checkpoint.content["validation"]["measure"] = measure
        resumed = make_progress(tmp_path)
        resumed.resume(checkpoint)
        resumed.check_validation()
        resumed.writer.wait()
        assert resumed.best_psnr == best
    assert load_latest(tmp_path).content["best_psnr"] == float("-inf")  # the reset is saved at once


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_the_measure_of_the_best_psnr_is_that_of_the_checkpoint_until_the_validation_is_checked(tmp_path):
    checkpoint = save_run(tmp_path, 3)
    resumed = make_progress(tmp_path, "TRAINING.BEST_BY", "luma")
    assert resumed.best_by == "luma"
    for settings in (checkpoint.content["settings"], {}):  # earlier checkpoints do not have this setting
        checkpoint.content["settings"] = settings
        resumed.resume(checkpoint)
        assert resumed.best_by == "rgb"
    resumed.check_validation()
    assert resumed.best_by == "luma"


def test_a_checkpoint_from_before_there_were_several_measures_keeps_its_best(tmp_path):
    checkpoint = save_run(tmp_path, 2, 31.5)
    del checkpoint.content["settings"]["TRAINING.BEST_BY"]
    checkpoint.content["validation"]["measure"] = "RGB PSNR of outputs clamped to [0, 1], mean of the images"
    resumed = make_progress(tmp_path)
    resumed.resume(checkpoint)
    resumed.check_validation()
    assert (resumed.best_psnr, resumed.validation_set) == (31.5, 1)


def test_without_a_number_of_steps_it_is_computed_from_the_epochs(tmp_path):
    first = make_progress(tmp_path)
    content = first.make_checkpoint() | {"epoch": 2}
    del content["steps_before"]
    resumed = make_progress(tmp_path)
    resumed.resume(Checkpoint(content, tmp_path / LATEST))
    assert resumed.total_steps == 6


def test_only_the_main_process_renames_the_best_model(tmp_path, monkeypatch):
    (tmp_path / "model_best.pth").write_bytes(b"best")
    progress = make_progress(tmp_path, world=SECOND)
    advance(progress, 2)
    progress.best_psnr = 31.5
    monkeypatch.setattr(
        World, "all_reduce", lambda self, *values: [1.0 for _ in values]
    )  # as if the main process had found a change
    progress.check_validation()
    assert progress.best_psnr == float("-inf")
    assert [path.name for path in tmp_path.iterdir()] == ["model_best.pth"]
