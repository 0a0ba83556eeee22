"""The instructions for a new task in CONTRIBUTING.md work as written."""

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import programs
import pytest
from conftest import ROOT

from mprnet import load_model


def run(*command: object) -> str:
    process = programs.run(*command)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project with demo.py, the folder Deraining, and the new task that CONTRIBUTING.md makes from it, with data."""
    project = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "demo.py", project)
    ignored = shutil.ignore_patterns("checkpoints", "results", "*.pth", "*.safetensors", "__pycache__")
    shutil.copytree(ROOT / "Deraining", project / "Deraining", ignore=ignored)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for line in re.findall(r"^    ((?:cp|rm) .*)$", text, flags=re.MULTILINE):
        subprocess.run(line, shell=True, check=True, cwd=project)
    files = re.findall(r"^`(Dehazing/[^`]+)`[^\n]*\n\n```\w+\n(.*?)```", text, flags=re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["Dehazing/MPRNet.py", "Dehazing/training.yml", "Dehazing/benchmarks.yml"]
    for name, content in files:
        (project / name).write_text(content)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(4):
            clean = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            for side, picture in (("input", clean // 2 + 100), ("target", clean)):
                path = project / "Dehazing" / "Datasets" / "RESIDE" / split / side / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), picture)
    return project


def test_a_new_task_trains_scores_and_restores(project, tmp_path):
    task = project / "Dehazing"
    options = ["MODEL.N_FEAT", 4, "MODEL.SCALE_UNETFEATS", 2, "MODEL.SCALE_ORSNETFEATS", 2, "OPTIM.BATCH_SIZE", 2]
    options += ["OPTIM.NUM_EPOCHS", 1, "OPTIM.WARMUP_EPOCHS", 0, "TRAINING.TRAIN_PS", 32, "TRAINING.WORKERS", 0]
    run(task / "train.py", *options)
    weights = task / "checkpoints" / "Dehazing" / "models" / "MPRNet" / "model_best.pth"
    assert load_model(weights).config["num_cab"] == 4
    pairs = [task / "Datasets" / "RESIDE" / "val" / side for side in ("input", "target")]
    assert "pairs" in run(task / "test.py", "--weights", weights, "--pairs", *pairs)
    assert "Table" not in run(task / "test.py", "--table")
    folders = ["--input_dir", pairs[0], "--result_dir", tmp_path]
    output = run(project / "demo.py", "--task", "Dehazing", "--weights", weights, *folders)
    assert "4 of 4 pictures restored" in output
