"""What pip installs works without the clone."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import cv2
import programs
import pytest
from conftest import ROOT, TASKS

pytestmark = pytest.mark.processes
SAMPLE = ROOT / "samples" / "input" / "Denoising" / "coffee.png"
SIZE = 64  # of the part of it that is restored


def run(*command: object, cwd: Path) -> str:
    """Run a program with nothing of this environment but its PATH; return what it printed."""
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """Build as a release is built: a source distribution from the clone, and a wheel from that."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


def install(wheel: Path, folder: Path) -> Path:
    """Return the command mprnet in a new environment that has the needed packages, but not the clone."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A line of a .pth file adds a folder, but does not read the .pth files in it: an editable install is not seen.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    origins = "from importlib.util import find_spec as f; print(f('mprnet').origin, f('warmup_scheduler').origin)"
    assert run(python, "-c", origins, cwd=folder).count(str(packages)) == 2
    return folder / "bin" / "mprnet"


def check_content(wheel: Path) -> None:
    """It holds the tasks, and nothing that a user has added to the clone."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for task in TASKS:
        folder = f"mprnet/_tasks/{task}"
        for name in ("MPRNet.py", "data_RGB.py", "train.py", "test.py", "training.yml", "benchmarks.yml"):
            assert f"{folder}/{name}" in names
        for grade in ("lite", "plus"):
            assert f"{folder}/pretrained_models/model_{task.lower()}_{grade}.safetensors" in names
    assert not [name for name in names if name.endswith((".pth", ".png", ".csv"))]
    packages = {path.parent.relative_to(ROOT) for path in (ROOT / "mprnet").rglob("*.py")}
    assert {str(Path(name).parent) for name in names if name.endswith(".py")} >= {str(package) for package in packages}
    assert "mprnet/evaluation/report.html" in names


def check_restore(program: Path, tmp_path: Path) -> None:
    """It writes the bytes that demo.py writes."""
    where = ["--task", "Denoising", "--device", "cpu"]
    picture = tmp_path / SAMPLE.name
    cv2.imwrite(str(picture), cv2.imread(str(SAMPLE))[:SIZE, :SIZE])
    assert "1 of 1 pictures restored" in run(program, "restore", *where, picture, cwd=tmp_path)
    demo = programs.run(ROOT / "demo.py", *where, "--input_dir", picture, "--result_dir", tmp_path / "demo")
    assert demo.returncode == 0
    assert (tmp_path / "restored" / "coffee.png").read_bytes() == (tmp_path / "demo" / "coffee.png").read_bytes()


def check_working_folder(program: Path, tmp_path: Path) -> None:
    """It trains and scores in the current folder."""
    network = ["MODEL.SUBNETWORKS", "[orsnet]", "MODEL.N_FEAT", 4, "MODEL.NUM_CAB", 1]
    pictures = ["SYNTHETIC.PICTURES", 2, "SYNTHETIC.VAL_PICTURES", 1, "SYNTHETIC.PICTURE_SIZE", 32]
    steps = ["SYNTHETIC.SAMPLES_PER_EPOCH", 2, "OPTIM.BATCH_SIZE", 2, "OPTIM.NUM_EPOCHS", 1]
    others = ["TRAINING.TRAIN_PS", 32, "TRAINING.WORKERS", 0, "TRAINING.COMPILE", False]
    command = ["train", "--task", "Denoising", "--config", "training_lite.yml", *network, *pictures, *steps, *others]
    assert "done: " in run(program, *command, cwd=tmp_path)
    assert list((tmp_path / "Denoising" / "checkpoints").rglob("model_best.pth"))
    assert "PSNR" in run(program, "test", "--task", "Deraining", "--table", cwd=tmp_path)


def test_the_wheel_works_without_the_clone(tmp_path):
    """One test, because building and installing take seconds."""
    for name in ("dist", "environment", "work"):
        (tmp_path / name).mkdir()
    wheel = build_wheel(tmp_path / "dist")
    check_content(wheel)
    program = install(wheel, tmp_path / "environment")
    check_restore(program, tmp_path / "work")
    check_working_folder(program, tmp_path / "work")
