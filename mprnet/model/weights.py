"""Reading and writing weights: the published files, plain state dicts, safetensors and our own."""

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mprnet.errors import UserError
from mprnet.files import write_whole
from mprnet.model.network import MPRNet

# Under which name training programs keep the state dict within a checkpoint, in order of preference.
_CONTAINERS = ("params_ema", "state_dict", "params", "model", "net")
# What wrappers (DataParallel, torch.compile) put before every key.
_PREFIXES = ("module.", "_orig_mod.")
# How files of torch.save begin: a zip archive, or before torch 1.6 a pickle.
_MAGIC = (b"PK\x03\x04", b"\x80")
_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_CAB = re.compile(r"stage\d_orsnet\.orb1\.body\.(\d+)\.CA\.conv_du\.0\.weight")
_STAGE = re.compile(r"stage(\d)_(encoder|orsnet)\.")


def load_model(path: str | Path) -> MPRNet:
    """Build the network that a file of weights belongs to, with these weights.

    Widths, kernel size and bias are read off the tensors. Takes published checkpoints (``state_dict`` beside ``epoch``
    and ``optimizer``, keys with or without ``module.``), plain state dicts, and safetensors; saved on whatever device,
    in whatever floating-point type. Only tensors and plain values are unpickled, so no code in a file can run.

    Returns:
        The network in evaluation mode, on the CPU, in float32. ``model.metadata`` holds what the file says of itself
        (str to str; empty for published files).

    Raises:
        UserError: no such file, not a file of weights, pickled code in it, or tensors that are not an MPRNet's.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    config = _configuration(tensors, path)
    try:
        with torch.device("meta"):
            model = MPRNet(**config)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path} holds no MPRNet that could be built: {config}.") from error
    weights = _checked(tensors, model, path)
    model.to_empty(device="cpu")
    model.load_state_dict(weights)
    model.metadata = metadata
    return model.eval()


def save_weights(model: MPRNet, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's weights to ``path``, as ``.pth`` or ``.safetensors`` by its suffix.

    Every key of the published files is written, the shared PReLU once per block. ``metadata`` (what tensors cannot
    tell: training patch, data, author) is added to ``model.metadata`` and stored beside the tensors.

    Raises:
        UserError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    described = {str(key): str(value) for key, value in {**model.metadata, **(metadata or {})}.items()}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    if path.suffix == ".pth":
        file = io.BytesIO()
        torch.save({"state_dict": tensors, "metadata": described}, file)
        write_whole(path, file.getvalue())
    elif path.suffix == ".safetensors":
        write_whole(path, safetensors.torch.save(tensors, metadata=described or None))
    else:
        raise UserError(f"{path}: weights are saved as .pth or .safetensors.")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in a file, without wrappers' prefixes, and its metadata."""
    if not path.is_file():
        raise UserError(f"there is no file of weights {path}.")
    try:
        with open(path, "rb") as file:
            beginning = file.read(9)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    if beginning[8:] == b"{":  # the length of a header in JSON, and the header
        content, metadata = _read_safetensors(path)
    elif beginning.startswith(_MAGIC):
        content, metadata = _read_pickle(path)
    else:
        raise UserError(f"{path} is no file of weights: neither PyTorch nor safetensors wrote it.")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    while prefix := next((p for p in _PREFIXES if tensors and all(key.startswith(p) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    if not tensors:
        raise UserError(f"{path} holds no tensors, and so no weights of MPRNet.")
    return tensors, metadata


def load_plain(path: Path) -> Any:
    """What torch.save wrote, tensors and plain values alone, on the CPU.

    Raises:
        pickle.UnpicklingError: there are other objects in it.
        Exception: of any kind, if the file is damaged, by a single bit even.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # compares checksums, which torch.load does not
                raise EOFError(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # of a file that is refused next
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is no whole safetensors file ({error}); copy or download it again.") from error


def _read_pickle(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    try:
        content = load_plain(path)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except Exception as error:  # what a damaged pickle raises knows no bounds
        raise UserError(f"{path} is damaged or cut short; copy or download it again.") from error
    metadata = {}
    if isinstance(content, Mapping):
        stored = content.get("metadata")
        if isinstance(stored, Mapping):
            metadata = {str(key): str(value) for key, value in stored.items()}
        for _ in _CONTAINERS:  # at most: a stranger's may hold itself
            content = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), content)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return content, metadata


def _refused(path: Path, message: str) -> UserError:
    found = re.search(r"GLOBAL ([\w.]+)|trying to (?:call|load)[^\w]*([\w.]+)", message)
    what = f" ({found.group(1) or found.group(2)})" if found else ""
    return UserError(
        f"{path} holds Python objects beside tensors{what}, which could run code when loaded, and so was not loaded; "
        "ask its author for a state dict or a safetensors file."
    )


def _configuration(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The constructor's arguments for a network whose state dict has these tensors."""

    def shape(key: str) -> list[int]:
        if key not in tensors:
            some = ", ".join(list(tensors)[:3])
            raise UserError(f"{path} holds no MPRNet: the tensor {key} is missing; it holds {some}, ...")
        return list(tensors[key].shape)

    first, tail = shape("shallow_feat1.0.weight"), shape("tail.weight")
    subnetworks = _subnetworks(tensors, path)
    unet = subnetworks.index("unet") + 1 if "unet" in subnetworks else 0
    orsnet = subnetworks.index("orsnet") + 1 if "orsnet" in subnetworks else 0
    # The shallow features of a first stage are as wide as its subnetwork, the others' have n_feat channels.
    n_feat = shape("shallow_feat2.0.weight")[0] if subnetworks[0] == "orsnet" and subnetworks[1:] else first[0]
    level2 = shape(f"stage{unet}_encoder.down12.down.1.weight") if unet else [n_feat, 0, 1, 1]
    ors = shape(f"stage{orsnet}_orsnet.orb1.body.0.body.0.weight") if orsnet else [n_feat, 0, 1, 1]
    blocks = ["shallow_feat1.1"]
    blocks += [f"stage{unet}_encoder.encoder_level2.0"] if unet else []
    blocks += [f"stage{orsnet}_orsnet.orb1.body.0"] if orsnet else []
    squeezes = [shape(f"{block}.CA.conv_du.0.weight") for block in blocks]
    if any(len(s) != 4 for s in (first, tail, level2, ors, *squeezes)):
        raise UserError(f"{path} holds no MPRNet: its tensors are no convolutions (shallow_feat1.0.weight is {first}).")
    # Blocks work on channels // reduction: the reduction that explains the numbers at all widths.
    squeezed = {channels: reduced for reduced, channels, _, _ in squeezes}
    fitting = [r for r in range(1, first[0] + 1) if all(c // r == s for c, s in squeezed.items())]
    if not fitting:
        raise UserError(f"{path} holds no MPRNet: its channel attention reduces {squeezed} channels, by no one number.")
    return dict(
        n_feat=n_feat,
        scale_unetfeats=level2[0] - n_feat,
        scale_orsnetfeats=ors[0] - n_feat,
        num_cab=sum(_CAB.fullmatch(key) is not None for key in tensors) // max(1, subnetworks.count("orsnet")),
        in_c=first[1],
        out_c=tail[0],
        kernel_size=first[2],
        reduction=fitting[0],
        bias="shallow_feat1.0.bias" in tensors,
        subnetworks=subnetworks,
        sam=any(key.startswith("sam") for key in tensors),
        csff=any(key.endswith(("csff_enc1.weight", "conv_enc1.weight")) for key in tensors),
    )


def _subnetworks(tensors: Mapping[str, Tensor], path: Path) -> list[str]:
    """Which subnetwork each stage is made of."""
    found = {int(match.group(1)): match.group(2) for match in map(_STAGE.match, tensors) if match}
    if sorted(found) != list(range(1, len(found) + 1)) or not 1 <= len(found) <= 3:
        raise UserError(f"{path} holds no MPRNet: it has tensors of the stages {sorted(found) or 'none'}.")
    return [{"encoder": "unet"}.get(part, part) for _, part in sorted(found.items())]


def _checked(tensors: Mapping[str, Tensor], model: MPRNet, path: Path) -> dict[str, Tensor]:
    """``tensors`` as float32, complete and of the right shapes; aliases that a file leaves out are filled in."""
    expected = model.state_dict()
    given = dict(tensors)
    shared = [key for key, value in expected.items() if key.endswith(".body.1.weight") and value.ndim == 1]
    present = [key for key in shared if key in given]
    if present:
        for key in shared:
            given.setdefault(key, given[present[0]])
    differences = [
        *(f"{key} is missing" for key in expected if key not in given),
        *(f"{key} is unknown" for key in given if key not in expected),
        *(
            f"{key} has the shape {list(given[key].shape)} instead of {list(value.shape)}"
            for key, value in expected.items()
            if key in given and given[key].shape != value.shape
        ),
        *(f"{key} is of type {value.dtype}" for key, value in given.items() if value.dtype not in _TYPES),
        *(f"{key} is not stored as plain numbers" for key, value in given.items() if not _is_plain(value)),
    ]
    if differences:
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UserError(f"{path} holds weights of another network: {'; '.join(differences[:3])}{more}.")
    if any(not torch.equal(given[key], given[present[0]]) for key in present):
        raise UserError(f"{path} holds different PReLU parameters, where one is shared by all blocks of MPRNet.")
    single = {key: value.float() for key, value in given.items()}
    broken = [key for key, value in single.items() if not torch.isfinite(value).all()]
    if broken:
        raise UserError(f"{path} holds values that are not finite (in {broken[0]}): the training that wrote it failed.")
    return single


def _is_plain(value: Tensor) -> bool:
    return value.layout == torch.strided and value.device.type == "cpu"
