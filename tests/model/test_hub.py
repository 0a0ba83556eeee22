import json
import runpy
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, task_module
from safetensors.torch import load_file

from mprnet import AblationMPRNet, MPRNet, Restorer, UserError, load_model, save_weights

BUNDLED = ROOT / "Denoising" / "pretrained_models" / "model_denoising_lite.safetensors"


def have_equal_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(k == m and torch.equal(v, w) for (k, v), (m, w) in pairs)


@pytest.mark.parametrize("form", [{}, dict(subnetworks=["unet", "orsnet"], sam=False, csff=False, bias=True)])
def test_a_saved_folder_can_be_loaded(tmp_path, form):
    pytest.importorskip("huggingface_hub")
    model = (AblationMPRNet if form else MPRNet)(9, 2, 3, 1, reduction=2, **form)
    model.metadata = {"training_patch": "64"}
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == model.config
    loaded = MPRNet.from_pretrained(tmp_path)
    assert have_equal_weights(loaded, model)
    assert loaded.config == model.config
    assert type(loaded) is type(model)
    assert loaded.metadata == model.metadata
    assert not loaded.training
    assert have_equal_weights(load_model(tmp_path / "model.safetensors"), model)


def test_the_class_of_a_task_can_be_saved_and_loaded(tmp_path):
    pytest.importorskip("huggingface_hub")
    network = task_module("Deraining", "MPRNet").MPRNet
    model = network(n_feat=8, num_cab=1)
    model.save_pretrained(tmp_path)
    loaded = network.from_pretrained(str(tmp_path))
    assert type(loaded) is network
    assert have_equal_weights(loaded, model)


def test_a_subclass_may_add_the_mixin_itself(tiny, tmp_path):
    mixin = pytest.importorskip("huggingface_hub").PyTorchModelHubMixin

    class Mine(MPRNet, mixin, license="mit"):
        pass

    assert isinstance(tiny, mixin)
    Mine(**tiny.config).save_pretrained(tmp_path)
    assert isinstance(Mine.from_pretrained(tmp_path), Mine)


def test_a_folder_with_only_weights_can_be_loaded(tiny, tmp_path):
    pytest.importorskip("huggingface_hub")
    save_weights(tiny, tmp_path / "model.safetensors")
    assert have_equal_weights(MPRNet.from_pretrained(tmp_path), tiny)


def test_files_written_by_the_mixin_alone_can_be_loaded(tiny, tmp_path):
    """The mixin alone writes the shared PReLU only once."""
    mixin = pytest.importorskip("huggingface_hub").PyTorchModelHubMixin
    mixin._save_pretrained(tiny, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(tiny.config))
    # Before 1.0, the mixin also passes these arguments.
    assert have_equal_weights(MPRNet.from_pretrained(tmp_path, proxies=None, resume_download=None), tiny)


class Malicious:
    def __reduce__(self):
        return print, ("run",)


def test_pickled_code_in_a_folder_is_not_run(tiny, tmp_path, capsys):
    pytest.importorskip("huggingface_hub")
    torch.save({**tiny.state_dict(), "extra": Malicious()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="could run code"):
        MPRNet.from_pretrained(tmp_path)
    assert capsys.readouterr().out == ""
    torch.save(tiny.state_dict(), tmp_path / "pytorch_model.bin")
    assert have_equal_weights(MPRNet.from_pretrained(tmp_path), tiny)


def test_unfit_folders_raise_a_clear_error(tiny, tmp_path):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(UserError, match="there is no file of weights"):
        MPRNet.from_pretrained(tmp_path)
    tiny.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"does not fit its config\.json"):
        MPRNet.from_pretrained(tmp_path, n_feat=6)
    for config in ("{", "[]", "[" * 100_000, '{"n_feat": ' + "9" * 5000 + "}", "\x00"):
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(UserError, match=r"config\.json is not JSON, or no configuration") as caught:
            MPRNet.from_pretrained(tmp_path)
        assert len(str(caught.value)) < 500
    for value in (4096, 10**9, 1e308, -1, None, "4", [[]]):  # a network of this width would not fit in memory
        (tmp_path / "config.json").write_text(json.dumps(tiny.config | {"n_feat": value}))
        with pytest.raises(UserError, match=r"does not fit its config\.json"):
            MPRNet.from_pretrained(tmp_path)


def test_a_wrong_name_of_a_repository_raises_the_error_of_the_hub():
    errors = pytest.importorskip("huggingface_hub.errors")
    with pytest.raises(errors.HFValidationError):
        MPRNet.from_pretrained("no such/name of a/repository")


def test_without_huggingface_hub_the_error_says_how_to_install_it(tmp_path):
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError\n")
    program = (
        "import mprnet\ntry: mprnet.MPRNet.from_pretrained('x')\nexcept mprnet.UserError as error: print(error)"
        "\nprint(mprnet.load_model(" + repr(str(BUNDLED)) + ").config['n_feat'])"
    )
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=100)
    assert 'pip install "mprnet[hub]"' in run.stdout
    assert run.stdout.endswith("\n16\n")


def from_hub(name: str, **arguments: object):
    return torch.hub.load(str(ROOT), name, source="local", **arguments)


def test_torch_hub_returns_the_bundled_network(capsys):
    model = from_hub("mprnet", task="Denoising", grade="lite")
    assert have_equal_weights(model, load_model(BUNDLED))
    assert not model.training
    assert have_equal_weights(from_hub("mprnet", weights=BUNDLED), model)
    names = runpy.run_path(str(ROOT / "hubconf.py"))
    assert {name for name, value in names.items() if callable(value) and name[0] != "_"} == {"mprnet", "restorer"}
    assert "bundled lite weights" in capsys.readouterr().out


def test_torch_hub_returns_a_restorer(tiny, tmp_path):
    save_weights(tiny, tmp_path / "w.pth")
    restore = from_hub("restorer", weights=str(tmp_path / "w.pth"), device="cpu", stage=1)
    image = torch.rand(1, 3, 9, 12)
    assert torch.equal(restore(image), Restorer(tiny, "cpu", stage=1)(image))


def test_torch_hub_returns_an_untrained_network():
    with torch.device("meta"):
        model = from_hub("mprnet", task="Deraining", pretrained=False)
    assert model.config["n_feat"] == 40
    with pytest.raises(UserError, match="task is one of Deblurring, Denoising, Deraining, not 'Dehazing'"):
        from_hub("mprnet", task="Dehazing")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_spandrel_and_mprnet_read_each_others_files(tmp_path, suffix):
    spandrel = pytest.importorskip("spandrel")
    extra = pytest.importorskip("spandrel_extra_arches")
    extra.install(ignore_duplicates=True)
    model = load_model(BUNDLED)
    save_weights(model, tmp_path / f"ours{suffix}")
    theirs = spandrel.ModelLoader("cpu").load_from_file(tmp_path / f"ours{suffix}").model.eval()
    image = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(image)[0], model(image)[0], atol=1e-5, rtol=0)
    torch.save(theirs.state_dict(), tmp_path / "plain.pth")
    torch.save({"params": theirs.state_dict()}, tmp_path / "params.pth")
    for name in ("plain.pth", "params.pth"):
        assert have_equal_weights(load_model(tmp_path / name), model)


def test_a_saved_folder_has_the_keys_of_the_state_dict(tiny, tmp_path):
    pytest.importorskip("huggingface_hub")
    tiny.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == tiny.state_dict().keys()
