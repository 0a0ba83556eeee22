import contextlib
import copy
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import programs
import pytest
import torch
from conftest import ROOT

from mprnet import Restorer, UserError, load_model
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.inference import precision

BUNDLED = ROOT / "Denoising" / "pretrained_models" / "model_denoising_lite.safetensors"
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("speedup", "available", "chosen"),
    [(2.0, True, "bf16"), (1.1, True, "fp32"), (0.5, True, "fp32"), (2.0, False, "fp32")],
)
def test_auto_chooses_the_precision_that_is_faster_on_this_cpu(monkeypatch, speedup, available, chosen):
    """Only where PyTorch has oneDNN. Without it, even the operation that asks the processor is missing.

    Another program makes eight of twenty runs in bf16 or fp32 a hundred times as slow.
    """
    for disturbed in (0, 1):
        durations = [[1.0, 1.0 / speedup] for _ in range(20)]
        for pair in durations[2:10]:
            pair[disturbed] *= 100
        moments = (moment for pair in durations for duration in pair for moment in (0.0, duration))
        monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=moments.__next__))
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
        operations = {"_is_mkldnn_bf16_supported": lambda: True} if available else {}
        monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**operations))
        precision._fastest_on_cpu.cache_clear()
        try:
            assert precision.choose_precision("auto", CPU, 40) == chosen
        finally:
            precision._fastest_on_cpu.cache_clear()


def test_auto_works_on_this_machine(tiny):
    restorer = Restorer(tiny, "cpu", "auto")
    assert restorer.precision in ("fp32", "bf16")
    assert restorer(np.zeros((9, 9, 3), np.float32)).shape == (9, 9, 3)


@pytest.mark.parametrize(
    ("capability", "bf16", "chosen"),
    [((6, 1), False, "fp32"), ((7, 0), False, "fp16"), ((7, 5), False, "fp16"), ((8, 0), True, "bf16")],
)
def test_auto_chooses_the_precision_of_tensor_cores(monkeypatch, capability, bf16, chosen):
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert precision.choose_precision("auto", torch.device("cuda", 0), 40) == chosen


@pytest.fixture
def broken_gpu(monkeypatch):
    """A GPU that PyTorch finds, but has no programs for."""

    def fail(*shape, device):
        raise RuntimeError(messages[0])

    messages = ["CUDA error: no kernel image is available for execution on the device\nCompile with x"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch, "zeros", lambda size, device: None)
    monkeypatch.setattr(torch, "ones", fail)
    precision._find_problem.cache_clear()
    yield messages
    precision._find_problem.cache_clear()


def test_a_gpu_that_cannot_compute_is_left_with_a_sentence(broken_gpu, capsys):
    assert precision.choose_device("auto") == CPU
    said = capsys.readouterr().err
    assert "cuda:0 cannot be used (CUDA error: no kernel image is available for execution on the device Co" in said
    assert "continuing on the CPU" in said
    with pytest.raises(UserError, match=r"cuda:0 cannot be used \(CUDA error: no kernel .*\); choose --device cpu"):
        precision.choose_device("cuda")


def test_a_gpu_whose_memory_is_taken_now_is_not_left(broken_gpu):
    broken_gpu[0] = "CUDA out of memory"
    assert precision.choose_device("auto") == precision.choose_device("cuda") == torch.device("cuda", 0)


def test_an_unknown_precision_raises_a_clear_error():
    with pytest.raises(UserError, match="fp8 is not known; choose one of auto, fp32, bf16, fp16"):
        precision.choose_precision("fp8", CPU, 40)


def test_half_precision_is_close_to_single():
    """At least 55 dB (63 to 65 dB on photographs). The input image stays in fp32; in bf16, 52 dB would be the limit."""
    model = load_model(BUNDLED)
    image = gaussian_noise(np.random.default_rng(0), dead_leaves(7, 0, 96), 25).astype(np.float32) / 255
    single = Restorer(model, "cpu", "fp32").every_stage(image)
    for name in ("bf16", "fp16"):
        half = Restorer(model, "cpu", name)
        assert half.precision == name
        for a, b in zip(half.every_stage(image), single, strict=True):
            assert a.dtype == np.float32
            assert -10 * np.log10(np.mean((a - b) ** 2)) > 55


def test_an_overflow_in_fp16_continues_in_fp32(tiny, capsys):
    with torch.no_grad():
        tiny.shallow_feat1[0].weight.mul_(1e7)
        tiny.shallow_feat2[0].weight.mul_(1e7)
        tiny.shallow_feat3[0].weight.mul_(1e7)
    image = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    overflowing = copy.deepcopy(tiny)
    restorer, expected = Restorer(tiny, "cpu", "fp16"), Restorer(tiny, "cpu")(image)
    torch.nn.init.zeros_(tiny.tail.weight)  # the restorer has its own copy of the network
    np.testing.assert_allclose(restorer(image), expected, atol=1e-6)
    assert "a result in fp16 is not finite; continuing in fp32" in capsys.readouterr().err
    assert restorer.precision == "fp32"
    # Images that were started in fp16 before are restored again.
    restorer = Restorer(overflowing, "cpu", "fp16")
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    for wait in [restorer.start([pixels]), restorer.start([pixels])]:
        torch.testing.assert_close(wait()[0].permute(1, 2, 0).numpy(), expected, atol=1e-6, rtol=0)
    assert capsys.readouterr().err.count("continuing in fp32") == 1


def run_script(folder: Path, script: str) -> None:
    """Run a script in a process of its own: some of PyTorch's settings cannot be undone."""
    (folder / "script.py").write_text(textwrap.dedent(script))
    run = programs.run(folder / "script.py")
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="PyTorch has these settings from 2.9 on")
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("backends.cuda.matmul.fp32_precision", "tf32"),
        ("backends.fp32_precision", "tf32"),
        ("backends.fp32_precision", "bf16"),
        ("backends.mkldnn.fp32_precision", "bf16"),
        ("backends.cudnn.fp32_precision", "tf32"),
        ("backends.cudnn.conv.fp32_precision", "ieee"),
        ("backends.mkldnn.conv.fp32_precision", "bf16"),
        ("backends.mkldnn.conv.fp32_precision", "tf32"),
        ("backends.mkldnn.matmul.fp32_precision", "bf16"),
        ("backends.cuda.matmul.allow_tf32", True),
    ],
)
def test_full_fp32_works_with_every_way_to_choose_a_lower_precision(tmp_path, setting, value):
    """Operations that inherited their precision inherit it again afterwards."""
    run_script(
        tmp_path,
        f"""
        from torch import backends
        from mprnet.inference.precision import full_fp32

        operations = [backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv]

        def read():
            return {setting}, [operation.fp32_precision for operation in operations]

        {setting} = {value!r}
        before = read()
        with full_fp32():
            assert read()[1] == ["ieee"] * 4, read()
        assert read() == before, (read(), before)
        if {setting!r} == "backends.fp32_precision":
            backends.fp32_precision = "ieee"
            assert "bf16" not in read()[1], read()
        """,
    )


def test_two_threads_compute_in_fp32_and_leave_the_settings_as_they_were(tmp_path):
    """The second thread enters while the first runs its network, and runs its own after the first has ended."""
    run_script(
        tmp_path,
        """
        import threading
        import numpy as np
        import torch
        from mprnet import MPRNet, Restorer

        started, joined, ended = threading.Event(), threading.Event(), threading.Event()
        image, seen = np.zeros((8, 8, 3), np.uint8), []

        def read():
            conv = getattr(torch.backends.mkldnn, "conv", None)
            return torch.get_float32_matmul_precision(), conv and conv.fp32_precision

        def first():
            started.set()
            assert joined.wait(60)
            seen.append(read())

        def second():
            joined.set()
            assert ended.wait(60)
            seen.append(read())

        def make(hook):
            def call_in_run(network, inputs):
                if not inputs[0].is_meta:  # the constructor measures the network on this device
                    hook()

            network = MPRNet(4, 2, 2, 1, reduction=2)
            network.register_forward_pre_hook(call_in_run)
            return Restorer(network, "cpu")

        def run_first(restorer=make(first)):
            restorer(image)
            ended.set()

        torch.set_float32_matmul_precision("medium")
        has_new_settings = hasattr(torch.backends.mkldnn, "conv")
        if has_new_settings:
            torch.backends.mkldnn.conv.fp32_precision = "bf16"
        before = read()
        restorer, thread = make(second), threading.Thread(target=run_first)
        thread.start()
        assert started.wait(60)
        restorer(image)
        thread.join()
        assert seen == [("highest", "ieee" if has_new_settings else None)] * 2, seen
        assert read() == before, (read(), before)
        """,
    )
