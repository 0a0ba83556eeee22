"""Which configuration a network has, and which file of weights tells it."""

import json

import pytest
import safetensors
import torch
from conftest import TASKS, task_module

from mprnet import AblationMPRNet, MPRNet, UserError, load_model, save_weights
from mprnet.model.ablations import build_network
from mprnet.model.weight_files import read_tensors

WIDTHS = dict(n_feat=8, scale_unetfeats=4, scale_orsnetfeats=3, num_cab=2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(kernel_size=4), "kernel_size must be odd, not 4"),
        (dict(kernel_size=0), "kernel_size must be at least 1, not 0"),
        (dict(n_feat=3), r"n_feat \(3\) must be at least reduction \(4\)"),
        (dict(n_feat=0, reduction=1), "n_feat must be at least 1, not 0"),
        (dict(reduction=0), "reduction must be at least 1, not 0"),
        (dict(scale_unetfeats=-1), "scale_unetfeats must be at least 0, not -1"),
        (dict(scale_orsnetfeats=-1), "scale_orsnetfeats must be at least 0, not -1"),
        (dict(num_cab=-1), "num_cab must be at least 0, not -1"),
        (dict(n_feat=4097), "n_feat must be at most 4096, not 4097"),
        (dict(num_cab=257), "num_cab must be at most 256, not 257"),
        (dict(n_feat=8.0), r"n_feat must be a whole number, not 8\.0"),
        (dict(kernel_size="3"), "kernel_size must be a whole number, not '3'"),
        (dict(out_c=1), r"out_c \(1\) must equal in_c \(3\)"),
    ],
)
@pytest.mark.parametrize("network", [MPRNet, AblationMPRNet])
def test_a_network_that_cannot_run_is_refused_when_it_is_made(network, change, sentence):
    with pytest.raises(ValueError, match=sentence), torch.device("meta"):
        network(**{**WIDTHS, **change})


@torch.inference_mode()
@pytest.mark.parametrize("change", [dict(kernel_size=1), dict(kernel_size=5), dict(n_feat=4), dict(num_cab=0)])
def test_unusual_networks_run(change):
    assert MPRNet(**{**WIDTHS, **change})(torch.rand(1, 3, 8, 8))[0].shape == (1, 3, 8, 8)


@pytest.mark.parametrize("task", TASKS)
def test_a_config_builds_the_same_network(task):
    with torch.device("meta"):
        model = task_module(task, "MPRNet").MPRNet()
        again = type(model)(**model.config)
        assert build_network(model.config).state_dict().keys() == model.state_dict().keys()
    assert again.config == model.config


def test_the_papers_form_is_the_papers_network():
    paper = build_network(dict(**WIDTHS, subnetworks=("unet", "unet", "orsnet"), sam=True, csff=True))
    assert type(paper) is MPRNet.__mro__[1]
    assert paper.config == MPRNet(**WIDTHS).config
    form = build_network(dict(**WIDTHS, csff=False))
    assert (form.config["csff"], form.config["sam"], form.config["subnetworks"]) == (
        False,
        True,
        ["unet", "unet", "orsnet"],
    )


@torch.inference_mode()
def test_the_ablations_network_in_the_papers_form_gives_the_papers_images():
    image = torch.rand(2, 3, 16, 24)
    torch.manual_seed(0)
    paper = MPRNet(**WIDTHS)
    torch.manual_seed(0)
    form = AblationMPRNet(**WIDTHS)
    assert list(form.state_dict()) == list(paper.state_dict())
    for stages in (1, 2, 3):
        for ours, expected in zip(form(image, stages), paper(image, stages), strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_tells_its_whole_configuration(tmp_path, suffix):
    """Several reductions can fit the shapes of the tensors, which alone tell the smallest one."""
    model = MPRNet(**WIDTHS, reduction=8)
    save_weights(model, tmp_path / f"w{suffix}", {"author": "me"})
    loaded = load_model(tmp_path / f"w{suffix}")
    assert loaded.config == model.config
    assert loaded.metadata == {"author": "me"}
    tensors, metadata = read_tensors(tmp_path / f"w{suffix}")
    assert json.loads(metadata["config"]) == model.config
    torch.save(tensors, tmp_path / "plain.pth")
    assert load_model(tmp_path / "plain.pth").config["reduction"] == 7


@pytest.mark.parametrize("config", ["{", "[1]", '{"layers": 3}', "null"])
def test_another_programs_config_is_left_alone(tmp_path, config):
    model = MPRNet(**WIDTHS)
    torch.save({"state_dict": model.state_dict(), "metadata": {"config": config}}, tmp_path / "w.pth")
    assert load_model(tmp_path / "w.pth").config == model.config


@pytest.mark.parametrize("config", [dict(WIDTHS, n_feat=10), dict(WIDTHS, kernel_size=2), {"n_feat": 8}])
def test_a_config_that_does_not_fit_gets_a_sentence(tmp_path, config):
    model = MPRNet(**WIDTHS)
    torch.save({"state_dict": model.state_dict(), "metadata": {"config": json.dumps(config)}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth (holds weights of another network|describes an MPRNet that cannot)"):
        load_model(tmp_path / "w.pth")


CONTAINERS = ["params_ema", "state_dict", "model_state_dict", "params", "net_g", None]
PREFIXES = ["module.", "_orig_mod.", "net_g.", "model.", "model.module."]


@pytest.mark.parametrize(
    ("container", "prefix"),
    [
        *((container, "model.module.") for container in CONTAINERS),
        *(("state_dict", prefix) for prefix in PREFIXES[:-1]),
    ],
)
def test_files_of_other_training_programs_are_read(tmp_path, prefix, container):
    model = MPRNet(**WIDTHS)
    tensors = {prefix + key: value for key, value in model.state_dict().items()}
    tensors |= {"total_ops": torch.zeros(1), f"{prefix}tail.total_params": torch.zeros(1, dtype=torch.float64)}
    content = {container: tensors, "epoch": 3, "optimizer_state_dict": {}} if container else tensors
    torch.save(content, tmp_path / "w.pth")
    loaded = load_model(tmp_path / "w.pth")
    assert loaded.config == model.config
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_safetensors_of_other_programs_are_read(tmp_path):
    model = MPRNet(**WIDTHS)
    tensors = {f"net_g.{key}": value.clone() for key, value in model.state_dict().items()}
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    assert load_model(tmp_path / "w.safetensors").config == model.config
