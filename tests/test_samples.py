"""What a fresh clone does out of the box."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from mprnet import load_model, metrics

SAMPLES = ROOT / "samples"
BUNDLED = ROOT / "Denoising" / "pretrained_models" / "model_denoising_lite.safetensors"


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """demo.py's results for the denoising samples, with nothing said but the task and where to write."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, str(ROOT / "demo.py"), "--task", "Denoising", "--result_dir", str(folder), "--compare"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "bundled lite weights" in run.stdout
    assert str(folder) in run.stdout
    return folder


def test_the_bundled_denoiser_gains_seven_decibels(restored):
    gains = []
    for path in sorted((SAMPLES / "input" / "Denoising").glob("*.png")):
        target = read(SAMPLES / "target" / "Denoising" / path.name)
        before, after = metrics.psnr(read(path), target), metrics.psnr(read(restored / path.name), target)
        assert (restored / f"{path.stem}_compare.png").exists()
        gains.append(after - before)
    assert len(gains) >= 4
    assert np.mean(gains) >= 7


@pytest.mark.parametrize("task", ["Deblurring", "Denoising", "Deraining"])
def test_every_sample_has_its_target(task):
    inputs = {path.name: read(path) for path in (SAMPLES / "input" / task).iterdir()}
    targets = {path.name: read(path) for path in (SAMPLES / "target" / task).iterdir()}
    assert inputs.keys() == targets.keys()
    assert len(inputs) >= 4
    for name, image in inputs.items():
        assert image.shape == targets[name].shape
        assert 10 < metrics.psnr(image, targets[name]) < 40


def test_the_bundled_weights_say_what_they_are():
    model = load_model(BUNDLED)
    assert sum(p.numel() for p in model.parameters()) == 490_969
    assert {"training_patch", "training_data", "license", "command"} <= set(model.metadata)
    assert BUNDLED.stat().st_size < 16 * 2**20
