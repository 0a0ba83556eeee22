import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import TASKS, task_module
from fuzz import weights as fuzz

from mprnet import AblationMPRNet, MPRNet, UserError, load_model, save_weights
from mprnet.errors import one_line
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


def test_a_lack_of_memory_is_not_taken_for_a_damaged_file(tiny, tmp_path, monkeypatch):
    def refuse(*arguments, **named):
        raise MemoryError("Cannot allocate memory (os error 12)")

    save_weights(tiny, tmp_path / "w.safetensors")
    monkeypatch.setattr("safetensors.safe_open", refuse)
    with pytest.raises(UserError, match=r"w.safetensors: there is not enough memory to read it\.$"):
        load_model(tmp_path / "w.safetensors")


def save_to_bytes(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def add_member(data: bytes, size: int) -> bytes:
    """The zip archive ``data`` with one more member, of so many zeros, compressed."""
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/zeros", b"\0" * size)
    return file.getvalue()


def make_parameter(value: torch.Tensor, **attributes: object) -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(value)
    parameter.__dict__ |= attributes
    return parameter


class Endless:
    def __reduce__(self):
        return bytearray, (2**40,)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.expand(10**5, 10**5, 3, 3), "claims more than the file holds"),
        (lambda w: torch.zeros(2**40, 0, 3, 3), "not stored as plain numbers"),
        (lambda w: w.to_sparse(), "not stored as plain numbers"),
        (lambda w: torch.empty(3, 4, 3, 3, device="meta"), "not stored as plain numbers"),
        (lambda w: torch.zeros([1] * 60), "has the shape .* instead of|no convolutions"),
        (lambda w: make_parameter(w, numel="x", float="x"), None),
    ],
)
def test_tensors_that_claim_more_than_they_hold_raise_a_clear_error(tiny, tmp_path, change, sentence):
    """None: the file is sound."""
    state = dict(tiny.state_dict())
    state["tail.weight"] = change(torch.ones(3, 7, 3, 3) if sentence is None else torch.ones(1, 1, 1, 1))
    torch.save(state, tmp_path / "w.pth")
    if sentence is None:
        assert load_model(tmp_path / "w.pth").config == tiny.config
        return
    with pytest.raises(UserError, match=sentence) as caught:
        load_model(tmp_path / "w.pth")
    assert len(str(caught.value)) < 500


def test_files_that_would_fill_the_memory_raise_a_clear_error(tiny, tmp_path):
    state = dict(tiny.state_dict())
    (tmp_path / "bomb.pth").write_bytes(add_member(save_to_bytes(state), 10**6))
    (tmp_path / "endless.pth").write_bytes(save_to_bytes({**state, "extra": Endless()}))
    with open(tmp_path / "large.pth", "wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**40)
    for name, sentence in (("bomb", "damaged"), ("endless", "Python objects .*bytearray"), ("large", r"1024\.0 GiB")):
        with pytest.raises(UserError, match=sentence):
            load_model(tmp_path / f"{name}.pth")


def write_safetensors(path: Path, model: MPRNet, change: Callable[[dict], None], metadata: object) -> None:
    """Write a file whose header ``change`` has changed, and whose metadata are these."""
    data = safetensors.torch.save({key: value.clone() for key, value in model.state_dict().items()})
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header | {"__metadata__": metadata}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda entry: entry.update(shape=[2**40, 2**40, 3, 3]), "no whole safetensors file"),
        (lambda entry: entry.update(shape=[2**40, 0, 3, 3], data_offsets=[0, 0]), "no whole|not stored as plain"),
        (lambda entry: entry.update(data_offsets=[0, 2**63]), "no whole safetensors file"),
        (lambda entry: entry.update(data_offsets=[8, 0]), "no whole safetensors file"),
        (lambda entry: entry.update(dtype="F99"), "no whole safetensors file"),
        (lambda entry: entry.update(shape="a" * 10**6), "no whole safetensors file"),
    ],
)
def test_wrong_safetensors_headers_raise_a_clear_error(tiny, tmp_path, change, sentence):
    write_safetensors(tmp_path / "w.safetensors", tiny, lambda header: change(header["tail.weight"]), {})
    with pytest.raises(UserError, match=sentence) as caught:
        load_model(tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("n_feat", "num_cab", "kernel_size") for value in (1e308, -5, 10**9, None, "4")),
        ("in_c", 10**9),
        ("scale_unetfeats", 4096),
        ("reduction", [4]),
        ("subnetworks", 3),
        ("subnetworks", "u" * 10**6),
        ("unknown\nname", 1),
    ],
)
def test_a_wrong_configuration_raises_a_clear_error(tiny, tmp_path, name, value):
    """No network of these widths is made: it would not fit in memory."""
    config = json.dumps(tiny.config | {name: value})
    write_safetensors(tmp_path / "w.safetensors", tiny, lambda header: None, {"config": config})
    with pytest.raises(UserError, match=r"cannot be built|weights of another network") as caught:
        load_model(tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_unreadable_metadata_are_ignored(tiny, tmp_path):
    """The tensors tell the configuration, too."""
    for config in ("[" * 100_000 + "]" * 100_000, '{"n_feat": ' + "9" * 5000 + "}", "{", "NaN", ""):
        write_safetensors(tmp_path / "w.safetensors", tiny, lambda header: None, {"config": config})
        assert are_equal(load_model(tmp_path / "w.safetensors"), tiny)
    metadata: dict[object, object] = {"task": "Denoising", "patch": 64, "digits": 10**500, 3: "x"}
    metadata["self"] = [metadata]
    torch.save({"state_dict": tiny.state_dict(), "metadata": metadata}, tmp_path / "w.pth")
    assert load_model(tmp_path / "w.pth").metadata == {"task": "Denoising", "patch": "64"}


def test_odd_names_of_tensors_appear_in_one_short_line(tiny, tmp_path):
    state = tiny.state_dict()
    for name in ("a\nb\x1b[31m" * 10**4, "module." * 10**5 + "x"):
        for content in ({**state, name: torch.zeros(1)}, {name: torch.zeros(1)}):
            torch.save(content, tmp_path / "w.pth")
            with pytest.raises(UserError) as caught:
                load_model(tmp_path / "w.pth")
            assert one_line(name)[:20] in str(caught.value)
            assert len(str(caught.value)) < 500
            assert str(caught.value).isprintable()


def test_damaged_files_are_loaded_or_refused_in_one_sentence(tmp_path):
    for seed in range(60):
        data, suffix = fuzz.damaged_weights(seed)
        (tmp_path / f"w{suffix}").write_bytes(data)
        fuzz.load(tmp_path / f"w{suffix}")
    assert fuzz.damaged_weights(3) == fuzz.damaged_weights(3)


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
