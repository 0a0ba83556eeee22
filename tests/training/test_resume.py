"""Runs that are killed, resumed, and resumed with other settings."""

import csv
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
from training.runs import ALONE, Grey, Killing, Noise, make_trainer, run_together, start, tiny_settings

EVERY_STEP = ["TRAINING.SAVE_MINUTES", 0.0]


def train(world: World, folder: Path, overrides: list[object], kill: tuple[str, int] | None, workers: int = 0) -> None:
    """Go on with a run, or start it, until it ends or this process is killed at a named moment.

    Args:
        kill: ("sample", n): while the n-th sample is read; ("replace", n): instead of the n-th file's taking its place.
    """
    data = None
    if kill is not None and kill[0] == "sample":
        data = Killing(kill[1])
    elif kill is not None:
        replace, left = os.replace, [kill[1]]

        def killed(source: str, target: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = killed  # type: ignore[assignment]
    for name in ("draw_curves", "_open_tensorboard"):  # these take longer than all else
        setattr(logs, name, lambda *arguments: None)
    settings = tiny_settings(*overrides, *EVERY_STEP, "TRAINING.RESUME", (folder / LATEST).exists())
    make_trainer(folder, settings, data, world=world, workers=workers).run()


def state(folder: Path) -> dict:
    return torch.load(folder / LATEST, weights_only=True)


def same_weights(one: Path, other: Path) -> bool:
    left, right = state(one)["state_dict"], state(other)["state_dict"]
    return all(torch.equal(left[key], right[key]) for key in left)


def read_log(folder: Path) -> list[dict[str, str]]:
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


# While a sample is read, and while a checkpoint, the one before it, a log or a picture takes its place.
MOMENTS = [(kind, n) for n in (3, 5, 6, 7, 8, 9, 11, 13, 14, 17) for kind in ("sample", "replace")]


@pytest.mark.processes
def test_killed_twenty_times_it_ends_with_the_same_weights(tmp_path):
    """With MixUp and a running average, and now and then with workers."""
    options = ["OPTIM.NUM_EPOCHS", 18, "AUGMENT.MIXUP_FROM_EPOCH", 2, "OPTIM.EMA", 0.9, "TRAINING.VAL_AFTER_EVERY", 3]
    process = start(train, ALONE, tmp_path / "whole", options, None)
    for attempt, moment in enumerate(MOMENTS):
        killed = start(train, ALONE, tmp_path / "cut", options, moment, 2 if attempt % 5 == 2 else 0)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL, moment
    last = start(train, ALONE, tmp_path / "cut", options, None)
    for ended in (process, last):
        ended.join()
        assert ended.exitcode == 0
    assert len(MOMENTS) == 20
    said = (tmp_path / "cut" / "log.txt").read_text()
    assert said.count("resuming from") >= 15  # the others were killed before that was written
    assert same_weights(tmp_path / "cut", tmp_path / "whole")
    assert read_log(tmp_path / "cut") == read_log(tmp_path / "whole")
    left, right = state(tmp_path / "cut"), state(tmp_path / "whole")
    assert left["best_psnr"] == right["best_psnr"]
    assert all(torch.equal(left["trained"][key], value) for key, value in right["trained"].items())


@pytest.mark.processes
def test_two_processes_killed_twenty_times_end_with_the_same_weights(tmp_path):
    options = ["OPTIM.NUM_EPOCHS", 36, "AUGMENT.MIXUP_FROM_EPOCH", 2, "TRAINING.VAL_AFTER_EVERY", 8]
    assert run_together(2, tmp_path, train, tmp_path / "whole", options, None) == [0, 0]
    for moment in MOMENTS:
        assert -signal.SIGKILL in run_together(2, tmp_path, train, tmp_path / "cut", options, moment), moment
    assert run_together(2, tmp_path, train, tmp_path / "cut", options, None) == [0, 0]
    assert (tmp_path / "cut" / "log.txt").read_text().count("resuming from") >= 15
    assert same_weights(tmp_path / "cut", tmp_path / "whole")
    assert read_log(tmp_path / "cut") == read_log(tmp_path / "whole")


def ten_steps(world: World, folder: Path) -> None:
    """Batches of 5, 5 and 3 samples, so that processes have uneven parts, or none."""
    options = ["OPTIM.NUM_EPOCHS", 4, "OPTIM.BATCH_SIZE", 5, "AUGMENT.MIXUP_FROM_EPOCH", 1, "OPTIM.ACCUMULATE", 2]
    options += ["OPTIM.GRAD_CLIP", 0.5, "OPTIM.EMA", 0.9, "TRAINING.VAL_AFTER_EVERY", 4]
    make_trainer(folder, tiny_settings(*options), Noise(13), Grey(), world).run()


@pytest.fixture(scope="module")
def ten_steps_alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    ten_steps(ALONE, folder)
    return folder


@pytest.mark.processes
@pytest.mark.parametrize("size", [2, 4])
def test_any_number_of_processes_reaches_the_same_weights(tmp_path, ten_steps_alone, size):
    assert run_together(size, tmp_path, ten_steps, tmp_path / "many") == [0] * size
    one, many = state(ten_steps_alone), state(tmp_path / "many")
    for name in ("state_dict", "trained"):
        for key, value in one[name].items():
            torch.testing.assert_close(many[name][key], value, atol=1e-5, rtol=0)
    for left, right in zip(read_log(ten_steps_alone), read_log(tmp_path / "many"), strict=True):
        assert float(left["loss"]) == pytest.approx(float(right["loss"]), rel=1e-4)


def go_on(folder: Path, *overrides: object, validation: object = None, split: dict | None = None):
    settings = tiny_settings("OPTIM.NUM_EPOCHS", 3, *overrides, "TRAINING.RESUME", (folder / LATEST).exists())
    trainer = make_trainer(folder, settings, validation=validation, split=split)
    trainer.run()
    return trainer


def began(folder: Path, best: float = 50.0) -> None:
    """A run of one epoch whose validation was an easy one."""
    go_on(folder, "OPTIM.NUM_EPOCHS", 1)
    content = state(folder) | {"best_psnr": best}
    torch.save(content, folder / LATEST)


def said(folder: Path) -> list[str]:
    return [line[21:] for line in (folder / "log.txt").read_text().splitlines()]


def test_an_unchanged_validation_goes_on_with_its_best(tmp_path):
    began(tmp_path)
    assert go_on(tmp_path).progress.best_psnr == 50.0
    assert not list(tmp_path.glob("model_best_until*"))
    assert not any("validation has changed" in line for line in said(tmp_path))
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["epoch"] == 1
    assert {row["validation_set"] for row in read_log(tmp_path)} == {"1"}


@pytest.mark.parametrize(
    ("changes", "data", "what"),
    [(["TRAINING.VAL_PS", 8], {}, "TRAINING.VAL_PS"), ([], {"validation": Grey(0.3)}, "pictures")],
)
def test_another_validation_begins_the_best_anew_and_keeps_the_old_one(tmp_path, changes, data, what):
    began(tmp_path)
    before = (tmp_path / "model_best.pth").read_bytes()
    trainer = go_on(tmp_path, *changes, **data)
    assert trainer.progress.best_psnr < 40
    assert (tmp_path / "model_best_until_step_3.pth").read_bytes() == before
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["epoch"] > 1
    assert (
        f"the validation has changed ({what}): the best PSNR is reset; the best model so far, 50.000 dB, is kept "
        "as model_best_until_step_3.pth"
    ) in said(tmp_path)
    go_on(tmp_path, "OPTIM.NUM_EPOCHS", 4, *changes, **data)
    assert len(list(tmp_path.glob("model_best_until*"))) == 1
    assert [row["validation_set"] for row in read_log(tmp_path)] == ["1", "2", "2", "2"]


def test_a_checkpoint_that_does_not_say_what_it_was_validated_on_is_not_compared_with(tmp_path):
    began(tmp_path)
    content = state(tmp_path)
    for key in ("settings", "split", "validation"):
        del content[key]
    torch.save(content, tmp_path / LATEST)
    assert go_on(tmp_path).progress.best_psnr < 40
    assert (tmp_path / "model_best_until_step_3.pth").exists()
    assert any(line.startswith("the checkpoint does not say what it was validated on") for line in said(tmp_path))
    assert any("does not contain its settings" in line for line in said(tmp_path))


def test_describe_changes_are_said_one_line_each(tmp_path):
    began(tmp_path)
    go_on(tmp_path, "LOSS.EDGE_WEIGHT", 0.2, "OPTIM.BATCH_SIZE", 2, "TRAINING.SEED", 7)
    lines = said(tmp_path)
    assert "  LOSS.EDGE_WEIGHT is 0.2 now, and was 0.05" in lines
    assert "  OPTIM.BATCH_SIZE is 2 now, and was 4" in lines
    assert "  TRAINING.SEED is 7 now, and was 1234" in lines
    assert "  OPTIM.NUM_EPOCHS is 3 now, and was 1" in lines
    assert sum(line.startswith("  ") for line in lines) == 4
    assert "EDGE_WEIGHT: 0.05" in (tmp_path / "settings_until_step_3.yml").read_text()
    assert "EDGE_WEIGHT: 0.2" in (tmp_path / "settings.yml").read_text()
    assert state(tmp_path)["settings"]["LOSS.EDGE_WEIGHT"] == 0.2


def test_the_split_is_in_the_checkpoint(tmp_path):
    go_on(tmp_path, split={"held_out": ["a", "b"]})
    assert state(tmp_path)["split"] == {"held_out": ["a", "b"]}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lines that were printed."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "log.txt"}


def test_a_run_with_nothing_left_to_do_says_so_and_leaves_all_as_it_is(tmp_path):
    began(tmp_path)
    before = contents(tmp_path)
    go_on(tmp_path, "OPTIM.NUM_EPOCHS", 1, "TRAINING.VAL_PS", 8)
    assert said(tmp_path)[-1] == "nothing is left to do: 1 epochs are done, and the settings ask for 1."
    assert contents(tmp_path) == before


def test_changed_batches_begin_the_epoch_anew_at_the_new_rate(tmp_path):
    began(tmp_path)
    content = state(tmp_path) | {"steps_done": 2, "totals": {"loss": 5.0, "samples": 8.0, "skipped": 1.0}}
    torch.save(content, tmp_path / LATEST)
    go_on(tmp_path, "OPTIM.BATCH_SIZE", 10, "OPTIM.LR_INITIAL", 0.01, "OPTIM.LR_MIN", 0.0, "OPTIM.WARMUP_EPOCHS", 0)
    assert (
        "the batches have changed (number of samples, batch size or seed): the epoch is trained from its start"
        in said(tmp_path)
    )
    rows = read_log(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["3", "6", "7"]  # two steps of the epoch that began, then one an epoch
    assert [float(row["lr"]) for row in rows[1:]] == pytest.approx([0.0075, 0.0025])
    assert {row["skipped_steps"] for row in rows} == {"0"}


def test_a_damaged_latest_falls_back_and_is_said(tmp_path):
    began(tmp_path)
    (tmp_path / LATEST).write_bytes(b"damaged")
    assert go_on(tmp_path).progress.epochs_done == 3
    assert any(f"({LATEST} is damaged)" in line for line in said(tmp_path))


def test_checkpoints_of_other_networks_get_a_sentence(tmp_path):
    began(tmp_path)
    content = state(tmp_path)
    content["state_dict"] = {key: value[:1] for key, value in content["state_dict"].items()}
    torch.save(content, tmp_path / LATEST)
    with pytest.raises(UserError, match="holds another network or optimizer than these settings describe"):
        go_on(tmp_path)


def test_published_keys_with_module_before_them_are_known(tmp_path):
    began(tmp_path)
    content = state(tmp_path)
    content["state_dict"] = {f"module.{key}": value for key, value in content["state_dict"].items()}
    torch.save(content, tmp_path / LATEST)
    assert go_on(tmp_path).progress.epochs_done == 3


def test_which_settings_changed():
    before = {"A.B": 1, "A.C": [1], "TRAINING.RESUME": False, "OLD": 3}
    assert describe_changes(before, {"A.B": 1, "A.C": [1], "TRAINING.RESUME": True, "NEW": 3}) == []
    assert describe_changes(before, {"A.B": 2, "A.C": [1]}) == ["A.B is 2 now, and was 1"]
