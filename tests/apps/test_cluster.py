"""Events in the life of a run on a cluster, through the programs that a user starts."""

import itertools
import os
import re
import signal
import socket
import subprocess
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import ROOT
from programs import Program
from training.runs import SLOW_LOGS, are_equal

from apps.miniatures import write_training_sets
from mprnet.apps.train import PATIENCE
from mprnet.training import logs, shared_memory
from mprnet.training.step import Stepper

OPTIONS = ["MODEL.N_FEAT", 8, "MODEL.SCALE_UNETFEATS", 4, "MODEL.SCALE_ORSNETFEATS", 4, "MODEL.NUM_CAB", 1]
OPTIONS += ["OPTIM.BATCH_SIZE", 4, "OPTIM.NUM_EPOCHS", 2, "OPTIM.WARMUP_EPOCHS", 0, "TRAINING.RESUME", "auto"]
OPTIONS += ["TRAINING.TRAIN_PS", 32, "TRAINING.VAL_PS", 16, "TRAINING.VAL_AFTER_EVERY", 2, "TRAINING.SAVE_MINUTES", 0.0]


class Quick(NamedTuple):
    """A program that draws no curves, which takes longer than all the rest.

    Attributes:
        free: how much of the shared memory it finds free, in bytes; None: as much as there is.
        meets: False: it does not meet other processes, but prints how it would do so, and ends.
    """

    free: int | None = None
    meets: bool = True

    def prepare(self) -> None:
        """Change functions in this process, before the program starts."""
        for name in SLOW_LOGS:
            setattr(logs, name, lambda *arguments: None)
        if self.free is not None:
            usage = shared_memory.shutil.disk_usage("/")._replace(free=self.free)
            shared_memory.shutil.disk_usage = lambda folder: usage
        if not self.meets:
            torch.distributed.init_process_group = print_options


QUICK = Quick()


def print_options(*arguments: object, **options: object) -> None:
    print(arguments, options)
    raise SystemExit(7)


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    """The words of a command that trains on a small copy of a data set, without SAVE_DIR."""
    project = tmp_path_factory.mktemp("project")
    (project / "training.yml").write_text((ROOT / "Deblurring" / "training.yml").read_text())
    write_training_sets("Deblurring", project / "Datasets")
    return [str(ROOT / "Deblurring" / "train.py"), "--config", str(project / "training.yml"), *map(str, OPTIONS)]


def start(command: list[str], save_dir: Path, *more: object, stop: Any = QUICK, **environment: object) -> Program:
    return Program(*command, "TRAINING.SAVE_DIR", save_dir, *more, stop=stop, **environment)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start_two(command: list[str], save_dirs: list[Path], **options: Any) -> list[Program]:
    """Start two processes of a run, as launchers do."""
    variables = {"WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        start(command, folder, "TRAINING.WORKERS", 0, RANK=rank, **variables, **options)
        for rank, folder in enumerate(save_dirs)
    ]


def load(save_dir: Path) -> dict[str, torch.Tensor]:
    path = save_dir / "Deblurring" / "models" / "MPRNet" / "model_latest.pth"
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory) -> Path:
    """The SAVE_DIR of a run of two processes that nothing stops."""
    folder = tmp_path_factory.mktemp("whole")
    for program in start_two(command, [folder, folder]):
        done = program.wait()
        assert done.returncode == 0, done.stderr
    return folder


def test_a_process_waits_long_for_others(command, tmp_path):
    """Long enough for a compilation, a validation or a slow disk; PyTorch's default for GPUs is ten minutes."""
    assert PATIENCE.total_seconds() >= 30 * 60
    (process,) = start_two(command, [tmp_path], stop=Quick(meets=False))
    done = process.wait()
    assert done.returncode == 7, done.stderr
    assert "('gloo',)" in done.stdout
    assert f"'timeout': {PATIENCE!r}" in done.stdout


@pytest.mark.processes
def test_notes_about_shared_memory_and_about_restarts(command, tmp_path):
    """Shared memory is full, so no worker reads data."""
    variables = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_MAX_RESTARTS": 3}
    done = start(command, tmp_path, "TRAINING.WORKERS", 2, stop=Quick(free=0), **variables).wait()
    assert done.returncode == 0, done.stderr
    assert "note: 0 worker processes read pictures instead of 2: the batches of 2 need" in done.stdout
    assert len(load(tmp_path)) > 0
    # The variables are those of a torchrun whose restarts fail.
    assert "note: torchrun can restart the run only if TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in done.stdout


@pytest.mark.processes
def test_processes_that_do_not_share_a_folder_do_not_start(command, whole, tmp_path):
    """Otherwise one would resume, and the other would start a new run."""
    for program in start_two(command, [whole, tmp_path]):
        done = program.wait()
        assert done.returncode == 1, done.stdout
        assert "not all processes of this run find the same checkpoint in" in done.stderr
        assert "Traceback" not in done.stderr


class Dying:
    """``Stepper.update``, but the process of rank 1 is killed at its third step, unless ``marker`` exists."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker
        self.calls = itertools.count(1)
        self.update = Stepper.update

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if next(self.calls) == 3 and os.environ["RANK"] == "1" and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.update(*arguments, **options)


# What torchrun starts instead of train.py, with the path of the marker and the command that trains.
DYING_SCRIPT = f"""
    import runpy, sys
    from pathlib import Path
    sys.path.insert(0, {str(ROOT / "tests")!r})
    from apps.test_cluster import Dying, Quick, Stepper

    Quick().prepare()
    dying = Dying(Path(sys.argv[1]))
    Stepper.update = lambda *arguments, **options: dying(*arguments, **options)
    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_node_that_loses_a_process_restarts_it_and_the_weights_are_the_same(command, whole, tmp_path):
    """Two nodes of torchrun on this machine."""
    script, marker = tmp_path / "dying.py", tmp_path / "died"
    script.write_text(textwrap.dedent(DYING_SCRIPT))
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--max-restarts=1"]
    torchrun += ["--rdzv_backend=c10d", "--rdzv_id=job", f"--rdzv_endpoint=localhost:{free_port()}"]
    words = [*torchrun, str(script), str(marker), *command]
    variables = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": 1, "OMP_NUM_THREADS": 1}
    nodes = [start(words, tmp_path, "TRAINING.WORKERS", 0, **variables) for _ in range(2)]
    done = [node.wait() for node in nodes]
    assert [node.returncode for node in done] == [0, 0], done[0].stderr + done[1].stderr
    assert marker.exists()
    assert sum("0 epochs and 2 steps are done" in node.stdout for node in done) == 1
    assert are_equal(load(tmp_path), load(whole))


@pytest.fixture(scope="module")
def job() -> str:
    """The job script of docs/cluster.md."""
    page = (ROOT / "docs" / "cluster.md").read_text()
    return re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, flags=re.DOTALL)[0]


SRUN = """#!/bin/bash
trap 'echo saved >> events; exit 143' TERM
touch started
while [ ! -e ends ]; do sleep 0.01; done
exit 3
"""
SCONTROL = """#!/bin/bash
echo "$@" >> events
"""


def start_job(job: str, folder: Path) -> subprocess.Popen:
    """Start the job script with stand-ins for srun and scontrol. Return once srun runs."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    variables = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "42"}
    process = subprocess.Popen(["bash", "-c", job], cwd=folder, env=variables)
    while not (folder / "started").exists():
        assert process.poll() is None
    return process


def test_the_job_script_returns_the_exit_status_of_the_run(job, tmp_path):
    process = start_job(job, tmp_path)
    (tmp_path / "ends").touch()
    assert process.wait(60) == 3
    assert not (tmp_path / "events").exists()


def test_the_job_script_lets_a_run_save_and_asks_for_a_new_start(job, tmp_path):
    # The signal arrives between two commands, right after the start of srun.
    start = " &\n"
    assert job.count(start) == 1
    process = start_job(job.replace(start, f"{start}until [ -e signalled ]; do sleep 0.01; done\n"), tmp_path)
    process.send_signal(signal.SIGUSR1)
    (tmp_path / "signalled").touch()
    assert process.wait(60) == 0
    assert (tmp_path / "events").read_text() == "saved\nrequeue 42\n"
