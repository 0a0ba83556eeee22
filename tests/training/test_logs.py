import contextlib
import json
import os
import sys
import types
from pathlib import Path

import pytest

from mprnet import UserError
from mprnet.training import logs
from mprnet.training.logs import RunLogger
from training.runs import read_lines, read_log, tiny_settings

ROW = {"epoch": 1, "step": 3, "lr": 2e-4, "loss": 0.25, "skipped_steps": 0}
VALIDATED = ROW | {"epoch": 2, "step": 6, "skipped_steps": 2, "input_psnr": 20.0, "psnr": 21.5, "best_psnr": 22.0}


STEPS = ROW | {
    "epoch": 1.25, "step": 500, "recent_loss": 0.125, "grad_norm": 0.0312, "samples_per_second": 161.27,
    "data_wait": 0.024, "memory_gib": 10.23, "end": "2026-03-02 00:10",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _without_tensorboard(monkeypatch):
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda name: None)


def test_rows_are_written_as_table_lines_and_curves(tmp_path, capsys):
    logger = RunLogger(tmp_path, is_main=True)
    logger.start(tiny_settings(), 0)
    logger.add_row(ROW)
    logger.add_row(VALIDATED)
    logger.close()
    first, second = read_log(tmp_path)
    assert (first["loss"], first["psnr"], second["psnr"], second["best_psnr"]) == ("0.25", "", "21.5", "22.0")
    lines = read_lines(tmp_path)
    assert lines == [
        "epoch 1: loss 0.25000",
        "epoch 2: loss 0.25000, 2 steps skipped (loss or gradient not finite or too large), validation 21.500 dB "
        "(input 20.000, best 22.000)",
    ]
    assert capsys.readouterr().out.splitlines() == lines
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert {"python", "torch", "device", "git", "command"} <= set(environment)


def test_a_row_of_steps_says_how_fast_they_are_and_when_they_end(tmp_path):
    logger = RunLogger(tmp_path, is_main=True)
    logger.add_row(STEPS)
    logger.add_row({key: value for key, value in STEPS.items() if key != "memory_gib"} | {"step": 501})
    line = ": loss 0.12500, rate 0.0002, gradient norm 0.0312, 161 samples/s, 2% waiting for data"
    assert read_lines(tmp_path) == [
        f"epoch 1.250, step 500{line}, 10.2 GiB, ends 2026-03-02 00:10",
        f"epoch 1.250, step 501{line}, ends 2026-03-02 00:10",
    ]
    row = read_log(tmp_path, with_meter=True)[0]
    assert {key: row[key] for key in ("samples_per_second", "data_wait", "memory_gib", "end")} == {
        "samples_per_second": "161.27", "data_wait": "0.024", "memory_gib": "10.23", "end": "2026-03-02 00:10"
    }  # fmt: skip
    assert not (tmp_path / "curves.png").exists()


def test_luma_is_printed_and_has_columns_if_it_is_measured(tmp_path):
    logger = RunLogger(tmp_path, is_main=True)
    logger.add_row(VALIDATED)
    assert not any("luma" in column for column in read_log(tmp_path)[0])
    luma = {"input_luma_psnr": 22.0, "luma_psnr": 24.0}
    logger.add_row(VALIDATED | luma)
    del (by_luma := VALIDATED | luma | {"best_luma_psnr": 24.5})["best_psnr"]
    logger.add_row(by_luma)
    assert [line.partition("validation ")[2] for line in read_lines(tmp_path)] == [
        "21.500 dB (input 20.000, best 22.000)",
        "21.500 dB (input 20.000, best 22.000), luma 24.000 dB (input 22.000)",
        "21.500 dB (input 20.000), luma 24.000 dB (input 22.000, best 24.500)",
    ]
    first, second, third = read_log(tmp_path)
    assert [row["luma_psnr"] for row in (first, second, third)] == ["", "24.0", "24.0"]
    assert (second["best_psnr"], second["best_luma_psnr"]) == ("22.0", "")
    assert (third["best_psnr"], third["best_luma_psnr"]) == ("", "24.5")


def test_a_row_does_not_write_the_rows_before_it_again(tmp_path, monkeypatch):
    """A run of 400,000 steps can have that many rows."""
    logger = RunLogger(tmp_path, is_main=True)
    logger.history = [ROW]  # of the run before
    written = []
    monkeypatch.setattr(logs, "write_atomically", lambda path, data: written.append(path.write_bytes(data)))
    for _ in range(3):
        logger.add_row(ROW)
    logger.add_row(VALIDATED)
    assert len(written) == 1
    assert len(read_log(tmp_path)) == 5
    (tmp_path / "log.csv").unlink()  # by the user
    logger.add_row(ROW)
    assert len(read_log(tmp_path)) == 6


def test_a_row_that_could_not_be_written_is_written_with_the_next_one(tmp_path, monkeypatch, capsys):
    logger = RunLogger(tmp_path, is_main=True)
    logger.add_row(ROW)

    def write_a_part(self, text):
        with open(tmp_path / "log.csv", "a") as file:
            file.write("1,2")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(logs.csv.DictWriter, "writerow", write_a_part)
        logger.add_row(ROW)
    assert "could not write this line" in capsys.readouterr().err
    logger.add_row(ROW)
    assert [row["loss"] for row in read_log(tmp_path)] == [str(ROW["loss"])] * 3


def test_other_processes_keep_rows_but_write_nothing(tmp_path, capsys):
    logger = RunLogger(tmp_path, is_main=False)
    logger.start(tiny_settings(), 0)
    logger.add_row(ROW)
    logger.print("hello")
    logger.close()
    assert logger.history == [ROW]
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


def test_settings_of_earlier_starts_are_kept(tmp_path):
    def start(steps: int, *overrides: object) -> None:
        RunLogger(tmp_path, is_main=True).start(tiny_settings(*overrides), steps)

    start(0)
    start(5, "TRAINING.RESUME", True)  # RESUME alone does not count as a change
    start(9, "TRAINING.RESUME", True, "OPTIM.BATCH_SIZE", 2)
    start(9, "TRAINING.RESUME", True, "OPTIM.BATCH_SIZE", 3)
    assert {path.name for path in tmp_path.glob("settings*")} == {
        "settings.yml", "settings_until_step_9.yml", "settings_until_step_9_2.yml"
    }  # fmt: skip
    sizes = [
        (tmp_path / name).read_text().split("BATCH_SIZE: ")[1].split()[0]
        for name in ("settings_until_step_9.yml", "settings_until_step_9_2.yml", "settings.yml")
    ]
    assert sizes == ["4", "2", "3"]


def test_curves_are_drawn_at_validations_and_show_all_rows(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        logs, "draw_curves", lambda path, runs: drawn.append((path, {k: list(v) for k, v in runs.items()}))
    )
    logger = RunLogger(tmp_path, is_main=True)
    logger.add_row(ROW)
    assert not drawn
    logger.add_row(VALIDATED)
    assert drawn == [(tmp_path / "curves.png", {"restored": [ROW, VALIDATED]})]


def test_an_error_in_drawing_is_only_a_warning(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ZeroDivisionError("no fonts")

    monkeypatch.setattr(logs, "draw_curves", fail)
    logger = RunLogger(tmp_path, is_main=True)
    logger.add_row(VALIDATED)
    assert "warning: could not write this line to the log: epoch 2: loss 0.25000" in capsys.readouterr().err
    assert len(read_log(tmp_path)) == 1


class Writer:
    """Like TensorBoard's writer, but it fails when it writes psnr."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.rows, self.closed = folder, purge_step, [], False

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if name == "psnr":
            raise AttributeError("np.float_ was removed")
        self.rows.append((name, value, step))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def replace_tensorboard(monkeypatch, writer: object) -> None:
    module = types.ModuleType("torch.utils.tensorboard")
    if writer is not None:
        module.SummaryWriter = writer
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)


def test_tensorboard_gets_all_values_and_discards_those_of_later_steps(tmp_path, monkeypatch):
    writers = []
    replace_tensorboard(monkeypatch, lambda *a, **k: writers.append(Writer(*a, **k)) or writers[-1])
    logger = RunLogger(tmp_path, is_main=True)
    logger.start(tiny_settings(), 7)
    logger.add_row(ROW | {"end": "2026-03-02 00:10"})
    logger.close()
    (writer,) = writers
    assert (writer.folder, writer.purge_step, writer.closed) == (str(tmp_path / "tensorboard"), 8, True)
    assert writer.rows == [("lr", 2e-4, 3), ("loss", 0.25, 3), ("skipped_steps", 0, 3)]


@pytest.mark.parametrize("writer", [None, Writer])
def test_an_error_in_tensorboard_is_only_a_note(tmp_path, monkeypatch, capsys, writer):
    """The error comes when it is imported, or when a value is written."""
    replace_tensorboard(monkeypatch, writer)
    logger = RunLogger(tmp_path, is_main=True)
    logger.start(tiny_settings(), 0)
    for _ in range(2):
        logger.add_row(VALIDATED)
    logger.close()
    assert capsys.readouterr().out.count("note: continuing without TensorBoard (") == 1
    assert len(read_log(tmp_path)) == 2


def test_the_git_revision_is_that_of_the_program_not_of_the_working_directory(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr(
        logs.subprocess, "run", lambda *command, **options: folders.append(options["cwd"]) or Revision()
    )
    monkeypatch.chdir(tmp_path)
    RunLogger(tmp_path, is_main=True).start(tiny_settings(), 0)
    assert json.loads((tmp_path / "environment.json").read_text())["git"] == "v1-2-gabc"
    assert [Path(folder) for folder in folders] == [Path(logs.__file__).parent]


class Revision:
    stdout = "v1-2-gabc\n"


@pytest.mark.parametrize("name", ["log.csv", "curves.png", "settings.yml"])
def test_a_file_that_cannot_be_written_keeps_its_content(tmp_path, monkeypatch, name):
    logger = RunLogger(tmp_path, is_main=True)
    logger.start(tiny_settings(), 0)
    logger.add_row(VALIDATED)
    before = (tmp_path / name).read_bytes()

    def fail(source: object, target: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    logger = RunLogger(tmp_path, is_main=True)  # of a resumed run
    with contextlib.suppress(UserError, OSError):
        logger.start(tiny_settings("OPTIM.BATCH_SIZE", 5), 0)
    logger.add_row(VALIDATED)
    monkeypatch.undo()
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before in (contents.get(name), contents.get("settings_until_step_0.yml"))
