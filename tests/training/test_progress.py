"""How far a run is: its place, its rate, and what a checkpoint holds of it."""

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
from training.runs import ALONE, Grey, Noise, tiny_network, tiny_settings

SECOND = World(1, 2, torch.device("cpu"))


def make_progress(folder, *overrides: object, epochs: int = 4, world: World = ALONE, samples: int = 10) -> Progress:
    """Of a run with three steps an epoch."""
    settings = tiny_settings("OPTIM.LR_INITIAL", 0.8, "OPTIM.LR_MIN", 0.0, "OPTIM.WARMUP_EPOCHS", 2, *overrides)
    data = RunData(TrainingSamples(Noise(), 0), ValidationPairs(Grey()), "noise", {"held_out": ["a"]})
    stepper = Stepper(tiny_network().train(), settings, ALONE)
    sampler = DistributedBatchSampler(samples, settings.OPTIM.BATCH_SIZE, settings.TRAINING.SEED)
    logger = RunLogger(folder, is_main=world.is_main)
    return Progress(stepper, sampler, epochs, logger, {"task": "Mine"}, data, settings, world)


def rate(progress: Progress) -> float:
    (group,) = progress._stepper.optimizer.param_groups
    return group["lr"]


def advance(progress: Progress, steps: int) -> None:
    for _ in range(steps):
        progress.steps_done += 1
        progress.totals.add(2.0, 4, True)
        if progress.steps_done == 3:
            progress.end_epoch()


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_the_place_and_the_rate_of_each_epoch(tmp_path):
    progress = make_progress(tmp_path)
    places, rates = [], []
    for _ in range(12):
        assert not progress.is_finished
        places.append((progress.epochs_done, progress.steps_done, progress.total_steps))
        rates.append(rate(progress))
        advance(progress, 1)
    assert places == [(step // 3, step % 3, step) for step in range(12)]
    assert rates == pytest.approx([0.4] * 3 + [0.8] * 3 + [0.8] * 3 + [0.4] * 3)
    assert progress.is_finished
    assert (progress.totals.loss, progress.totals.samples) == (0.0, 0.0)


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_what_a_checkpoint_holds(tmp_path):
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
    for key, value in progress._stepper.model.state_dict().items():
        assert torch.equal(content["state_dict"][key], value)


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_resumed_run_is_where_it_was(tmp_path):
    first = make_progress(tmp_path)
    advance(first, 8)
    first.best_psnr = 31.5
    first._logger.history = [{"epoch": 1}, {"epoch": 2}]
    first.save()
    resumed = make_progress(tmp_path)
    resumed.resume(load_latest(tmp_path))
    for name in ("epochs_done", "steps_done", "total_steps", "best_psnr"):
        assert getattr(resumed, name) == getattr(first, name), name
    assert resumed.totals.state_dict() == first.totals.state_dict()
    assert resumed._logger.history == first._logger.history
    assert rate(resumed) == rate(first)
    advance(first, 1)
    advance(resumed, 1)
    assert rate(resumed) == rate(first) == pytest.approx(0.4)


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("change", [["OPTIM.BATCH_SIZE", 5], ["TRAINING.SEED", 8]])
def test_an_epoch_that_is_cut_otherwise_begins_anew_and_its_updates_count(tmp_path, change):
    first = make_progress(tmp_path)
    advance(first, 5)
    first.save()
    resumed = make_progress(tmp_path, *change)
    resumed.resume(load_latest(tmp_path))
    assert (resumed.epochs_done, resumed.steps_done, resumed.total_steps) == (1, 0, 5)
    assert resumed.totals.samples == 0.0


def test_another_number_of_samples_begins_the_epoch_anew(tmp_path):
    first = make_progress(tmp_path)
    advance(first, 2)
    first.save()
    resumed = make_progress(tmp_path, samples=12)
    resumed.resume(load_latest(tmp_path))
    assert (resumed.steps_done, resumed.total_steps) == (0, 2)


def test_an_epoch_that_has_ended_goes_on_whatever_its_batches_are(tmp_path, capsys):
    first = make_progress(tmp_path)
    advance(first, 3)
    first.save()
    resumed = make_progress(tmp_path, "OPTIM.BATCH_SIZE", 5)
    resumed.resume(load_latest(tmp_path))
    assert (resumed.epochs_done, resumed.total_steps) == (1, 3)
    assert "trained from its start" not in capsys.readouterr().out


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    gathered = []
    monkeypatch.setattr(module.EpochTotals, "gather_on_main", lambda self, world: gathered.append(world))
    make_progress(tmp_path, world=SECOND).save()
    assert gathered == [SECOND]
    assert not (tmp_path / LATEST).exists()
    make_progress(tmp_path).save()
    assert (tmp_path / LATEST).exists()


def test_how_long_nothing_was_saved(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    progress = make_progress(tmp_path)
    now[0] = 160.0
    assert progress.seconds_since_save == 60.0
    progress.save()
    assert progress.seconds_since_save == 0.0


def test_a_damaged_latest_is_not_kept_as_the_one_before(tmp_path):
    """Only until a whole one is written."""
    first = make_progress(tmp_path)
    content = first.make_checkpoint()
    for _ in range(2):
        first.save()
    before = tmp_path / "model_latest_before.pth"
    resumed = make_progress(tmp_path)
    resumed.resume(Checkpoint(content, before))
    (tmp_path / LATEST).write_bytes(b"damaged")
    kept = before.read_bytes()
    for _ in range(2):
        advance(resumed, 1)  # so that no two checkpoints are equal
        resumed.save()
        assert before.read_bytes() == kept
        kept = (tmp_path / LATEST).read_bytes()
        assert before.read_bytes() != b"damaged"


def test_checkpoints_of_the_original_go_on_with_their_optimizer(tmp_path):
    """Epoch, weights and optimizer are all that they hold."""
    first = make_progress(tmp_path)
    advance(first, 3)
    content = {key: first.make_checkpoint()[key] for key in ("epoch", "state_dict", "optimizer")}
    resumed = make_progress(tmp_path)
    resumed.resume(Checkpoint(content, tmp_path / LATEST))
    assert (resumed.epochs_done, resumed.steps_done, resumed.total_steps, resumed.best_psnr) == (1, 0, 3, float("-inf"))
    assert resumed.totals.samples == 0.0


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_changed_rate_holds_while_the_warm_up_goes_on(tmp_path):
    first = make_progress(tmp_path)
    first.save()
    resumed = make_progress(tmp_path, "OPTIM.LR_INITIAL", 0.1)
    resumed.resume(load_latest(tmp_path))
    assert rate(resumed) == pytest.approx(0.05)
    advance(resumed, 3)
    assert rate(resumed) == pytest.approx(0.1)


def test_best_begins_anew_for_another_measure_and_within_the_first_epoch_too(tmp_path):
    first = make_progress(tmp_path)
    advance(first, 2)
    first.best_psnr = 31.5
    first.save()
    checkpoint = load_latest(tmp_path)
    for measure, best in ((checkpoint.content["validation"]["measure"], 31.5), ("another", float("-inf"))):
        checkpoint.content["validation"]["measure"] = measure
        resumed = make_progress(tmp_path)
        resumed.resume(checkpoint)
        resumed.check_validation()
        assert resumed.best_psnr == best
    assert load_latest(tmp_path).content["best_psnr"] == float("-inf")  # saved at once


def test_checkpoints_that_do_not_count_steps_have_whole_epochs(tmp_path):
    first = make_progress(tmp_path)
    content = first.make_checkpoint() | {"epoch": 2}
    del content["steps_before"]
    resumed = make_progress(tmp_path)
    resumed.resume(Checkpoint(content, tmp_path / LATEST))
    assert resumed.total_steps == 6


def test_only_the_main_process_puts_the_best_model_apart(tmp_path, monkeypatch):
    (tmp_path / "model_best.pth").write_bytes(b"best")
    progress = make_progress(tmp_path, world=SECOND)
    advance(progress, 2)
    progress.best_psnr = 31.5
    monkeypatch.setattr(World, "all_reduce", lambda self, *values: [1.0 for _ in values])  # the main process says so
    progress.check_validation()
    assert progress.best_psnr == float("-inf")
    assert [path.name for path in tmp_path.iterdir()] == ["model_best.pth"]
