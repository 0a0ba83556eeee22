"""train.py of every task, on miniatures of the data sets."""

import contextlib
import csv
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, TASKS

from apps.miniatures import write_training_sets
from mprnet import load_model, save_weights

TINY = ["MODEL.N_FEAT", "8", "MODEL.SCALE_UNETFEATS", "4", "MODEL.SCALE_ORSNETFEATS", "4", "MODEL.NUM_CAB", "1"]
SHORT = [*TINY, "OPTIM.BATCH_SIZE", "4", "OPTIM.NUM_EPOCHS", "4", "OPTIM.WARMUP_EPOCHS", "1", "TRAINING.WORKERS", "0"]
SHORT += ["TRAINING.TRAIN_PS", "32", "TRAINING.VAL_PS", "32", "TRAINING.VAL_AFTER_EVERY", "2"]


# So that a run can be compared with another bit for bit: sums depend on the number of threads.
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(task: str, *arguments: object, config: str = "training.yml") -> list[str]:
    script = ROOT / task / "train.py"
    return [sys.executable, str(script), "--config", str(config), *map(str, arguments)]


def train(task: str, *arguments: object, config: str = "training.yml", check: bool = True) -> str:
    """Run train.py and return what it printed."""
    run = subprocess.run(
        command(task, *arguments, config=config),
        capture_output=True,
        text=True,
        timeout=600,
        env=ONE_THREAD,
        check=False,
    )
    assert "Traceback" not in run.stderr, run.stderr
    assert (run.returncode == 0) == check, run.stderr
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the tasks' YAML files, each with a miniature of its data set in the true layout."""
    house = tmp_path_factory.mktemp("house")
    for task in TASKS:
        (house / task).mkdir()
        for yaml in (ROOT / task).glob("*.yml"):
            shutil.copy(yaml, house / task)
        write_training_sets(task, house / task / "Datasets")
    return house


def read_log(run: Path) -> list[dict[str, str]]:
    with open(run / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def same_weights(a: Path, b: Path) -> bool:
    left, right = (torch.load(path, weights_only=True)["state_dict"] for path in (a, b))
    return all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_from_its_data_sets_layout(house, task):
    rate = ["OPTIM.LR_INITIAL", "3e-3", "OPTIM.NUM_EPOCHS", "24", "TRAINING.VAL_AFTER_EVERY", "12"]
    output = train(task, *SHORT, *rate, config=house / task / "training.yml")
    run = house / task / "checkpoints" / task / "models" / "MPRNet"
    rows = read_log(run)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 25))
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert float(rows[-1]["psnr"]) > float(rows[-1]["input_psnr"]) + 0.5, output
    written = {path.name for path in run.iterdir()}
    assert {"model_latest.pth", "model_best.pth", "model_epoch_12.pth", "model_epoch_24.pth"} <= written
    assert {"curves.png", "validation.png", "settings.yml", "environment.json", "log.txt"} <= written
    assert "epoch 24: loss" in (run / "log.txt").read_text()
    assert [name for name in written if name.startswith(".")] == [".lock"]
    model = load_model(run / "model_best.pth")
    assert model.metadata["training_patch"] == "32"
    assert model.metadata["task"] == task


@pytest.mark.parametrize("task", TASKS)
def test_generated_pictures_serve_too(house, tmp_path, task):
    small = ["SYNTHETIC.PICTURES", 4, "SYNTHETIC.PICTURE_SIZE", 48, "SYNTHETIC.SAMPLES_PER_EPOCH", 9]
    small += [
        "TRAINING.INIT_WEIGHTS",
        "",
        "SYNTHETIC.VAL_PICTURES",
        2,
        "SYNTHETIC.BANK_DIR",
        tmp_path,
        "TRAINING.SAVE_DIR",
        tmp_path,
    ]
    train(task, *SHORT, "TRAINING.COMPILE", "False", *small, config=house / task / "training_lite.yml")
    assert (tmp_path / task / "models" / "lite" / "model_best.pth").exists()


def test_the_released_recipe_and_every_option_run(house, tmp_path):
    options = ["OPTIM.NUM_EPOCHS", 2, "AUGMENT.MIXUP_FROM_EPOCH", 1, "OPTIM.EMA", 0.9, "OPTIM.GRAD_CLIP", 1]
    options += ["OPTIM.ACCUMULATE", 2, "TRAINING.PRECISION", "bf16", "TRAINING.CHECKPOINTING", True, "VERBOSE", True]
    options += ["AUGMENT.SATURATION", "[0.8, 1.2]", "TRAINING.SAVE_IMAGES", True, "TRAINING.SAVE_DIR", tmp_path]
    options += ["MODEL.MODE", "Mine"]
    output = train("Denoising", *SHORT, *options, config=house / "Denoising" / "training_released.yml")
    assert "ChannelAttentionBlock" in output
    assert "this trains Denoising's network, under MODEL.MODE's name, Mine" in output
    run = tmp_path / "Mine" / "models" / "MPRNet_released"
    assert len(list((run / "validation").iterdir())) == 3


def test_a_tasks_own_settings_are_found_from_anywhere():
    output = train("Denoising", "OPTIM.NUM_EPOCHS", 0, config="training_lite.yml", check=False)
    assert "OPTIM.NUM_EPOCHS is 0" in output


def test_the_originals_settings_file_works(house, tmp_path):
    """Its keys, as it writes them (2e-4 is text to YAML)."""
    (house / "Deblurring" / "original.yml").write_text(
        "GPU: [0,1,2,3]\n\nVERBOSE: False\n\nMODEL:\n  MODE: 'Deblurring'\n  SESSION: 'MPRNet'\n\n"
        "OPTIM:\n  BATCH_SIZE: 16\n  NUM_EPOCHS: 1\n  LR_INITIAL: 2e-4\n  LR_MIN: 1e-6\n  BETA1: 0.9\n\n"
        "TRAINING:\n  VAL_AFTER_EVERY: 20\n  RESUME: False\n  TRAIN_PS: 256\n  VAL_PS: 256\n"
        "  TRAIN_DIR: './Datasets/GoPro/train'\n  VAL_DIR: './Datasets/GoPro/test'\n  SAVE_DIR: './checkpoints'\n"
        "  SAVE_IMAGES: False\n"
    )
    small = ["TRAINING.TRAIN_PS", 32, "TRAINING.SAVE_DIR", tmp_path]
    output = train("Deblurring", *TINY, *small, config=house / "Deblurring" / "original.yml")
    assert "10 samples an epoch" in output


@pytest.fixture(scope="module")
def uninterrupted(house, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train("Deblurring", *SHORT, "TRAINING.SAVE_DIR", folder, config=house / "Deblurring" / "training.yml")
    return folder / "Deblurring" / "models" / "MPRNet"


def kill_all(mark: Path) -> None:
    """kill -9 to every process that has ``mark`` in its command line: workers of data, and of torchrun, too."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(mark) in (process / "cmdline").read_text() and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)


def kill_and_resume(arguments: Callable[[bool, int], list[str]], latest: Path, kills: int, seed: int) -> None:
    """Start, kill -9 after a random time that begins when it trains, start again, and let the last one end."""
    rng = random.Random(seed)
    for attempt in range(kills + 1):
        with subprocess.Popen(
            arguments(latest.exists(), attempt), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ONE_THREAD
        ) as process:
            assert process.stderr is not None
            if attempt < kills:
                while b"step" not in (seen := process.stderr.read(40)) and seen:  # until the first progress bar
                    pass
                time.sleep(rng.uniform(0, 1.2))
                while attempt == kills - 1 and process.poll() is None and not latest.exists():
                    time.sleep(0.01)  # on a slow machine: there is something to go on from, at last
                kill_all(latest.parents[3])
            said = process.stderr.read().decode(errors="replace")
        assert attempt < kills or process.returncode == 0, said


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_weights(house, tmp_path, kills):
    """Checkpoints after every step; resumed with other numbers of workers."""
    config = house / "Deblurring" / "training.yml"
    longer = [*SHORT, "OPTIM.NUM_EPOCHS", 4 * kills]
    train("Deblurring", *longer, "TRAINING.SAVE_DIR", tmp_path / "whole", config=config)

    def arguments(resume: bool, attempt: int) -> list[str]:
        changes = ["TRAINING.SAVE_DIR", tmp_path / "cut", "TRAINING.SAVE_MINUTES", 0, "TRAINING.WORKERS", attempt % 3]
        return command("Deblurring", *longer, *changes, "TRAINING.RESUME", resume, config=config)

    whole, cut = (tmp_path / name / "Deblurring" / "models" / "MPRNet" for name in ("whole", "cut"))
    kill_and_resume(arguments, cut / "model_latest.pth", kills, seed=5)
    assert "going on from" in (cut / "log.txt").read_text()
    for name in ("model_latest.pth", "model_best.pth"):
        assert same_weights(cut / name, whole / name)
    assert read_log(cut) == read_log(whole)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_two_processes_killed_end_with_the_same_weights(house, tmp_path, kills):
    config = house / "Deblurring" / "training.yml"
    longer = [*SHORT, "OPTIM.NUM_EPOCHS", 4 * kills]

    def arguments(name: str, resume: bool) -> list[str]:
        changes = ["TRAINING.SAVE_DIR", tmp_path / name, "TRAINING.SAVE_MINUTES", 0, "TRAINING.RESUME", resume]
        return two_processes(command("Deblurring", *longer, *changes, config=config))

    done = subprocess.run(
        arguments("whole", False), env=ONE_THREAD, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    whole, cut = (tmp_path / name / "Deblurring" / "models" / "MPRNet" for name in ("whole", "cut"))
    kill_and_resume(lambda resume, attempt: arguments("cut", resume), cut / "model_latest.pth", kills, seed=6)
    assert "going on from" in (cut / "log.txt").read_text()
    assert same_weights(cut / "model_latest.pth", whole / "model_latest.pth")


def two_processes(started: list[str]) -> list[str]:
    """The same command under torchrun."""
    interpreter, *rest = started
    return [interpreter, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *rest]


def test_sigterm_saves_and_a_damaged_latest_falls_back(house, uninterrupted, tmp_path):
    run = tmp_path / "Deblurring" / "models" / "MPRNet"
    options = [*SHORT, "TRAINING.SAVE_DIR", tmp_path]
    config = house / "Deblurring" / "training.yml"
    process = subprocess.Popen(
        command("Deblurring", *options, config=config),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ONE_THREAD,
    )
    while not (run / "settings.yml").exists():
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    if process.returncode != 0:  # else it was faster than the signal
        assert process.returncode == 143
        assert "TRAINING.RESUME True goes on" in output
        assert (run / "model_latest.pth").exists()
        train("Deblurring", *options, "TRAINING.RESUME", True, config=config)
    assert same_weights(run / "model_latest.pth", uninterrupted / "model_latest.pth")

    (run / "model_latest.pth").write_bytes((run / "model_latest.pth").read_bytes()[:999])
    output = train("Deblurring", *options, "TRAINING.RESUME", True, config=config)
    assert "model_latest.pth is damaged" in output
    assert same_weights(run / "model_latest.pth", uninterrupted / "model_latest.pth")


def test_a_signal_to_the_whole_group_saves_too(house, tmp_path):
    """As schedulers and torchrun send it: to the loader's workers as well."""
    run = tmp_path / "Deblurring" / "models" / "MPRNet"
    options = [*SHORT, "OPTIM.NUM_EPOCHS", 4000, "TRAINING.WORKERS", 2, "TRAINING.SAVE_DIR", tmp_path]
    process = subprocess.Popen(
        command("Deblurring", *options, config=house / "Deblurring" / "training.yml"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ONE_THREAD,
        start_new_session=True,
    )
    while not (run / "log.csv").exists():
        time.sleep(0.1)
    for _ in range(2):  # SLURM's reaches torchrun too, which hands it on
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.01)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "TRAINING.RESUME True goes on" in output
    assert "Traceback" not in output


def test_a_run_goes_on_under_changed_settings(house, uninterrupted, tmp_path):
    """More epochs, another rate and another batch size, from within an epoch: the schedule is that of the new ones."""
    run = tmp_path / "Deblurring" / "models" / "MPRNet"
    shutil.copytree(uninterrupted, run)
    content = torch.load(run / "model_epoch_2.pth", weights_only=True)
    content |= {"steps_done": 2}
    torch.save(content, run / "model_latest.pth")
    changes = ["OPTIM.NUM_EPOCHS", 6, "OPTIM.LR_INITIAL", 1e-3, "OPTIM.BATCH_SIZE", 10, "OPTIM.EMA", 0.9]
    changes += ["TRAINING.SAVE_DIR", tmp_path, "TRAINING.RESUME", True]
    output = train("Deblurring", *SHORT, *changes, config=house / "Deblurring" / "training.yml")
    assert "the epoch begun is trained anew" in output
    rows = read_log(run)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    expected = [1e-6 + (1e-3 - 1e-6) * (1 + np.cos(np.pi * e / 5)) / 2 for e in (1, 2, 3, 4)]
    assert [float(row["lr"]) for row in rows[2:]] == pytest.approx(expected, rel=1e-9)


def test_two_processes_reach_one_processs_weights(house, tmp_path):
    """Ten samples in batches of four: the last one, of two, is uneven among the epoch's."""
    config = house / "Deblurring" / "training.yml"
    for name in ("one", "two"):
        arguments = [*SHORT, "OPTIM.NUM_EPOCHS", 3, "TRAINING.SAVE_DIR", tmp_path / name]
        started = command("Deblurring", *arguments, config=config)
        started = started if name == "one" else two_processes(started)
        run = subprocess.run(started, capture_output=True, text=True, timeout=300, env=ONE_THREAD, check=False)
        assert run.returncode == 0, run.stderr
    one, two = (
        load_model(tmp_path / name / "Deblurring" / "models" / "MPRNet" / "model_latest.pth").state_dict()
        for name in ("one", "two")
    )
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=0)


def test_a_run_that_no_longer_learns_stops_and_names_the_batch(house, tmp_path):
    """The pictures are fine and the rate is absurd."""
    config = house / "Deblurring" / "training.yml"
    absurd = ["OPTIM.LR_INITIAL", "1e20", "TRAINING.MAX_BAD_STEPS", 3, "TRAINING.SAVE_DIR", tmp_path]
    output = train("Deblurring", *SHORT, *absurd, config=config, check=False)
    assert "not finite, or the loss above 100, in 3 steps in a row" in output
    assert "lower OPTIM.LR_INITIAL (it is 1e+20), or set OPTIM.GRAD_CLIP 1." in output
    listed = (tmp_path / "Deblurring" / "models" / "MPRNet" / "skipped_batch.txt").read_text().split()
    assert all(name.startswith("GOPR1_1_") for name in listed)


def test_tensorboard_gets_the_figures_where_it_is_installed(house, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train("Deblurring", *SHORT, "TRAINING.SAVE_DIR", tmp_path, config=house / "Deblurring" / "training.yml")
    run = tmp_path / "Deblurring" / "models" / "MPRNet"
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [3, 6, 9, 12]
    assert events.Scalars("psnr")[-1].value == pytest.approx(float(read_log(run)[-1]["psnr"]), abs=1e-4)


def test_validations_within_an_epoch(house, tmp_path):
    times = ["TRAINING.VAL_AFTER_EVERY", 1, "TRAINING.VAL_TIMES", 3, "TRAINING.VAL_EPOCHS", "[1]"]
    times += ["TRAINING.VAL_ALL_FROM", 3, "TRAINING.SAVE_DIR", tmp_path, "OPTIM.BATCH_SIZE", 2]
    train("Deblurring", *SHORT, *times, config=house / "Deblurring" / "training.yml")
    rows = read_log(tmp_path / "Deblurring" / "models" / "MPRNet")
    assert [row["epoch"] for row in rows] == ["0.4", "0.6", "1", "2", "2.4", "2.6", "3", "3.4", "3.6", "4"]
    assert [row["step"] for row in rows] == ["2", "3", "5", "10", "12", "13", "15", "17", "18", "20"]
    assert [bool(row["psnr"]) for row in rows] == [True] * 3 + [False] + [True] * 6


def test_a_full_disk_leaves_the_last_good_checkpoint(house, uninterrupted, tmp_path):
    """Files larger than a limit cannot be written, as if there were no more space."""
    run = tmp_path / "Deblurring" / "models" / "MPRNet"
    shutil.copytree(uninterrupted, run)
    latest = run / "model_latest.pth"
    shutil.copy(run / "model_epoch_2.pth", latest)
    before = latest.read_bytes()
    resume = [*SHORT, "TRAINING.SAVE_DIR", tmp_path, "TRAINING.RESUME", True]
    config = house / "Deblurring" / "training.yml"
    room = len(before) - 1000
    done = subprocess.run(
        command("Deblurring", *resume, config=config),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
        capture_output=True,
        text=True,
        env=ONE_THREAD,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "model_latest.pth: cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert latest.read_bytes() == before
    assert [path.name for path in run.glob(".*")] == [".lock"]
    train("Deblurring", *resume, config=config)
    assert same_weights(latest, uninterrupted / "model_latest.pth")


def test_the_check_tells_good_data_from_bad(house, tmp_path):
    shutil.copytree(house / "Deblurring" / "Datasets" / "GoPro", tmp_path / "GoPro")
    folders = ["TRAINING.TRAIN_DIR", tmp_path / "GoPro" / "train", "TRAINING.VAL_DIR", tmp_path / "GoPro" / "test"]
    words = ["--check", *folders, "TRAINING.TRAIN_PS", 32]
    config = house / "Deblurring" / "training.yml"
    for side in ("input", "target"):  # a test picture that is a training picture too
        shutil.copy(tmp_path / "GoPro/train" / side / "GOPR1_1_2.png", tmp_path / "GoPro/test" / side / "2.png")
    output = train("Deblurring", *words, config=config, check=False)
    assert "10 pairs; 2,103 are published" in output
    assert "sizes: 48x48 (10)" in output
    assert "in the training and in the validation pairs alike, to be left out of one: GOPR1_1_2" in output
    output = train("Deblurring", *words, "TRAINING.HOLD_OUT", 0.1, "TRAINING.PAIRS", 10, config=config)
    assert "10 pairs, as published" in output
    assert "nothing wrong was found" in output
    (tmp_path / "GoPro" / "train" / "input" / "GOPR1_1_3.png").write_text("oops")
    shutil.rmtree(tmp_path / "GoPro" / "test")
    output = train("Deblurring", *words, config=config, check=False)
    assert "GOPR1_1_3.png: not a picture, or of a kind" in output
    assert "target/    1,111 pictures" in output
    assert not (tmp_path / "checkpoints").exists()


def test_a_checkpoint_of_another_width_gets_a_sentence(house, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "Deblurring" / "models" / "MPRNet")
    wider = ["MODEL.N_FEAT", 12, "TRAINING.SAVE_DIR", tmp_path, "TRAINING.RESUME", True]
    output = train("Deblurring", *SHORT, *wider, config=house / "Deblurring" / "training.yml", check=False)
    assert "model_latest.pth is of another network or optimizer" in output


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (None, ["OPTIM.BATCHSIZE", "3"], "nearest one is OPTIM.BATCH_SIZE"),
        ("no data", [], "pairs are expected as"),
        ("empty", [], "holds no pictures"),
        ("broken", ["TRAINING.WORKERS", "1"], "GOPR1_1_3.png: not a picture, or of a kind"),
        ("sizes", [], "of different sizes, 30x30 and 48x48"),
        (None, ["TRAINING.RESUME", "True"], "there is no model_latest.pth"),
        (None, ["TRAINING.INIT_WEIGHTS", "{}/other.pth"], "holds another network than MODEL describes"),
        (
            None,
            ["TRAINING.INIT_WEIGHTS", "{}/nowhere.pth"],
            "nowhere.pth, which TRAINING.INIT_WEIGHTS starts from: train it first",
        ),
        (None, ["TRAINING.SAVE_DIR", "/dev/null/x"], "nothing can be written there"),
    ],
)
def test_bad_input_gets_a_sentence(house, tiny, tmp_path, change, arguments, sentence):
    data = tmp_path / "GoPro" / "train"
    shutil.copytree(house / "Deblurring" / "Datasets" / "GoPro", tmp_path / "GoPro")
    save_weights(tiny, tmp_path / "other.pth")
    if change == "no data":
        shutil.rmtree(data)
    elif change == "empty":
        shutil.rmtree(data / "input")
        (data / "input").mkdir()
    elif change == "broken":
        (data / "input" / "GOPR1_1_3.png").write_text("oops")
    elif change == "sizes":
        cv2.imwrite(str(data / "input" / "GOPR1_1_3.png"), np.zeros((30, 30, 3), np.uint8))
    folders = ["TRAINING.TRAIN_DIR", data, "TRAINING.SAVE_DIR", tmp_path / "out"]
    given = [argument.format(tmp_path) for argument in arguments]
    output = train("Deblurring", *SHORT, *folders, *given, config=house / "Deblurring" / "training.yml", check=False)
    assert sentence in output


def test_a_broken_picture_can_be_skipped(house, tmp_path):
    shutil.copytree(house / "Deblurring" / "Datasets" / "GoPro", tmp_path / "GoPro")
    (tmp_path / "GoPro" / "train" / "input" / "GOPR1_1_3.png").write_text("oops")
    folders = ["TRAINING.TRAIN_DIR", tmp_path / "GoPro" / "train", "TRAINING.SAVE_DIR", tmp_path / "out"]
    options = [*folders, "TRAINING.ON_BROKEN", "skip", "OPTIM.NUM_EPOCHS", 1]
    output = train("Deblurring", *SHORT, *options, config=house / "Deblurring" / "training.yml")
    assert "GOPR1_1_3.png: not a picture, or of a kind" in output
