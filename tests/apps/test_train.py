"""train.py of every task, on small copies of the data sets."""

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT, TASKS
from programs import Stop, WithoutDistributed, run

from apps.miniatures import write_pairs, write_training_sets
from mprnet import load_model, save_weights
from mprnet.apps import train as train_module

TINY = ["MODEL.N_FEAT", "8", "MODEL.SCALE_UNETFEATS", "4", "MODEL.SCALE_ORSNETFEATS", "4", "MODEL.NUM_CAB", "1"]
SHORT = [*TINY, "OPTIM.BATCH_SIZE", "4", "OPTIM.NUM_EPOCHS", "4", "OPTIM.WARMUP_EPOCHS", "1", "TRAINING.WORKERS", "0"]
SHORT += ["TRAINING.TRAIN_PS", "32", "TRAINING.VAL_PS", "32", "TRAINING.VAL_AFTER_EVERY", "2"]


def command(task: str, *arguments: object, config: object = "training.yml") -> list[str]:
    """Return the words after ``python`` of a command that trains."""
    return [str(ROOT / task / "train.py"), "--config", str(config), *map(str, arguments)]


def train(task: str, *arguments: object, config: object = "training.yml", status: int = 0, stop=None) -> str:
    """Run train.py and return what it printed."""
    done = run(*command(task, *arguments, config=config), stop=stop)
    output = done.stdout + done.stderr
    assert "Traceback" not in output, output
    assert done.returncode == status, output
    return output


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the tasks' YAML files, each with a small copy of its data set in the real layout."""
    project = tmp_path_factory.mktemp("project")
    for task in TASKS:
        (project / task).mkdir()
        for yaml in (ROOT / task).glob("*.yml"):
            shutil.copy(yaml, project / task)
        write_training_sets(task, project / task / "Datasets")
    return project


def read_log(run: Path) -> list[dict[str, str]]:
    with open(run / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def same_weights(a: Path, b: Path) -> bool:
    left, right = (torch.load(path, weights_only=True)["state_dict"] for path in (a, b))
    return all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_on_its_data_set(project, task):
    rate = ["OPTIM.LR_INITIAL", "5e-3", "OPTIM.NUM_EPOCHS", "14", "TRAINING.VAL_AFTER_EVERY", "7"]
    output = train(task, *SHORT, *rate, config=project / task / "training.yml")
    run = project / task / "checkpoints" / task / "models" / "MPRNet"
    rows = read_log(run)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 15))
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert float(rows[-1]["psnr"]) > float(rows[-1]["input_psnr"]) + 0.2, output
    assert all(("luma_psnr" in row) == (task == "Deraining") for row in rows)
    assert f"done: {run / 'model_best.pth'}, best RGB PSNR {float(rows[-1]['best_psnr']):.3f} dB" in output
    written = {path.name for path in run.iterdir()}
    assert {"model_latest.pth", "model_best.pth", "model_epoch_7.pth", "model_epoch_14.pth"} <= written
    assert {"curves.png", "validation.png", "settings.yml", "environment.json", "log.txt"} <= written
    assert "epoch 14: loss" in (run / "log.txt").read_text()
    assert [name for name in written if name.startswith(".")] == [".lock"]
    model = load_model(run / "model_best.pth")
    assert model.metadata["training_patch"] == "32"
    assert model.metadata["task"] == task
    stored = torch.load(run / "model_best.pth", weights_only=True)["metadata"]
    assert json.loads(stored["config"]) == model.config


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_on_generated_pictures(project, tmp_path, task):
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
    train(task, *SHORT, "TRAINING.COMPILE", "False", *small, config=project / task / "training_lite.yml")
    assert (tmp_path / task / "models" / "lite" / "model_best.pth").exists()


def test_a_network_trains_without_torch_distributed(project, tmp_path):
    options = [*SHORT, "OPTIM.NUM_EPOCHS", 1, "TRAINING.SAVE_DIR", tmp_path]
    config = project / "Denoising" / "training.yml"
    assert "epoch 1: loss" in train("Denoising", *options, config=config, stop=WithoutDistributed())


def test_the_released_recipe_trains_with_many_options(project, tmp_path):
    options = ["OPTIM.NUM_EPOCHS", 2, "AUGMENT.MIXUP_FROM_EPOCH", 1, "OPTIM.EMA", 0.9, "OPTIM.GRAD_CLIP", 1]
    options += ["OPTIM.ACCUMULATE", 2, "TRAINING.PRECISION", "bf16", "TRAINING.CHECKPOINTING", True, "VERBOSE", True]
    options += ["AUGMENT.SATURATION", "[0.8, 1.2]", "TRAINING.SAVE_IMAGES", True, "TRAINING.SAVE_DIR", tmp_path]
    options += ["MODEL.MODE", "Mine"]
    output = train("Denoising", *SHORT, *options, config=project / "Denoising" / "training_released.yml")
    assert "ChannelAttentionBlock" in output
    assert "this trains Denoising's network under another name, Mine (MODEL.MODE)" in output
    run = tmp_path / "Mine" / "models" / "MPRNet_released"
    assert len(list((run / "validation").iterdir())) == 3


def test_options_may_stand_between_settings(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "A", "1", "--prepare", "B", "-2", "--config", "c.yml", "C", "3"])
    arguments = train_module._parse(ROOT / "Deraining")
    assert arguments.prepare
    assert arguments.config == Path("c.yml")
    assert arguments.overrides == ["A", "1", "B", "-2", "C", "3"]


def test_settings_of_a_task_are_found_from_every_folder():
    output = train("Denoising", "OPTIM.NUM_EPOCHS", 0, config="training_lite.yml", status=1)
    assert "OPTIM.NUM_EPOCHS is 0" in output


def test_the_settings_file_of_the_original_works(project, tmp_path):
    """The keys and values are as in the original. YAML reads 2e-4 as text."""
    (project / "Deblurring" / "original.yml").write_text(
        "GPU: [0,1,2,3]\n\nVERBOSE: False\n\nMODEL:\n  MODE: 'Deblurring'\n  SESSION: 'MPRNet'\n\n"
        "OPTIM:\n  BATCH_SIZE: 16\n  NUM_EPOCHS: 1\n  LR_INITIAL: 2e-4\n  LR_MIN: 1e-6\n  BETA1: 0.9\n\n"
        "TRAINING:\n  VAL_AFTER_EVERY: 20\n  RESUME: False\n  TRAIN_PS: 256\n  VAL_PS: 256\n"
        "  TRAIN_DIR: './Datasets/GoPro/train'\n  VAL_DIR: './Datasets/GoPro/test'\n  SAVE_DIR: './checkpoints'\n"
        "  SAVE_IMAGES: False\n"
    )
    small = ["TRAINING.TRAIN_PS", 32, "TRAINING.SAVE_DIR", tmp_path]
    output = train("Deblurring", *TINY, *small, config=project / "Deblurring" / "original.yml")
    assert "10 samples an epoch" in output
    assert "recipe: your own\n  differs from training.yml (the paper's): OPTIM.NUM_EPOCHS 1 instead of 3000, " in output
    assert "  differs from training_released.yml (the released code's): OPTIM.NUM_EPOCHS 1 instead of 3000, " in output


@pytest.fixture(scope="module")
def uninterrupted(project, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train("Deblurring", *SHORT, "TRAINING.SAVE_DIR", folder, config=project / "Deblurring" / "training.yml")
    return folder / "Deblurring" / "models" / "MPRNet"


@pytest.mark.parametrize(
    ("step", "place"), [(1, "0 epochs and 1 steps"), (8, "2 epochs and 2 steps"), (12, "3 epochs and 3 steps")]
)
def test_a_run_stopped_by_sigterm_resumes_to_the_same_weights(project, uninterrupted, tmp_path, step, place):
    """The signal comes at the start of this step."""
    run = tmp_path / "Deblurring" / "models" / "MPRNet"
    options = [*SHORT, "TRAINING.SAVE_DIR", tmp_path]
    config = project / "Deblurring" / "training.yml"
    stop = Stop("mprnet.training.step.Stepper.update", step, signal.SIGTERM)
    output = train("Deblurring", *options, "TRAINING.RESUME", "auto", config=config, status=143, stop=stop)
    assert f"stopped after {place}; set TRAINING.RESUME True to continue." in output
    train("Deblurring", *options, "TRAINING.RESUME", "auto", config=config)
    assert same_weights(run / "model_latest.pth", uninterrupted / "model_latest.pth")
    output = train("Deblurring", *options, "TRAINING.RESUME", True, config=config)
    assert "nothing is left to do: 4 epochs are done, and the settings ask for 4." in output


def test_a_run_is_saved_if_all_its_processes_get_a_signal(project, tmp_path):
    """Schedulers and torchrun send signals to the workers of the loader, too, and sometimes twice."""
    options = [*SHORT, "TRAINING.WORKERS", 2, "TRAINING.SAVE_DIR", tmp_path]
    started = command("Deblurring", *options, config=project / "Deblurring" / "training.yml")
    program = f"""
        import os, runpy, signal, sys
        from mprnet.training.step import Stepper

        update, calls = Stepper.update, []

        def signalled(*arguments, **options):
            calls.append(1)
            if len(calls) == 5:
                os.killpg(0, signal.SIGTERM)
                os.killpg(0, signal.SIGTERM)
            return update(*arguments, **options)

        Stepper.update = signalled
        sys.argv = {started!r}
        sys.path.insert(0, {str(ROOT / "Deblurring")!r})
        runpy.run_path(sys.argv[0], run_name="__main__")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 143, done.stderr
    assert "stopped after 1 epochs and 2 steps; set TRAINING.RESUME True to continue." in done.stdout
    assert "Traceback" not in done.stderr


def test_training_on_prepared_pictures_gives_the_same_weights(project, uninterrupted, tmp_path):
    """The first preparation is killed, and the second one continues."""
    options = [*SHORT, "TRAINING.CACHE_DIR", tmp_path / "cache", "TRAINING.SAVE_DIR", tmp_path]
    config = project / "Deblurring" / "training.yml"
    stop = Stop("mprnet.data.preparing.write_atomically", 8, signal.SIGKILL)
    run(*command("Deblurring", *options, "--prepare", config=config), stop=stop)
    assert len(list((tmp_path / "cache").glob("*.rgb"))) >= 4
    output = train("Deblurring", *options, "--prepare", config=config)
    assert re.search(r"20 pictures take 0.00 GiB in .*cache; 0.00 GiB are to be written, .* GiB are free", output)
    decoded = int(re.search(r"20 pictures are prepared in .*cache; (\d+) of them were decoded now", output)[1])
    assert 10 < decoded <= 16
    output = train("Deblurring", *options, config=config)
    assert f"note: 20 pictures are read prepared from {tmp_path / 'cache'}\n" in output
    latest = Path("Deblurring") / "models" / "MPRNet" / "model_latest.pth"
    assert same_weights(tmp_path / latest, uninterrupted / "model_latest.pth")


def test_two_processes_train_the_same_weights_as_one(project, tmp_path):
    """There are ten samples in batches of four, so the last batch of an epoch has only two. MixUp is on."""
    config = project / "Deblurring" / "training.yml"
    options = [*SHORT, "OPTIM.NUM_EPOCHS", 3, "AUGMENT.MIXUP_FROM_EPOCH", 1]
    train("Deblurring", *options, "TRAINING.SAVE_DIR", tmp_path / "one", config=config)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    started = command("Deblurring", *options, "TRAINING.SAVE_DIR", tmp_path / "two", config=config)
    done = subprocess.run([*torchrun, *started], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (
        load_model(tmp_path / name / "Deblurring" / "models" / "MPRNet" / "model_latest.pth").state_dict()
        for name in ("one", "two")
    )
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=0)


def test_a_run_with_too_many_bad_steps_stops_and_names_the_batch(project, tmp_path):
    """The pictures are good, but the learning rate is far too high."""
    config = project / "Deblurring" / "training.yml"
    high_rate = ["OPTIM.LR_INITIAL", "1e20", "TRAINING.MAX_BAD_STEPS", 3, "TRAINING.SAVE_DIR", tmp_path]
    output = train("Deblurring", *SHORT, *high_rate, config=config, status=1)
    assert "not finite, or the loss was above 100, in 3 steps in a row" in output
    assert "lower OPTIM.LR_INITIAL (it is 1e+20), or set OPTIM.GRAD_CLIP 1, or " in output
    listed = (tmp_path / "Deblurring" / "models" / "MPRNet" / "skipped_batch.txt").read_text().split()
    assert all(name.startswith("GOPR1_1_") for name in listed)


def test_the_own_data_set_of_the_documentation_trains(tmp_path):
    """The task's data_RGB.py is the example in docs/own_data.md."""
    page = (ROOT / "docs" / "own_data.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    for name in ("train.py", "MPRNet.py", "training.yml"):
        shutil.copy(ROOT / "Deraining" / name, tmp_path)
    (tmp_path / "data_RGB.py").write_text(textwrap.dedent(code))
    write_pairs(tmp_path / "pairs", 6)
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for side, word in (("input", "rainy"), ("target", "clear")):
            for path in (tmp_path / "pairs" / side).iterdir():
                shutil.copy(path, tmp_path / part / f"{path.stem}_{word}.png")
    folders = ["TRAINING.TRAIN_DIR", tmp_path / "train", "TRAINING.VAL_DIR", tmp_path / "val"]

    def start(*arguments: object, status: int = 0) -> str:
        done = run(tmp_path / "train.py", *SHORT, *folders, "TRAINING.SAVE_DIR", tmp_path, *arguments)
        assert "Traceback" not in done.stderr
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    assert "6 samples an epoch, 6 to validate on" in start("OPTIM.NUM_EPOCHS", 1)
    assert "6 items, each read once" in start("--check")
    assert "HOLD_OUT needs a data set with an attribute pairs" in start(
        "TRAINING.HOLD_OUT", 0.5, "MODEL.SESSION", "b", status=1
    )


def test_losses_and_psnr_are_written_for_tensorboard(project, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train("Deblurring", *SHORT, "TRAINING.SAVE_DIR", tmp_path, config=project / "Deblurring" / "training.yml")
    run = tmp_path / "Deblurring" / "models" / "MPRNet"
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [3, 6, 9, 12]
    assert events.Scalars("psnr")[-1].value == pytest.approx(float(read_log(run)[-1]["psnr"]), abs=1e-4)


def test_training_continues_without_tensorboard(project, tmp_path):
    (tmp_path / "broken" / "tensorboard").mkdir(parents=True)
    (tmp_path / "broken" / "tensorboard" / "__init__.py").write_text("raise AttributeError('np.float_ was removed')")
    config = project / "Deblurring" / "training.yml"
    started = command("Deblurring", *SHORT, "OPTIM.NUM_EPOCHS", 1, "TRAINING.SAVE_DIR", tmp_path, config=config)
    search_path = [str(tmp_path / "broken"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path)}
    done = subprocess.run(
        [sys.executable, *started], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "note: continuing without TensorBoard (AttributeError: np.float_ was removed)" in done.stdout
    assert len(read_log(tmp_path / "Deblurring" / "models" / "MPRNet")) == 1


class AddressSpace(NamedTuple):
    """A limit on the memory of a program: so many bytes more than it has."""

    more: int

    def prepare(self) -> None:
        limit = psutil.Process().memory_info().vms + self.more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def test_large_validation_pictures_are_restored_in_tiles(project, tmp_path):
    for side in ("input", "target"):
        (tmp_path / "val" / side).mkdir(parents=True)
        picture = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "val" / side / "large.png"), picture // 2 + (64 if side == "target" else 0))
    options = [*SHORT, "OPTIM.NUM_EPOCHS", 1, "TRAINING.VAL_PS", 0, "TRAINING.VAL_DIR", tmp_path / "val"]
    config = project / "Deblurring" / "training.yml"
    train("Deblurring", *options, "TRAINING.SAVE_DIR", tmp_path, config=config, stop=AddressSpace(2**30))
    assert float(read_log(tmp_path / "Deblurring" / "models" / "MPRNet")[-1]["psnr"]) > 5


class FileSize(NamedTuple):
    """A limit on the size of files, in bytes."""

    most: int

    def prepare(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.most, self.most))


def test_a_full_disk_leaves_the_last_good_checkpoint(project, uninterrupted, tmp_path):
    """A limit on the size of files acts like a full disk."""
    run = tmp_path / "Deblurring" / "models" / "MPRNet"
    shutil.copytree(uninterrupted, run)
    latest = run / "model_latest.pth"
    shutil.copy(run / "model_epoch_2.pth", latest)
    before = latest.read_bytes()
    resume = [*SHORT, "TRAINING.SAVE_DIR", tmp_path, "TRAINING.RESUME", True]
    config = project / "Deblurring" / "training.yml"
    output = train("Deblurring", *resume, config=config, status=1, stop=FileSize(len(before) - 1000))
    assert "model_latest.pth: cannot be written (File too large)" in output
    assert latest.read_bytes() == before
    assert [path.name for path in run.glob(".*")] == [".lock"]
    train("Deblurring", *resume, config=config)
    assert same_weights(latest, uninterrupted / "model_latest.pth")


def test_check_finds_what_is_wrong_with_the_data(project, tmp_path):
    shutil.copytree(project / "Deblurring" / "Datasets" / "GoPro", tmp_path / "GoPro")
    folders = ["TRAINING.TRAIN_DIR", tmp_path / "GoPro" / "train", "TRAINING.VAL_DIR", tmp_path / "GoPro" / "test"]
    words = ["--check", *folders, "TRAINING.TRAIN_PS", 32]
    config = project / "Deblurring" / "training.yml"
    for side in ("input", "target"):  # a picture that is in both the test and the training data
        shutil.copy(tmp_path / "GoPro/train" / side / "GOPR1_1_2.png", tmp_path / "GoPro/test" / side / "2.png")
    output = train("Deblurring", *words, config=config, status=1)
    assert "10 pairs; 2,103 are published" in output
    assert "sizes: 48x48 (10)" in output
    assert "in both the training and the validation pairs; remove them from one of the two: GOPR1_1_2" in output
    output = train("Deblurring", *words, "TRAINING.HOLD_OUT", 0.1, "TRAINING.PAIRS", 10, config=config)
    assert "10 pairs, as published" in output
    assert "nothing wrong was found" in output
    (tmp_path / "GoPro" / "train" / "input" / "GOPR1_1_3.png").write_text("oops")
    shutil.rmtree(tmp_path / "GoPro" / "test")
    output = train("Deblurring", *words, config=config, status=1)
    assert "GOPR1_1_3.png: not a picture, or of a kind" in output
    assert "target/    1,111 pictures" in output
    assert not (tmp_path / "checkpoints").exists()


def test_a_checkpoint_of_another_width_is_refused(project, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "Deblurring" / "models" / "MPRNet")
    wider = ["MODEL.N_FEAT", 12, "TRAINING.SAVE_DIR", tmp_path, "TRAINING.RESUME", True]
    output = train("Deblurring", *SHORT, *wider, config=project / "Deblurring" / "training.yml", status=1)
    assert "model_latest.pth holds another network or optimizer" in output


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
            "nowhere.pth, which TRAINING.INIT_WEIGHTS names: train it first",
        ),
        (None, ["TRAINING.INIT_WEIGHTS", "{}"], ", which TRAINING.INIT_WEIGHTS names: train it first"),  # a folder
        (None, ["TRAINING.SAVE_DIR", "/dev/null/x"], "nothing can be written there"),
    ],
)
def test_bad_data_and_settings_are_refused(project, tiny, tmp_path, change, arguments, sentence):
    data = tmp_path / "GoPro" / "train"
    shutil.copytree(project / "Deblurring" / "Datasets" / "GoPro", tmp_path / "GoPro")
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
    settings = [argument.format(tmp_path) for argument in arguments]
    output = train("Deblurring", *SHORT, *folders, *settings, config=project / "Deblurring" / "training.yml", status=1)
    assert sentence in output


def test_a_broken_picture_can_be_skipped(project, tmp_path):
    shutil.copytree(project / "Deblurring" / "Datasets" / "GoPro", tmp_path / "GoPro")
    (tmp_path / "GoPro" / "train" / "input" / "GOPR1_1_3.png").write_text("oops")
    folders = ["TRAINING.TRAIN_DIR", tmp_path / "GoPro" / "train", "TRAINING.SAVE_DIR", tmp_path / "out"]
    options = [*folders, "TRAINING.ON_BROKEN", "skip", "OPTIM.NUM_EPOCHS", 1]
    output = train("Deblurring", *SHORT, *options, config=project / "Deblurring" / "training.yml")
    assert "GOPR1_1_3.png: not a picture, or of a kind" in output
