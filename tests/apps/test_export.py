import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from mprnet import AblationMPRNet, Restorer, load_model, save_weights, tasks
from mprnet.apps import export
from mprnet.inference import exporting
from mprnet.inference.exporting import AnySize, largest_difference, write_onnx, write_torch
from mprnet.model.local_pooling import largest_window, set_local_pooling
from mprnet.model.window_means import expand_to_pixels, pixel_means, window_means

# For a training patch of 32: from smaller than every window to larger than all. The last two are padded.
SIZES = [(1, 16, 16), (3, 16, 56), (1, 64, 24), (3, 9, 45), (1, 75, 101)]
BUNDLED = ROOT / "Denoising" / "pretrained_models" / "model_denoising_lite.safetensors"


@pytest.fixture
def small(tmp_path) -> Path:
    """Weights of a network with two stages, which is exported quickly."""
    torch.manual_seed(0)
    model = AblationMPRNet(4, 2, 3, num_cab=1, reduction=2, subnetworks=["unet", "orsnet"])
    save_weights(model, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.fixture
def smallest(tmp_path) -> Path:
    """Weights of a network with one stage and no U-Net, which is exported still more quickly."""
    torch.manual_seed(0)
    model = AblationMPRNet(4, 2, 0, num_cab=1, reduction=2, subnetworks=["orsnet"])
    model.metadata = {"training_patch": "24", "author": "me"}
    save_weights(model, tmp_path / "smallest.safetensors")
    return tmp_path / "smallest.safetensors"


def run(monkeypatch, capsys, *options: object) -> tuple[int, str]:
    """Run the program. Return its exit status and what it prints."""
    monkeypatch.setattr(sys, "argv", ["export", *map(str, options)])
    with pytest.raises(SystemExit) as caught:
        export.main()
    captured = capsys.readouterr()
    return caught.value.code, captured.out + captured.err


@pytest.mark.parametrize("window", [(3, 3), (4, 6), (1, 1), (7, 40), (40, 5), (90, 90)])
def test_pixel_means_equal_window_means_expanded_to_pixels(window):
    features = torch.rand(2, 3, 37, 30)
    expected = expand_to_pixels(window_means(features, window), window, 37, 30).expand(2, 3, 37, 30)
    torch.testing.assert_close(pixel_means(features, window), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("weights", ["smallest", pytest.param("small", marks=pytest.mark.slow)])
def test_a_torch_export_equals_the_network_at_every_size(request, tmp_path, weights):
    model = load_model(request.getfixturevalue(weights))
    set_local_pooling(model, 32)
    network = AnySize(model, None)
    program = write_torch(network, tmp_path / "w.pt2")
    for shape in SIZES:
        assert largest_difference(program, network, shape) < 1e-5
    images = program(torch.rand(1, 3, 20, 30))
    assert [tuple(image.shape) for image in images] == [(1, 3, 20, 30)] * model.num_stages


@pytest.mark.parametrize(
    ("stages", "patch"),
    [
        (1, 32),
        pytest.param(2, 32, marks=pytest.mark.slow),
        pytest.param(3, None, marks=pytest.mark.slow),
        pytest.param(3, 32, marks=pytest.mark.slow),
    ],
)
def test_an_onnx_export_equals_the_network_at_every_size(smallest, small, tiny, tmp_path, stages, patch):
    """With local pooling, and without: windows of 48 pixels are smaller than some of the images."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = {1: load_model(smallest), 2: load_model(small), 3: tiny}[stages]
    network = AnySize(model, None)
    image = torch.rand(1, 3, 75, 101) * torch.linspace(0, 1, 101)  # its windows have different means
    without_pooling = network.reference(image)[0]
    set_local_pooling(model, patch)
    assert largest_window(model) == (48 if patch else 0)
    graph = write_onnx(network, tmp_path / "w.onnx")
    for shape in SIZES:
        assert largest_difference(graph, network, shape) < 1e-5
    if patch:
        assert (graph(image)[0] - without_pooling).abs().max() > 2e-5


def test_an_export_equals_a_restorer(tiny):
    image = torch.rand(2, 3, 19, 34)
    images = AnySize(tiny, 2)(image)
    assert len(images) == 1
    expected = Restorer(tiny, device="cpu", stage=2)(image)
    torch.testing.assert_close(images[0].detach().clamp(0, 1), expected, atol=1e-5, rtol=0)


def test_the_program_prints_what_it_wrote_and_the_differences(smallest, tmp_path, monkeypatch, capsys):
    target = tmp_path / "new" / "w.pt2"
    status, output = run(
        monkeypatch,
        capsys,
        "--weights",
        smallest,
        "--format",
        "torch",
        "--stage",
        1,
        "--local_pooling",
        "--output",
        target,
    )
    assert status == 0
    assert f"{target}: stage1, " in output
    assert "windows of up to 36 pixels (a training patch of 24)" in output
    differences = [float(number) for number in re.findall(r"largest difference from PyTorch (\S+)", output)]
    assert len(differences) == 3
    assert max(differences) < 1e-5
    extra = {"author": "", "training_patch": ""}
    (image,) = torch.export.load(target, extra_files=extra).module()(torch.rand(2, 3, 11, 50))
    assert image.shape == (2, 3, 11, 50)
    assert extra == {"author": "me", "training_patch": "24"}


def test_an_export_with_a_large_difference_fails(small, tmp_path, monkeypatch, capsys):
    def wrong(network, path):
        path.touch()
        return lambda image: [x + 2e-4 for x in network.reference(image)]

    monkeypatch.setattr(export, "write_torch", wrong)
    status, output = run(monkeypatch, capsys, "--weights", small, "--format", "torch", "--output", tmp_path / "w.pt2")
    assert status == 1
    assert "differs from PyTorch by 2.0e-04, more than 1e-04" in output


def test_missing_packages_are_named(small, monkeypatch, capsys):
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    status, output = run(monkeypatch, capsys, "--weights", small)
    assert status == 1
    assert 'pip install -e ".[export]"' in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--weights", "nowhere.pth"], "there is no file of weights"),
        (["--weights", "nowhere.pth", "--output", "w.onnx"], "the names of torch files end in .pt2"),
        (["--weights", "nowhere.pth", "--output", "/dev/null/w.pt2"], "/dev/null: nothing can be written there"),
    ],
)
def test_wrong_options_are_refused(monkeypatch, capsys, options, sentence):
    status, output = run(monkeypatch, capsys, "--format", "torch", *options)
    assert status == 1
    assert sentence in output.splitlines()[-1]


def test_a_grade_without_weights_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(tasks, "GRADES", (*tasks.GRADES, "other"))
    status, output = run(monkeypatch, capsys, "--format", "torch", "--task", "Deraining", "--grade", "other")
    assert status == 1
    assert "model_deraining_other.safetensors" in output.splitlines()[-1]


def test_a_missing_stage_is_refused(small, monkeypatch, capsys):
    status, output = run(monkeypatch, capsys, "--weights", small, "--format", "torch", "--stage", 3)
    assert status == 1
    assert "stages 1 to 2, but no stage 3" in output


def test_the_example_runs_without_torch(smallest, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    example = ROOT / "samples" / "restore_onnx.py"
    assert example.read_text() in (ROOT / "docs" / "export.md").read_text()
    status, _ = run(monkeypatch, capsys, "--weights", smallest, "--output", tmp_path / "w.onnx")
    assert status == 0
    picture = np.random.default_rng(0).integers(0, 256, (21, 30, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    (tmp_path / "torch.py").write_text("raise ImportError")
    command = [sys.executable, example, tmp_path / "w.onnx", tmp_path / "in.png", tmp_path / "out.png"]
    subprocess.run(command, check=True, env={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}, timeout=300)
    restored = Restorer(load_model(smallest), device="cpu")(picture.astype(np.float32) / 255)
    with Image.open(tmp_path / "out.png") as result:
        assert np.abs(np.asarray(result) - 255 * restored).max() < 0.51
