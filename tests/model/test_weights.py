import os
import pickle

import pytest
import safetensors.torch
import torch
from conftest import TASKS, task_module

from mprnet import AblationMPRNet, MPRNet, UserError, load_model, save_weights
from mprnet.model.ablations import build_network


def are_equal(a: MPRNet, b: MPRNet) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return a.config == b.config and all(k == m and torch.equal(v, w) for (k, v), (m, w) in pairs)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_saved_weights_can_be_loaded(tiny, tmp_path, suffix):
    tiny.metadata = {"training_patch": "64"}
    save_weights(tiny, tmp_path / f"w{suffix}", {"author": "me"})
    loaded = load_model(tmp_path / f"w{suffix}")
    assert are_equal(loaded, tiny)
    assert loaded.metadata == {"training_patch": "64", "author": "me"}
    assert len(list(loaded.parameters())) == len(list(tiny.parameters()))
    assert not loaded.training


@pytest.mark.parametrize("sam", [True, False])
@pytest.mark.parametrize("csff", [True, False])
@pytest.mark.parametrize("subnetworks", [["unet", "unet", "orsnet"], ["unet", "orsnet"], ["unet", "unet"], ["unet"]])
def test_all_forms_of_the_ablation_can_be_saved_and_loaded(tmp_path, subnetworks, sam, csff):
    model = build_network(
        dict(n_feat=8, scale_unetfeats=4, scale_orsnetfeats=3, num_cab=2, subnetworks=subnetworks, sam=sam, csff=csff)
    )
    save_weights(model, tmp_path / "w.safetensors")
    loaded, image = load_model(tmp_path / "w.safetensors"), torch.rand(1, 3, 16, 16)
    assert loaded.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(loaded(image), model.eval()(image), strict=True))


def test_networks_of_only_orsnets_can_be_saved_and_loaded(tmp_path):
    for subnetworks in (["orsnet"], ["orsnet", "orsnet"]):
        model = AblationMPRNet(8, 4, 3, 2, subnetworks=subnetworks, sam=False, csff=False)
        save_weights(model, tmp_path / "w.safetensors")
        loaded, image = load_model(tmp_path / "w.safetensors"), torch.rand(1, 3, 16, 16)
        assert all(torch.equal(a, b) for a, b in zip(loaded(image), model.eval()(image), strict=True))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_published_checkpoints_with_any_key_prefix_can_be_loaded(tiny, tmp_path, prefix):
    state = {prefix + key: value for key, value in tiny.state_dict().items()}
    optimizer = torch.optim.Adam(tiny.parameters()).state_dict()
    torch.save({"epoch": 3, "state_dict": state, "optimizer": optimizer}, tmp_path / "w.pth")
    assert are_equal(load_model(tmp_path / "w.pth"), tiny)


def test_plain_old_and_half_precision_files_can_be_loaded(tiny, tmp_path):
    torch.save(tiny.state_dict(), tmp_path / "plain.pth")
    torch.save(tiny.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(tiny.half().state_dict(), tmp_path / "half.pth")
    tiny.float()
    assert are_equal(load_model(tmp_path / "plain.pth"), load_model(tmp_path / "old.pth"))
    assert are_equal(load_model(tmp_path / "half.pth"), tiny)


def test_other_layouts_and_a_wrong_suffix_can_be_loaded(tiny, tmp_path):
    torch.save({"net": {"module." + key: value for key, value in tiny.state_dict().items()}}, tmp_path / "net.pth")
    torch.save({"state_dict": {"model": tiny.state_dict()}}, tmp_path / "nested.pth")
    save_weights(tiny, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / "misnamed.pth")
    for name in ("net", "nested", "misnamed"):
        assert are_equal(load_model(tmp_path / f"{name}.pth"), tiny)


def test_a_path_that_cannot_be_written_raises_a_clear_error(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "w.pth", tmp_path / ("n" * 300 + ".safetensors")):
        with pytest.raises(UserError, match="cannot be written"):
            save_weights(tiny, path)


def test_safetensors_without_aliases_can_be_loaded(tiny, tmp_path):
    safetensors.torch.save_model(tiny, str(tmp_path / "w.safetensors"))
    assert are_equal(load_model(tmp_path / "w.safetensors"), tiny)


@pytest.mark.parametrize("task", TASKS)
def test_the_widths_of_every_task_are_found_in_the_file(task, tmp_path):
    model = task_module(task, "MPRNet").MPRNet()
    save_weights(model, tmp_path / "w.pth")
    assert are_equal(load_model(tmp_path / "w.pth"), model)


@pytest.mark.parametrize(
    "odd", [dict(bias=True), dict(kernel_size=5), dict(num_cab=3), dict(reduction=3), dict(n_feat=9)]
)
def test_every_constructor_argument_is_found_in_the_file(tmp_path, odd):
    model = MPRNet(**{**dict(n_feat=8, scale_unetfeats=4, scale_orsnetfeats=2, num_cab=1), **odd})
    save_weights(model, tmp_path / "w.safetensors")
    loaded = load_model(tmp_path / "w.safetensors")
    image = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(loaded(image)[0], model.eval()(image)[0])


def test_a_checkpoint_saved_on_cuda_loads_on_the_cpu(tiny, tmp_path):
    """The name of the device in the file is replaced by what a machine with a GPU writes."""
    path = tmp_path / "w.pth"
    torch.save({"state_dict": tiny.state_dict()}, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    on_cuda = written.replace(pickle.dumps("cpu", 2)[2:-3], pickle.dumps("cuda:0", 2)[2:-3])
    assert on_cuda != written
    path.write_bytes(on_cuda)
    assert are_equal(load_model(path), tiny)


class Malicious:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_run(tiny, tmp_path, zipped):
    content = {"state_dict": tiny.state_dict(), "extra": Malicious(str(tmp_path / "made"))}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"could run code.*safetensors"):
        load_model(tmp_path / "w.pth")
    assert not (tmp_path / "made").exists()


def write_damaged(kind: str, tiny: MPRNet, folder) -> str:
    """Write a damaged or unfit file and return its name."""
    state = dict(tiny.state_dict())
    whole = folder / "whole.pth"
    torch.save(state, whole)
    if kind == "text":
        (folder / "w.pth").write_text("not weights\n")
    elif kind == "empty":
        (folder / "w.pth").write_bytes(b"")
    elif kind == "truncated":
        (folder / "w.pth").write_bytes(whole.read_bytes()[:-2000])
    elif kind == "truncated safetensors":
        safetensors.torch.save_file({k: v.clone() for k, v in state.items()}, folder / "s.safetensors")
        (folder / "w.safetensors").write_bytes((folder / "s.safetensors").read_bytes()[:-100])
        return "w.safetensors"
    elif kind == "flipped bit":
        data = bytearray(whole.read_bytes())
        data[data.index(state["tail.weight"].numpy().tobytes()) + 2] ^= 64
        (folder / "w.pth").write_bytes(bytes(data))
    elif kind == "folder":
        (folder / "w.pth").mkdir()
    else:
        change = {
            "other network": lambda: {"conv_first.weight": torch.zeros(1)},
            "list": lambda: [torch.zeros(1)],
            "no tensors": lambda: {"a": 1},
            "missing": lambda: {k: v for k, v in state.items() if k != "concat12.weight"},
            "extra": lambda: {**state, "head.weight": torch.zeros(1)},
            "shape": lambda: {**state, "concat12.weight": torch.zeros(2, 2, 3, 3)},
            "flat": lambda: {**state, "tail.weight": torch.zeros(3)},
            "integers": lambda: {**state, "concat12.weight": state["concat12.weight"].int()},
            "nan": lambda: {**state, "concat12.weight": state["concat12.weight"] * float("nan")},
            "huge": lambda: {**state, "tail.weight": state["tail.weight"].double() + 1e300},
            "float8": lambda: {**state, "tail.weight": state["tail.weight"].to(torch.float8_e4m3fn)},
            "scalar": lambda: {**state, "shallow_feat1.1.CA.conv_du.0.weight": torch.tensor(1.0)},
            "one channel": lambda: {**state, "tail.weight": torch.zeros(1, 7, 3, 3)},
            "far block": lambda: {**state, "stage3_orsnet.orb1.body.9999999.CA.conv_du.0.weight": torch.zeros(1)},
            "two prelus": lambda: {**state, "shallow_feat2.1.body.1.weight": torch.ones(1)},
        }
        torch.save(change[kind](), folder / "w.pth")
    return "w.pth"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("text", "no file of weights"),
        ("empty", "no file of weights"),
        ("truncated", "damaged or cut short"),
        ("truncated safetensors", "no whole safetensors file"),
        ("folder", "there is no file"),
        ("other network", "shallow_feat1.0.weight is missing; it holds conv_first.weight"),
        ("list", "holds a list"),
        ("no tensors", "no tensors"),
        ("missing", "concat12.weight is missing"),
        ("extra", "head.weight is unknown"),
        ("shape", r"concat12.weight has the shape \[2, 2, 3, 3\] instead of \[4, 8, 3, 3\]"),
        ("flat", "holds no MPRNet"),
        ("integers", "type torch.int32"),
        ("nan", "not finite"),
        ("huge", "not finite"),
        ("float8", "of type torch.float8"),
        ("scalar", "no convolutions"),
        ("one channel", "an MPRNet that cannot be built"),
        ("far block", "weights of another network"),
        ("flipped bit", "damaged"),
        ("two prelus", "different PReLU"),
    ],
)
def test_unfit_files_raise_a_clear_error(tiny, tmp_path, kind, sentence):
    name = write_damaged(kind, tiny, tmp_path)
    with pytest.raises(UserError, match=sentence) as caught:
        load_model(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_container_that_contains_itself_raises_a_clear_error(tmp_path):
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, tmp_path / "endless.pth")
    with pytest.raises(UserError, match=r"endless\.pth"):
        load_model(tmp_path / "endless.pth")


def test_other_suffixes_are_refused(tiny, tmp_path):
    with pytest.raises(UserError, match=r"\.pth or \.safetensors"):
        save_weights(tiny, tmp_path / "w.onnx")
    assert list(tmp_path.iterdir()) == []


def test_spandrel_reads_saved_weights(tiny, tmp_path):
    spandrel = pytest.importorskip("spandrel")
    extra = pytest.importorskip("spandrel_extra_arches")
    extra.install(ignore_duplicates=True)
    model = task_module("Deraining", "MPRNet").MPRNet().eval()
    save_weights(model, tmp_path / "w.pth")
    theirs = spandrel.ModelLoader().load_from_file(tmp_path / "w.pth").model.eval()
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        output = theirs(image)
        torch.testing.assert_close(output[0] if isinstance(output, (list, tuple)) else output, model(image)[0])
