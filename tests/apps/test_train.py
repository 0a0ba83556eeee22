import csv
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from mprnet import load_model

SMALL = """
MODEL: {MODE: Denoising, SESSION: small, N_FEAT: 8, SCALE_UNETFEATS: 4, SCALE_ORSNETFEATS: 4, NUM_CAB: 1}
OPTIM: {BATCH_SIZE: 4, NUM_EPOCHS: 3, LR_INITIAL: 2.0e-3, WARMUP_EPOCHS: 1}
TRAINING: {TRAIN_PS: 32, SEED: 5}
SYNTHETIC: {PICTURES: 12, PICTURE_SIZE: 64, SAMPLES_PER_EPOCH: 250, SIGMA: [25, 25], VAL_PICTURES: 4}
"""


def train(folder, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "training.yml").write_text(SMALL)
    command = [
        sys.executable,
        str(ROOT / "Denoising" / "train.py"),
        "--config",
        str(folder / "training.yml"),
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    run = train(folder)
    assert run.returncode == 0, run.stderr
    return folder / "checkpoints" / "Denoising" / "models" / "small"


def test_training_restores_pictures_it_has_not_seen(trained):
    with open(trained / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    losses = [float(row["loss"]) for row in rows]
    assert losses[2] < losses[0]
    assert float(rows[-1]["psnr"]) > float(rows[-1]["input_psnr"]) + 1


def test_checkpoints_are_of_the_published_layout_and_load(trained):
    checkpoint = torch.load(trained / "model_latest.pth", weights_only=True)
    assert checkpoint["epoch"] == 3
    assert {"state_dict", "optimizer"} <= set(checkpoint)
    model = load_model(trained / "model_best.pth")
    assert model.config["n_feat"] == 8
    assert model.metadata["training_patch"] == "32"
    assert not list(trained.glob(".*"))


def test_the_same_command_gives_the_same_weights(trained, tmp_path):
    run = train(tmp_path)
    assert run.returncode == 0, run.stderr
    again = load_model(tmp_path / "checkpoints" / "Denoising" / "models" / "small" / "model_latest.pth").state_dict()
    for key, value in load_model(trained / "model_latest.pth").state_dict().items():
        torch.testing.assert_close(again[key], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["OPTIM.BATCHSIZE", "3"], "nearest one is OPTIM.BATCH_SIZE"),
        (["TRAINING.TRAIN_PS", "128"], "does not fit"),
    ],
)
def test_wrong_settings_get_a_sentence(tmp_path, arguments, sentence):
    run = train(tmp_path, *arguments)
    assert run.returncode == 1
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr
