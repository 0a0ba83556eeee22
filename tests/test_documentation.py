"""Runs every command in README.md, CONTRIBUTING.md, docs/ and the folders' README files, in a copy of the project.

The copy has small data sets. Placeholders in a command (PATH, FILE, TASK, ...) are replaced, and settings at its end
make it short. A command that this file cannot run fails. ``make docs`` runs the code in docs/examples.md and checks
links.
"""

import re
import shlex
import shutil
import signal
import socket
import textwrap
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from apps.miniatures import write_benchmarks, write_pairs, write_photographs, write_training_sets, write_weights
from conftest import ROOT, TASKS
from PIL import Image

import mprnet

PAGES = sorted(
    {ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("[!.]*/README.md")}
    | {*ROOT.glob("*/Datasets/README.md"), *ROOT.glob("*/pretrained_models/README.md")}
)
PROGRAMS = ("python", "torchrun", "make", "pip")
# Settings that make training short.
TINY = "MODEL.N_FEAT 8 MODEL.SCALE_UNETFEATS 4 MODEL.SCALE_ORSNETFEATS 4 MODEL.NUM_CAB 1 OPTIM.BATCH_SIZE 4"
TINY += " OPTIM.NUM_EPOCHS 2 OPTIM.WARMUP_EPOCHS 1 TRAINING.TRAIN_PS 32 TRAINING.VAL_PS 32 TRAINING.VAL_AFTER_EVERY 1"
TINY += " TRAINING.COMPILE False SYNTHETIC.PICTURES 4 SYNTHETIC.PICTURE_SIZE 48 SYNTHETIC.SAMPLES_PER_EPOCH 8"
TINY += " SYNTHETIC.VAL_PICTURES 2 TRAINING.WORKERS 0 TRAINING.INIT_WEIGHTS ''"


def commands() -> list[tuple[str, str]]:
    """Return (page, command) for each indented line that starts with a program's name; each command once."""
    pages: dict[str, str] = {}
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for line in re.findall(rf"^ {{4,}}((?:{'|'.join(PROGRAMS)}) .*)$", text, flags=re.MULTILINE):
            command = re.sub(r"\s+#.*", "", line).strip()
            pages.setdefault(command, str(page.relative_to(ROOT)))
    return [(page, command) for command, page in pages.items()]


def parameters() -> list[object]:
    """Return the commands as parameters of a test. All except the README's short ones are slow tests."""
    return [
        pytest.param(command, id=f"{page}: {command}", marks=[] if is_quick(page, command) else [pytest.mark.slow])
        for page, command in commands()
    ]


def is_quick(page: str, command: str) -> bool:
    return page == "README.md" and command.startswith("python") and "train.py" not in command


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project without the library, with small data sets in their places."""
    project = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("checkpoints", "results", "synthetic", "output", "__pycache__", "*.pth")
    for name in (*TASKS, "samples", "benchmarks"):
        shutil.copytree(ROOT / name, project / name, ignore=ignored)
    (project / "docs").mkdir()
    shutil.copy(ROOT / "demo.py", project)
    for task in TASKS:
        write_training_sets(task, project / task / "Datasets")
        write_benchmarks(task, project / task / "Datasets")
    for folder in (project / "SIDD_Medium_Srgb" / "Data", project / "Denoising/Datasets/SIDD_Medium_Srgb/Data"):
        write_photographs(folder, 1)
    for number, part in enumerate(("train", "val", "test")):
        write_pairs(project / "MyData" / part, 4, first=10 * number)
    own_data = (ROOT / "docs" / "own_data.md").read_text()
    settings = re.findall(r"```yaml\n(.*?)```", own_data, flags=re.DOTALL)[0]
    (project / "Deraining/training_mine.yml").write_text(
        textwrap.dedent(settings).replace("/data/MyData", str(project / "MyData"))
    )
    write_weights(project / "tiny.safetensors")
    (project / "run").mkdir()
    (project / "run" / "log.csv").write_text("epoch,step,loss,psnr,input_psnr\n1,10,0.5,30,25\n2,20,0.4,31,25\n")
    return project


def fill_in(command: str, results: Path) -> str:
    """Return the command with values in place of PATH, FILE, TASK, ..."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    task = next((task for task in TASKS if task in command), "Deraining")
    for name, value in {
        r"\[.*?\]": "",
        r"\bTASK\b": task,
        r"\bPATH\b": f"samples/input/{task}",
        r"\bFOLDER\b": str(results),
        r"\bFOLDER_OF_THE_VALIDATION_MAT_FILES\b": "Denoising/Datasets/SIDD/test",
        r"\bFILE\.onnx\b": str(results / "exported.onnx"),
        r"\bFILE\b": "tiny.safetensors",
        r"\b(INPUT|RESULT)_DIR\b": f"samples/input/{task}",
        r"\bTARGET_DIR\b": f"samples/target/{task}",
        r"\bRUN\b": "run",
        r"\bINPUT TARGET\b": f"samples/input/{task} samples/target/{task}",
        r"\bHOST:29500\b": f"localhost:{port}",
        r"--nnodes 2": "--nnodes 1",
        r"--nproc_per_node 4": "--nproc_per_node 2",
    }.items():
        command = re.sub(name, value, command)
    return command


def shorten(command: str, results: Path) -> str:
    """Return the command with settings at its end that make it short.

    Raises:
        ValueError: no settings are known for this command.
    """
    script = next((word for word in command.split() if word.endswith(".py") or word.startswith("mprnet.")), "")
    weights = "" if "--weights" in command or "--score_only" in command else " --weights tiny.safetensors"
    match Path(script).name:
        case "train.py":
            return command if "--check" in command else f"{command} {TINY} TRAINING.SAVE_DIR {results}"
        case "test.py" | "test_SIDD.py" | "test_DND.py":
            return command if "--check" in command else f"{command}{weights} --limit 1 --result_dir {results}"
        case "demo.py":
            return command + (weights if "--task" in command else "")
        case "generate_patches_SIDD.py":
            return f"{command} --ps 32 --num_patches 4 --tar_dir {results / 'train'} --val_dir {results / 'val'}"
        case "inference.py":
            return f"{command} --size 64 --repeats 1 --task Deraining"
        case "training.py":
            return f"{command} --task Deraining --batch 1 --patch 32 --rounds 1 --steps 1"
        case "loading.py":
            return f"{command} --width 64 --height 64 --patch 32"
        case "mprnet.apps.export":
            output = results / f"exported{'.pt2' if 'torch' in command else '.onnx'}"
            return command + ("" if "--output" in command else f" --output {output}") + weights
        case "metrics.py" | "degrade.py" | "mprnet.apps.figure":
            return command
        case "quality.py":
            return f"{command} --only nothing"
        case "deviations.py":
            return f"{command} --task Denoising"
        case "shapes.py":
            return f"{command} --shapes 4/2/0/1 --rounds 1 --precision fp32 --steps 0"
        case "synthetic.py":
            return f"{command} --pictures 12 --samples 2"
    raise ValueError(f"{__file__} does not know how to run {command}")


@pytest.mark.parametrize("command", parameters())
def test_a_documented_command_runs(command, project, tmp_path):
    if command.startswith(("make", "pip")):
        check_install(command)
        return
    if "--device cuda" in command and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    if "benchmarks/" in command:
        pytest.importorskip("spandrel_extra_arches")
        pytest.importorskip("sklearn")
    if "apps.export" in command and "--format torch" not in command:
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    if "--web" in command:
        pytest.importorskip("gradio")
    full = shorten(fill_in(command, tmp_path / "out"), tmp_path / "out")
    if "TRAINING.RESUME True" in command:  # a checkpoint to resume from
        run(full.replace("TRAINING.RESUME True", ""), project)
    run(full, project)


def run(command: str, project: Path) -> None:
    name, *words = shlex.split(command)
    program = programs.Program(*{"python": [], "torchrun": ["-m", "torch.distributed.run"]}[name], *words, cwd=project)
    serves = "--web" in words  # until it is stopped
    if serves:
        program.wait_until(lambda: "open http://" in program.stdout)
        program.send_signal(signal.SIGTERM)
    done = program.wait(timeout=1800)
    assert done.returncode == (128 + signal.SIGTERM if serves else 0), f"{command}\n{done.stdout}{done.stderr}"


def check_install(command: str) -> None:
    """Check that the target of make, or the extra for pip, exists: a test cannot run these commands."""
    if command.startswith("make"):
        assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    else:
        extras = re.findall(r"\[(\w+)\]", command)
        known = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
        assert all(re.search(rf"^{extra} = ", known, flags=re.MULTILINE) for extra in extras)
        assert extras or (ROOT / "requirements.txt").exists()


def test_the_readmes_python_runs(project):
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
    Image.fromarray(np.full((12, 9, 3), 100, np.uint8)).save(project / "in.jpg")
    (project / "readme.py").write_text("import numpy as np\n\nimage = np.random.rand(30, 41, 3)\n" + code)
    run("python readme.py", project)
    assert mprnet.read_photo(project / "out.png").pixels.shape == (12, 9, 3)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 180


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs" / "reference.md").read_text()
    assert [name for name in mprnet.__all__ if not re.search(rf"\bmprnet\.{name}\b", page)] == []


def test_the_site_has_every_page():
    """MkDocs checks this, too, in ``make docs``."""
    navigation = set(re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    assert navigation == {page.relative_to(ROOT).as_posix() for page in PAGES}
