"""demo.py in a fresh clone: the samples and the bundled weights."""

from pathlib import Path

import numpy as np
import programs
import pytest
from conftest import ROOT
from PIL import Image

from mprnet import load_model, metrics

SAMPLES = ROOT / "samples"
# For each task, the mean gain in PSNR of the bundled networks on the samples, in dB, in fp32 and bf16, rounded down.
GAINS = {"Deblurring": 3.0, "Denoising": 12.2, "Deraining": 7.9}
GAINS_OF_LITE = {"Deblurring": 2.3, "Denoising": 12, "Deraining": 7.4}
PARAMETERS = {
    "model_deblurring_lite": 660_993,
    "model_deblurring_plus": 1_703_857,
    "model_denoising_lite": 660_993,
    "model_denoising_plus": 2_640_129,
    "model_deraining_lite": 660_993,
    "model_deraining_plus": 2_640_129,
}
BUNDLED = sorted(ROOT.glob("*/pretrained_models/*.safetensors"))


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def run_demo(folder: Path, *options: str) -> str:
    """Run demo.py with results in ``folder``, and return what it prints."""
    run = programs.run(ROOT / "demo.py", "--result_dir", folder, *options, cwd=folder, timeout=600)
    assert run.returncode == 0, run.stderr
    return run.stdout


def mean_gain(task: str, results: Path) -> float:
    """Return the mean gain in PSNR of the results of a task; check that each result has a gain."""
    gains = []
    for path in sorted((SAMPLES / "input" / task).glob("*.png")):
        target = read(SAMPLES / "target" / task / path.name)
        gains.append(metrics.psnr(read(results / path.name), target) - metrics.psnr(read(path), target))
    assert len(gains) >= 4
    assert min(gains) > 0
    return float(np.mean(gains))


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """A folder with demo.py's results for the samples, without further options."""
    folder = tmp_path_factory.mktemp("results")
    output = run_demo(folder, "--compare")
    assert all(f"{task} with the bundled plus weights" in output for task in GAINS)
    assert str(folder) in output
    return folder


@pytest.mark.parametrize("task", GAINS)
def test_the_bundled_networks_have_the_documented_gain(restored, task):
    assert mean_gain(task, restored / task) >= GAINS[task]
    for path in (SAMPLES / "input" / task).glob("*.png"):
        assert (restored / task / f"{path.stem}_compare.png").exists()


@pytest.mark.parametrize("task", GAINS_OF_LITE)
def test_the_smaller_networks_have_the_documented_gain(tmp_path, task):
    output = run_demo(tmp_path, "--task", task, "--grade", "lite", "--input_dir", str(SAMPLES / "input" / task))
    assert f"{task} with the bundled lite weights" in output
    assert mean_gain(task, tmp_path) >= GAINS_OF_LITE[task]


def test_the_sheet_shows_all_samples(restored):
    """The sheet has a row for each task: pictures of 256 pixels, and captions."""
    height, width = read(restored / "sheet.png").shape[:2]
    assert height >= 256 * len(GAINS)
    assert width >= 256 * 8


@pytest.mark.parametrize("task", ["Deblurring", "Denoising", "Deraining"])
def test_every_sample_has_a_target(task):
    inputs = {path.name: read(path) for path in (SAMPLES / "input" / task).iterdir()}
    targets = {path.name: read(path) for path in (SAMPLES / "target" / task).iterdir()}
    assert inputs.keys() == targets.keys()
    assert len(inputs) >= 4
    for name, image in inputs.items():
        assert image.shape == targets[name].shape
        assert 10 < metrics.psnr(image, targets[name]) < 40


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_the_bundled_weights_have_metadata(path):
    task, grade = path.parts[-3], path.stem.split("_")[-1]
    assert path.stem == f"model_{task.lower()}_{grade}"
    model = load_model(path)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[path.stem]
    assert model.metadata["task"] == task
    assert {"training_patch", "training_data", "license", "command"} <= set(model.metadata)
    assert path.stat().st_size < 16 * 2**20
