import sys

import programs
import pytest
from conftest import ROOT

CLI = ("-m", "mprnet.apps.cli")
SAMPLE = ROOT / "samples" / "input" / "Denoising" / "coffee.png"


@pytest.mark.processes
def test_restore_writes_what_demo_writes(tmp_path):
    where = ["--task", "Denoising", "--device", "cpu", "--grade", "lite"]
    done = programs.run(*CLI, "restore", *where, SAMPLE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    programs.run(ROOT / "demo.py", *where, "--input_dir", SAMPLE, "--result_dir", tmp_path / "demo")
    assert (tmp_path / "restored" / "coffee.png").read_bytes() == (tmp_path / "demo" / "coffee.png").read_bytes()


def run(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    from mprnet.apps import cli

    monkeypatch.setattr(sys, "argv", ["mprnet", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out + err


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ([], 2, "usage: mprnet COMMAND"),
        (["--help"], 0, "usage: mprnet COMMAND"),
        (["retsore"], 2, "there is no command retsore"),
        (["restore"], 2, "say what to restore: mprnet restore --task"),
        (["restore", "--task", "Denoising"], 2, "say what to restore"),
        (["restore", "a.png", "--input_dir", "b", "--task", "Denoising"], 2, "name the pictures once"),
        (["restore", "a.png"], 2, "name the task: --task {Deblurring,Denoising,Deraining}"),
        (["restore", "--task", "Denoising", "--strength", "1.5", "a.png"], 2, "--strength: takes a number from 0 to 1"),
        (["restore", "--task", "Denoising", "--strength", "nan", "a.png"], 2, "--strength: takes a number from 0 to 1"),
        (["restore", "--help"], 0, "usage: mprnet restore"),
        (["export", "--help"], 0, "usage: mprnet export"),
        (["figure", "--help"], 0, "usage: mprnet figure"),
        (["page", "--help"], 0, "usage: mprnet page"),
        (["train"], 2, "required: --task"),
        (["train", "--task", "Dehazing"], 2, "invalid choice: 'Dehazing'"),
    ],
)
def test_the_command_line(monkeypatch, capsys, words, status, sentence):
    code, said = run(monkeypatch, capsys, *words)
    assert (code, sentence in said) == (status, True), said


@pytest.mark.processes
@pytest.mark.parametrize(("name", "sentence"), [("train", "Deraining/training.yml"), ("test", "Rain100H")])
@pytest.mark.parametrize("words", [["--task", "Deraining"], ["--task=Deraining"]])
def test_train_and_test_run_the_tasks_scripts(name, sentence, words):
    done = programs.run(*CLI, name, *words, "--help")
    assert done.returncode == 0
    assert f"usage: mprnet {name}" in done.stdout
    assert sentence in done.stdout


@pytest.mark.processes
def test_other_options_are_the_scripts():
    done = programs.run(*CLI, "test", "--table", "--task", "Deraining", "--limit", 3)
    assert done.returncode == 0, done.stderr
    assert "Rain100H" in done.stdout
    assert programs.run(*CLI, "train", "--task", "Deraining", "OPTIM.NO_SUCH_KEY", "-1").returncode == 1
