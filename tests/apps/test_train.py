"""train.py of every task, on miniatures of the data sets."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, TASKS

from mprnet import load_model, save_weights
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.noise import gaussian_noise

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


def write_pairs(folder: Path, count: int, names: tuple[str, str] = ("{}.png", "{}.png"), sigma: float = 25) -> None:
    rng = np.random.default_rng(3)
    for index in range(count):
        clean = dead_leaves(5, index, 48)
        for kind, image, name in zip(
            ("input", "target"), (gaussian_noise(rng, clean, sigma), clean), names, strict=True
        ):
            path = folder / kind / name.format(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[:, :, ::-1])


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the tasks' YAML files, each with a miniature of its data set in the true layout."""
    house = tmp_path_factory.mktemp("house")
    for task in TASKS:
        (house / task).mkdir()
        for yaml in (ROOT / task).glob("*.yml"):
            shutil.copy(yaml, house / task)
    write_pairs(house / "Deblurring" / "Datasets" / "GoPro" / "train", 10, ("GOPR1_1_{}.png",) * 2)
    write_pairs(house / "Deblurring" / "Datasets" / "GoPro" / "test", 3)
    deraining = house / "Deraining" / "Datasets" / "Synthetic_Rain_Datasets"
    write_pairs(deraining / "train", 10, ("{}.jpg", "{}.png"))
    write_pairs(deraining / "test" / "Rain100L", 3, ("rain-{}.png", "norain-{}.png"))
    write_pairs(house / "Denoising" / "Datasets" / "SIDD" / "train", 10, ("{}_NOISY.png", "{}_GT.png"))
    write_pairs(house / "Denoising" / "Datasets" / "SIDD" / "val", 3)
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
    assert {"curves.png", "validation.png", "settings.yml", "environment.json"} <= written
    assert not [name for name in written if name.startswith(".")]
    model = load_model(run / "model_best.pth")
    assert model.metadata["training_patch"] == "32"


def test_generated_pictures_serve_too(house, tmp_path):
    small = ["SYNTHETIC.PICTURES", 4, "SYNTHETIC.PICTURE_SIZE", 48, "SYNTHETIC.SAMPLES_PER_EPOCH", 9]
    small += ["SYNTHETIC.VAL_PICTURES", 2, "SYNTHETIC.BANK_DIR", tmp_path, "TRAINING.SAVE_DIR", tmp_path]
    train("Denoising", *SHORT, "TRAINING.COMPILE", "False", *small, config=house / "Denoising" / "training_lite.yml")
    assert (tmp_path / "Denoising" / "models" / "lite" / "model_best.pth").exists()


def test_the_released_recipe_and_every_option_run(house, tmp_path):
    options = ["OPTIM.NUM_EPOCHS", 2, "AUGMENT.MIXUP_FROM_EPOCH", 1, "OPTIM.EMA", 0.9, "OPTIM.GRAD_CLIP", 1]
    options += ["OPTIM.ACCUMULATE", 2, "TRAINING.PRECISION", "bf16", "TRAINING.CHECKPOINTING", True, "VERBOSE", True]
    options += ["AUGMENT.SATURATION", "[0.8, 1.2]", "TRAINING.SAVE_IMAGES", True, "TRAINING.SAVE_DIR", tmp_path]
    output = train("Denoising", *SHORT, *options, config=house / "Denoising" / "training_released.yml")
    assert "ChannelAttentionBlock" in output
    run = tmp_path / "Denoising" / "models" / "MPRNet_released"
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


def test_killed_at_any_moment_it_ends_with_the_same_weights(house, uninterrupted, tmp_path):
    """kill -9 at a few instants, checkpoints after every step; resumed with other numbers of workers."""
    run = tmp_path / "Deblurring" / "models" / "MPRNet"
    options = [*SHORT, "TRAINING.SAVE_DIR", tmp_path, "TRAINING.SAVE_MINUTES", 0]
    config = house / "Deblurring" / "training.yml"
    for attempt, seconds in enumerate((6.0, 7.0, 8.0)):
        resume = (run / "model_latest.pth").exists()
        arguments = [*options, "TRAINING.RESUME", resume, "TRAINING.WORKERS", attempt % 3]
        process = subprocess.Popen(
            command("Deblurring", *arguments, config=config),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=ONE_THREAD,
        )
        time.sleep(seconds)
        process.kill()
        process.wait()
    resume = (run / "model_latest.pth").exists()
    train("Deblurring", *options, "TRAINING.RESUME", resume, config=config)
    assert same_weights(run / "model_latest.pth", uninterrupted / "model_latest.pth")
    assert same_weights(run / "model_best.pth", uninterrupted / "model_best.pth")
    assert read_log(run) == read_log(uninterrupted)


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


def test_two_processes_reach_one_processs_weights(house, tmp_path):
    """Ten samples in batches of four: the last one, of two, is uneven among the epoch's."""
    config = house / "Deblurring" / "training.yml"
    for name, start in (
        ("one", []),
        ("two", ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29533"]),
    ):
        arguments = [*SHORT, "OPTIM.NUM_EPOCHS", 3, "TRAINING.SAVE_DIR", tmp_path / name]
        interpreter, *rest = command("Deblurring", *arguments, config=config)
        run = subprocess.run(
            [interpreter, *start, *rest], capture_output=True, text=True, timeout=300, env=ONE_THREAD, check=False
        )
        assert run.returncode == 0, run.stderr
    one, two = (
        load_model(tmp_path / name / "Deblurring" / "models" / "MPRNet" / "model_latest.pth").state_dict()
        for name in ("one", "two")
    )
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=0)


def test_a_poisoned_batch_is_skipped_and_said(house, tmp_path):
    """fp16 overflows on the CPU where bf16 does not; here the pictures are fine and the rate is absurd."""
    config = house / "Deblurring" / "training.yml"
    absurd = ["OPTIM.LR_INITIAL", "1e20", "TRAINING.MAX_BAD_STEPS", 3, "TRAINING.SAVE_DIR", tmp_path]
    output = train("Deblurring", *SHORT, *absurd, config=config, check=False)
    assert "not finite in 3 steps in a row" in output
    listed = (tmp_path / "Deblurring" / "models" / "MPRNet" / "not_finite.txt").read_text().split()
    assert all(name.startswith("GOPR1_1_") for name in listed)


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (None, ["OPTIM.BATCHSIZE", "3"], "nearest one is OPTIM.BATCH_SIZE"),
        ("no data", [], "pairs are expected as"),
        ("empty", [], "holds no pictures"),
        ("broken", ["TRAINING.WORKERS", "1"], "GOPR1_1_3.png: not a picture, or broken"),
        ("sizes", [], "of different sizes, 30x30 and 48x48"),
        (None, ["TRAINING.RESUME", "True"], "there is no model_latest.pth"),
        (None, ["TRAINING.INIT_WEIGHTS", "{}/other.pth"], "holds another network than MODEL describes"),
        (None, ["TRAINING.INIT_WEIGHTS", "{}/nowhere.pth"], "no file of weights"),
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
    assert "GOPR1_1_3.png: not a picture, or broken" in output
