"""Runs that are killed and resumed, and runs that are resumed with other settings."""

import os
import signal
from pathlib import Path

import pytest
import torch

from mprnet import UserError
from mprnet.inference.distributed import World
from mprnet.training import logs
from mprnet.training.settings import describe_changes
from mprnet.training.state import LATEST
from training.runs import (
    ONE_PROCESS,
    SLOW_LOGS,
    Grey,
    Killing,
    Noise,
    are_equal,
    make_trainer,
    read_lines,
    read_log,
    run_processes,
    start,
    tiny_settings,
)

EVERY_STEP = ["TRAINING.SAVE_MINUTES", 0.0]


def train(world: World, folder: Path, overrides: list[object], kill: tuple[str, int] | None, workers: int = 0) -> None:
    """Start a run, or resume it, until it ends or this process is killed.

    Args:
        kill: when to kill the process. ("sample", n): when it reads the n-th sample. ("replace", n): when it has
            written the n-th file under a temporary name, and is about to rename it.
    """
    data = None
    if kill is not None and kill[0] == "sample":
        data = Killing(kill[1])
    elif kill is not None:
        replace, left = os.replace, [kill[1]]

        def kill_or_replace(source: str, target: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = kill_or_replace  # type: ignore[assignment]
    for name in SLOW_LOGS:
        setattr(logs, name, lambda *arguments: None)
    settings = tiny_settings(*overrides, *EVERY_STEP, "TRAINING.RESUME", (folder / LATEST).exists())
    make_trainer(folder, settings, data, world=world, workers=workers).run()


def load_checkpoint(folder: Path) -> dict:
    return torch.load(folder / LATEST, weights_only=True)


# When a sample is read, and when a checkpoint, the previous checkpoint, a log or a picture is renamed.
KILLS = [(kind, n) for n in (3, 5, 6, 7, 8, 9, 11, 13, 14, 17) for kind in ("sample", "replace")]


@pytest.mark.processes
def test_a_run_killed_twenty_times_ends_with_the_same_weights(tmp_path):
    """The run has MixUp and an EMA. Some of the resumed parts have workers."""
    options = ["OPTIM.NUM_EPOCHS", 18, "AUGMENT.MIXUP_FROM_EPOCH", 2, "OPTIM.EMA", 0.9, "TRAINING.VAL_AFTER_EVERY", 3]
    uninterrupted = start(train, ONE_PROCESS, tmp_path / "whole", options, None)
    for attempt, kill in enumerate(KILLS):
        killed = start(train, ONE_PROCESS, tmp_path / "killed", options, kill, 2 if attempt % 5 == 2 else 0)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL, kill
    last = start(train, ONE_PROCESS, tmp_path / "killed", options, None)
    for process in (uninterrupted, last):
        process.join()
        assert process.exitcode == 0
    assert len(KILLS) == 20
    log = (tmp_path / "killed" / "log.txt").read_text()
    assert log.count("resuming from") >= 15  # the other processes were killed before they wrote this line
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")
    killed, whole = load_checkpoint(tmp_path / "killed"), load_checkpoint(tmp_path / "whole")
    assert killed["best_psnr"] == whole["best_psnr"]
    assert are_equal(killed["state_dict"], whole["state_dict"])
    assert are_equal(killed["trained"], whole["trained"])


@pytest.mark.processes
def test_two_processes_killed_twenty_times_end_with_the_same_weights(tmp_path):
    options = ["OPTIM.NUM_EPOCHS", 36, "AUGMENT.MIXUP_FROM_EPOCH", 2, "TRAINING.VAL_AFTER_EVERY", 8]
    options += ["OPTIM.OPTIMIZER", "muon"]
    assert run_processes(2, tmp_path, train, tmp_path / "whole", options, None) == [0, 0]
    for kill in KILLS:
        assert -signal.SIGKILL in run_processes(2, tmp_path, train, tmp_path / "killed", options, kill), kill
    assert run_processes(2, tmp_path, train, tmp_path / "killed", options, None) == [0, 0]
    assert (tmp_path / "killed" / "log.txt").read_text().count("resuming from") >= 15
    killed, whole = load_checkpoint(tmp_path / "killed"), load_checkpoint(tmp_path / "whole")
    assert are_equal(killed["state_dict"], whole["state_dict"])
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")


def train_uneven_batches(world: World, folder: Path) -> None:
    """Train on batches of 5, 5 and 3 samples: some processes get fewer samples than others, or none."""
    options = ["OPTIM.NUM_EPOCHS", 4, "OPTIM.BATCH_SIZE", 5, "AUGMENT.MIXUP_FROM_EPOCH", 1, "OPTIM.ACCUMULATE", 2]
    options += ["OPTIM.GRAD_CLIP", 0.5, "OPTIM.EMA", 0.9, "TRAINING.VAL_AFTER_EVERY", 4]
    make_trainer(folder, tiny_settings(*options), Noise(13), Grey(), world).run()


@pytest.fixture(scope="module")
def run_of_one_process(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train_uneven_batches(ONE_PROCESS, folder)
    return folder


@pytest.mark.processes
@pytest.mark.parametrize("size", [2, 4])
def test_any_number_of_processes_reaches_the_same_weights(tmp_path, run_of_one_process, size):
    assert run_processes(size, tmp_path, train_uneven_batches, tmp_path / "many") == [0] * size
    one, many = load_checkpoint(run_of_one_process), load_checkpoint(tmp_path / "many")
    for name in ("state_dict", "trained"):
        for key, value in one[name].items():
            torch.testing.assert_close(many[name][key], value, atol=1e-5, rtol=0)
    for left, right in zip(read_log(run_of_one_process), read_log(tmp_path / "many"), strict=True):
        assert float(left["loss"]) == pytest.approx(float(right["loss"]), rel=1e-4)


def resume(folder: Path, *overrides: object, validation: object = None, split: dict | None = None):
    """Resume the run in ``folder``, or start one if it is empty."""
    settings = tiny_settings("OPTIM.NUM_EPOCHS", 3, *overrides, "TRAINING.RESUME", (folder / LATEST).exists())
    trainer = make_trainer(folder, settings, validation=validation, split=split)
    trainer.run()
    return trainer


def make_run(folder: Path, best: float = 50.0) -> None:
    """Make a run of one epoch, and set its best PSNR to a high value."""
    resume(folder, "OPTIM.NUM_EPOCHS", 1)
    content = load_checkpoint(folder) | {"best_psnr": best}
    torch.save(content, folder / LATEST)


def test_an_unchanged_validation_keeps_the_best_psnr(tmp_path):
    make_run(tmp_path)
    assert resume(tmp_path).progress.best_psnr == 50.0
    assert not list(tmp_path.glob("model_best_until*"))
    assert not any("validation has changed" in line for line in read_lines(tmp_path))
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["epoch"] == 1
    assert {row["validation_set"] for row in read_log(tmp_path)} == {"1"}


@pytest.mark.parametrize(
    ("changes", "data", "changed"),
    [
        (["TRAINING.VAL_PS", 8], {}, "TRAINING.VAL_PS"),
        ([], {"validation": Grey(0.3)}, "pictures"),
        (["TRAINING.BEST_BY", "luma"], {}, "measure"),
    ],
)
def test_a_changed_validation_resets_the_best_psnr_and_keeps_the_best_model(tmp_path, changes, data, changed):
    make_run(tmp_path)
    before = (tmp_path / "model_best.pth").read_bytes()
    trainer = resume(tmp_path, *changes, **data)
    assert trainer.progress.best_psnr < 40
    assert (tmp_path / "model_best_until_step_3.pth").read_bytes() == before
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["epoch"] > 1
    assert (
        f"the validation has changed ({changed}): the best PSNR is reset; the best model so far, 50.000 dB, is kept "
        "as model_best_until_step_3.pth"
    ) in read_lines(tmp_path)
    resume(tmp_path, "OPTIM.NUM_EPOCHS", 4, *changes, **data)
    assert len(list(tmp_path.glob("model_best_until*"))) == 1
    assert [row["validation_set"] for row in read_log(tmp_path)] == ["1", "2", "2", "2"]


def test_the_best_psnr_of_a_checkpoint_without_its_validation_is_reset(tmp_path):
    make_run(tmp_path)
    content = load_checkpoint(tmp_path)
    for key in ("settings", "split", "validation"):
        del content[key]
    torch.save(content, tmp_path / LATEST)
    assert resume(tmp_path).progress.best_psnr < 40
    assert (tmp_path / "model_best_until_step_3.pth").exists()
    assert any(line.startswith("the checkpoint does not say what it was validated on") for line in read_lines(tmp_path))
    assert any("does not contain its settings" in line for line in read_lines(tmp_path))


def test_each_changed_setting_is_printed(tmp_path):
    make_run(tmp_path)
    resume(tmp_path, "LOSS.EDGE_WEIGHT", 0.2, "OPTIM.BATCH_SIZE", 2, "TRAINING.SEED", 7)
    lines = read_lines(tmp_path)
    assert "  LOSS.EDGE_WEIGHT is 0.2 now, and was 0.05" in lines
    assert "  OPTIM.BATCH_SIZE is 2 now, and was 4" in lines
    assert "  TRAINING.SEED is 7 now, and was 1234" in lines
    assert "  OPTIM.NUM_EPOCHS is 3 now, and was 1" in lines
    assert sum(line.startswith("  ") for line in lines) == 4
    assert "EDGE_WEIGHT: 0.05" in (tmp_path / "settings_until_step_3.yml").read_text()
    assert "EDGE_WEIGHT: 0.2" in (tmp_path / "settings.yml").read_text()
    assert load_checkpoint(tmp_path)["settings"]["LOSS.EDGE_WEIGHT"] == 0.2


def test_the_split_is_in_the_checkpoint(tmp_path):
    resume(tmp_path, split={"held_out": ["a", "b"]})
    assert load_checkpoint(tmp_path)["split"] == {"held_out": ["a", "b"]}


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files except log.txt."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "log.txt"}


def test_a_finished_run_says_so_and_changes_no_file(tmp_path):
    make_run(tmp_path)
    before = read_files(tmp_path)
    resume(tmp_path, "OPTIM.NUM_EPOCHS", 1, "TRAINING.VAL_PS", 8)
    assert read_lines(tmp_path)[-1] == "nothing is left to do: 1 epochs are done, and the settings ask for 1."
    assert read_files(tmp_path) == before


def test_changed_batches_restart_the_epoch_at_the_new_learning_rate(tmp_path):
    make_run(tmp_path)
    content = load_checkpoint(tmp_path) | {"steps_done": 2, "totals": {"loss": 5.0, "samples": 8.0, "skipped": 1.0}}
    torch.save(content, tmp_path / LATEST)
    resume(tmp_path, "OPTIM.BATCH_SIZE", 10, "OPTIM.LR_INITIAL", 0.01, "OPTIM.LR_MIN", 0.0, "OPTIM.WARMUP_EPOCHS", 0)
    assert (
        "the batches have changed (number of samples, batch size or seed): the epoch is trained from its start"
        in read_lines(tmp_path)
    )
    rows = read_log(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["3", "6", "7"]  # two steps before the restart, then one in each epoch
    assert [float(row["lr"]) for row in rows[1:]] == pytest.approx([0.0075, 0.0025])
    assert {row["skipped_steps"] for row in rows} == {"0"}


def test_a_damaged_checkpoint_is_named_and_the_previous_one_used(tmp_path):
    make_run(tmp_path)
    (tmp_path / LATEST).write_bytes(b"damaged")
    assert resume(tmp_path).progress.epochs_done == 3
    assert any(f"({LATEST} is damaged)" in line for line in read_lines(tmp_path))


def test_a_checkpoint_of_another_network_is_an_error(tmp_path):
    make_run(tmp_path)
    content = load_checkpoint(tmp_path)
    content["state_dict"] = {key: value[:1] for key, value in content["state_dict"].items()}
    torch.save(content, tmp_path / LATEST)
    with pytest.raises(UserError, match="holds another network or optimizer than the settings say"):
        resume(tmp_path)


@pytest.mark.parametrize("names", [("adam", "muon"), ("muon", "adam")])
def test_a_checkpoint_of_another_optimizer_is_an_error(tmp_path, names):
    resume(tmp_path, "OPTIM.NUM_EPOCHS", 1, "OPTIM.OPTIMIZER", names[0])
    with pytest.raises(UserError, match=r"set MODEL and OPTIM\.OPTIMIZER as they were"):
        resume(tmp_path, "OPTIM.OPTIMIZER", names[1])


def test_published_keys_with_the_prefix_module_can_be_resumed(tmp_path):
    make_run(tmp_path)
    content = load_checkpoint(tmp_path)
    content["state_dict"] = {f"module.{key}": value for key, value in content["state_dict"].items()}
    torch.save(content, tmp_path / LATEST)
    assert resume(tmp_path).progress.epochs_done == 3


def test_describe_changes():
    before = {"A.B": 1, "A.C": [1], "TRAINING.RESUME": False, "OLD": 3}
    assert describe_changes(before, {"A.B": 1, "A.C": [1], "TRAINING.RESUME": True, "NEW": 3}) == []
    assert describe_changes(before, {"A.B": 2, "A.C": [1]}) == ["A.B is 2 now, and was 1"]
