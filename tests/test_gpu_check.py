"""make gpu-check: its parts, rehearsed with tiny sizes, and what it does if a part fails."""

import contextlib
import dataclasses
import json
import re
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from mprnet import UserError

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def modules(import_benchmark):
    """The modules of benchmarks/, and what a rehearsal measures."""
    names = ("gpu_parts", "gpu_training", "gpu_inference")
    parts, training, inference = (import_benchmark(name) for name in names)
    check = parts.make_check("cpu", time.time() + 600)
    return SimpleNamespace(parts=parts, training=training, inference=inference, check=check)


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of the tables in a text, by their first cells."""
    tables = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in tables}


def test_the_machine(modules, capsys):
    modules.parts.describe_machine(modules.check)
    assert rows(capsys.readouterr().out)["PyTorch"] == [torch.__version__]


def test_the_waits_of_a_step(modules, capsys):
    modules.training.count_waits(modules.check)
    found = rows(capsys.readouterr().out)
    assert [found[name] for name in modules.training.WAITS] == [["1"]] * 3


def test_feeding(modules, capsys, monkeypatch):
    monkeypatch.setattr(modules.training, "choose_workers", lambda: 0)
    modules.training.measure_feeding(modules.check)
    found = rows(capsys.readouterr().out)
    assert re.fullmatch(r"\d+\.\d{4}", found["the loader's batches"][0])
    assert re.fullmatch(r"\d+\.\d %", found["the loader's batches"][1])


def test_a_batch_that_does_not_fit_is_halved(modules, monkeypatch):
    batches = []

    def measure(check):
        batches.append(check.batch)
        if check.batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(modules.training, "measure_fed_steps", measure)
    modules.training.measure_feeding(dataclasses.replace(modules.check, batch=16))
    assert batches == [16, 8, 4]


def test_the_table_of_steps(modules, capsys, monkeypatch):
    """Batches of two of the first task do not fit, the last task fails, and compiled steps take too long."""

    def run(command, **options):
        assert options["timeout"] < 600
        task, batch, variant = (command[command.index(key) + 1] for key in ("--task", "--batch", "--only"))
        if "compiled" in variant:
            raise subprocess.TimeoutExpired(command, 1)
        if task == "Deraining":
            return subprocess.CompletedProcess(command, 1, "", "Traceback\nValueError: a|b\n")
        if task == "Deblurring" and batch == "2":
            return subprocess.CompletedProcess(command, 1, "", "torch.OutOfMemoryError: CUDA out of memory.\n")
        return subprocess.CompletedProcess(command, 0, json.dumps({"seconds": 0.09, "bytes": 2**31}), "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(modules.training, "measure_peak", lambda check, is_bf16: 100.0)
    monkeypatch.setattr(modules.training, "count_operations", lambda task, batch, patch: 4.5e12)
    tasks = ("Deblurring", "Denoising", "Deraining")
    modules.training.measure_steps(dataclasses.replace(modules.check, tasks=tasks))
    out = capsys.readouterr().out
    # With half of the batch, twice as many steps are as many samples.
    assert "| Deblurring | bf16 | 1 | 0.0900 | 2.0 | 50 | 50 % | 20.0 hours |\n" in out
    assert "| Denoising | fp32 | 2 | 0.0900 | 2.0 | 50 | 50 % | 10.0 hours |\n" in out
    assert "| Deraining | bf16 | 2 | failed: ValueError: a/b |  |  |  |  |\n" in out
    assert "| Denoising | bf16, compiled | 2 | no time left |  |  |  |  |\n" in out


def test_a_step_without_time_is_not_started(modules):
    check = dataclasses.replace(modules.check, deadline=time.time() + 1)
    assert modules.training.measure_step(check, "Deraining", "ours fp32", 1.0) == ["2", "no time left"]


def test_the_peak_of_a_device(modules, monkeypatch):
    assert modules.parts.measure_peak(modules.check, is_bf16=True) > 0
    assert modules.parts.find_known_peak(torch.device("cpu"), is_bf16=True) is None
    for name, peak in (("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA L40S", 362), ("T4", None)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert modules.parts.find_known_peak(torch.device("cuda", 0), is_bf16=True) == peak


def test_outputs_are_compared_with_the_published_ones(modules, capsys, monkeypatch):
    monkeypatch.setattr(modules.inference, "find_precisions", lambda device, channels: ["fp32"])
    modules.inference.compare_outputs(modules.check)
    precision, difference, graph = rows(capsys.readouterr().out)["Deraining"]
    assert (precision, graph) == ("fp32", "none")
    assert float(difference) < 1e-4
    weights = modules.inference.golden_weights
    monkeypatch.setattr(
        modules.inference, "golden_weights", lambda model: {key: 1.01 * value for key, value in weights(model).items()}
    )
    with pytest.raises(ValueError, match="wrong results: Deraining in fp32"):
        modules.inference.compare_outputs(modules.check)


def test_a_graph_that_gives_something_else_is_noticed(modules, monkeypatch):
    """The result of each pass is another one."""
    check, case = modules.check, {"seed": 0, "shape": [1, 3, 16, 16], "stages": []}
    model = modules.inference.make_model(check)
    run = modules.inference.Runner.__call__

    def replay(runner, batch, grid):
        graph = modules.inference.Graph.__new__(modules.inference.Graph)
        return modules.inference.Graph.replay(graph, run(runner, batch + torch.rand(()), grid))

    monkeypatch.setattr(modules.inference.Graph, "replay", lambda graph, images: images)
    monkeypatch.setattr(modules.inference.Runner, "__call__", replay)
    case["stages"] = [{"sample": [[[[0.0]]] * 3]}] * 3
    assert modules.inference.compare_output(check.device, model, "fp32", case)[1] == "differs"


def test_the_precisions_of_a_device(modules):
    assert {"fp32", "bf16"} <= set(modules.inference.find_precisions(torch.device("cpu"), 8))


def test_tiles_are_compared_with_those_on_the_cpu(modules, capsys, monkeypatch):
    modules.inference.compare_tiles(modules.check)
    found = rows(capsys.readouterr().out)
    assert found["tiles, local pooling"] == found["self-ensemble"] == ["0.0e+00"]
    images = iter(range(100))
    monkeypatch.setattr(
        modules.inference, "Restorer", lambda *_, **options: lambda image: torch.full((1,), float(next(images)))
    )
    with pytest.raises(ValueError, match=r"the device differs from the CPU by 1\.0e\+00"):
        modules.inference.compare_tiles(modules.check)


def test_a_picture_survives_a_shortage_of_memory(modules, capsys, monkeypatch):
    modules.inference.survive_shortage(modules.check)
    found = rows(capsys.readouterr().out)
    assert int(found["tiles"][0]) > 1
    monkeypatch.setattr(modules.inference, "limit_memory", lambda *_: contextlib.nullcontext())
    with pytest.raises(ValueError, match="memory did not run out"):
        modules.inference.survive_shortage(modules.check)


def test_half_of_the_memory_is_left(modules, monkeypatch):
    cuda, fractions = torch.cuda, []
    for name, result in (
        ("reset_peak_memory_stats", None),
        ("empty_cache", None),
        ("memory_allocated", 100),
        ("max_memory_allocated", 300),
        ("get_device_properties", SimpleNamespace(total_memory=1000)),
    ):
        monkeypatch.setattr(cuda, name, lambda *_, result=result: result)
    monkeypatch.setattr(cuda, "set_per_process_memory_fraction", lambda fraction, device: fractions.append(fraction))
    with modules.inference.limit_memory(torch.device("cuda"), lambda image: image, torch.zeros(1)):
        assert fractions == [0.2]
    assert fractions == [0.2, 1.0]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning", "ignore:.*torch.jit.script:DeprecationWarning")
def test_the_speed_of_inference(modules, capsys):
    check = dataclasses.replace(modules.check, restored=(64, 48))
    modules.inference.measure_speed(check)
    table = [
        line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny")
    ]
    assert [row[1] for row in table][:2] in (["published fp32", "ours fp32"], ["published fp32", "ours fp32 (auto)"])
    assert table[0][3] == "1.00"
    for row in table:
        assert float(row[2]) > 0
        assert float(row[3]) == pytest.approx(float(table[0][2]) / float(row[2]), rel=0.2)
    modules.inference.measure_speed(dataclasses.replace(check, deadline=time.time() + 5))
    assert "| tiny | no time left |" in capsys.readouterr().out


def test_networks_are_timed_by_turns(modules, monkeypatch):
    """The first call of each warms up; then each round has one call of each."""
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in ("published fp32", "ours fp32")}
    durations = iter([3.0, 1.0, 5.0, 2.0, 4.0, 3.0])
    monkeypatch.setattr(modules.inference, "seconds", lambda run, device: (run(), next(durations))[1])
    monkeypatch.setattr(modules.inference, "_ROUNDS", 3)
    assert modules.inference.time_by_turns(modules.check, runs) == {"published fp32": 4.0, "ours fp32": 2.0}
    assert calls == 4 * ["published fp32", "ours fp32"]


# Instead of benchmarks/gpu.py, with parts of its own.
PARTS = f"""
    import os, subprocess, sys, time
    sys.path.insert(0, {str(BENCHMARKS)!r})
    sys.modules["gpu_parts"] = type(sys)("gpu_parts")  # without PyTorch
    sys.modules["gpu_parts"].make_check = lambda device, deadline: device
    import gpu

    def good(device):
        print(f"good on {{device}}")

    def bad(device):
        print("half")
        raise ValueError("broken\\nhere")

    def dies(device):
        os.abort()

    def hangs(device):
        print("so far", flush=True)
        open(__file__ + ".hangs", "w").close()
        time.sleep(3600)

    class Popen(subprocess.Popen):
        # The time of a part is up as soon as it hangs, however slow the machine is.
        def communicate(self, input=None, timeout=None):
            assert timeout is None or timeout <= 180  # of a rehearsal
            while timeout is not None and self.poll() is None:
                if os.path.exists(__file__ + ".hangs"):
                    os.remove(__file__ + ".hangs")
                    raise subprocess.TimeoutExpired(self.args, timeout)
                time.sleep(0.01)
            return super().communicate(input)

    subprocess.Popen = Popen
    gpu.PARTS = [gpu.Part(name, f"__main__:{{name}}", 1) for name in WORDS]
    sys.exit(gpu.main())
"""


@pytest.fixture
def run_parts(tmp_path):
    """A function that runs parts and returns the exit status, the printed text, and the path for the page."""

    def run(words: list[str], *arguments: str) -> tuple[int, str]:
        script = tmp_path / "parts.py"
        script.write_text(textwrap.dedent(PARTS).replace("WORDS", repr(words)))
        command = [sys.executable, str(script), "--device", "cpu", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_part_that_fails_hangs_or_dies_does_not_stop_the_others(run_parts, tmp_path):
    parts = ["good", "bad", "hangs", "dies", "good"]
    status, _ = run_parts(parts, "--output", str(tmp_path / "page.md"), "--minutes", "1")
    assert status == 1
    sections = (tmp_path / "page.md").read_text().split("## ")[1:]
    good, bad, hangs, dies, last = (section.split("\n", 1)[1].strip() for section in sections)
    assert good == last == "good on cpu"
    assert bad == "half\n\n**Failed: ValueError: broken here**"
    stopped = re.fullmatch(r"so far\n\n\*\*Stopped after (\d+) seconds\.\*\*", hangs)
    assert stopped
    assert 0 < int(stopped[1]) <= 60 / 3  # two of five equal parts are done
    assert dies == "**Ended by SIGABRT.**"


def test_without_the_device_no_page_is_written(run_parts, tmp_path):
    status, output = run_parts(["bad", "good"], "--output", str(tmp_path / "page.md"))
    assert status == 1
    assert "error: nothing was measured, so no page was written." in output
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize(
    "arguments", [("--minutes", "0"), ("--minutes", "nan"), ("--output", "no/such/folder/page.md")]
)
def test_wrong_arguments_are_refused_before_anything_is_measured(run_parts, arguments):
    status, output = run_parts(["good"], *arguments)
    assert status == 2
    assert f"error: argument {arguments[0]}: " in output
    assert "good on cpu" not in output


def test_an_unknown_device_is_said_in_one_sentence(modules):
    with pytest.raises(UserError, match="there is no device foo here"):
        modules.parts.make_check("foo", 0)


def test_a_rehearsal_is_printed_only(run_parts):
    status, output = run_parts(["good", "good"])
    assert status == 0
    assert output.count("good on cpu") == 4
    assert "written:" not in output
