"""Reading and writing weights: the published files, plain state dicts, safetensors and our own."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mprnet.errors import UserError
from mprnet.files import replacing
from mprnet.model.network import MPRNet

# Under which name training programs keep the state dict within a checkpoint, in order of preference.
_CONTAINERS = ("params_ema", "state_dict", "params", "model")
# What wrappers (DataParallel, torch.compile) put before every key.
_PREFIXES = ("module.", "_orig_mod.")
# How files of torch.save begin: a zip archive, or before torch 1.6 a pickle.
_MAGIC = (b"PK\x03\x04", b"\x80")
_CAB = re.compile(r"stage3_orsnet\.orb1\.body\.(\d+)\.CA\.conv_du\.0\.weight")


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
    with torch.device("meta"):
        model = MPRNet(**config)
    model.to_empty(device="cpu")
    model.load_state_dict(_checked(tensors, model, path))
    model.metadata = metadata
    return model.eval()


def save_weights(model: MPRNet, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's weights to ``path``, as ``.pth`` or ``.safetensors`` by its suffix.

    Every key of the published files is written, the shared PReLU once per block. ``metadata`` (what tensors cannot
    tell: training patch, data, author) is added to ``model.metadata`` and stored beside the tensors.

    Raises:
        UserError: another suffix.
    """
    path = Path(path)
    described = {**model.metadata, **(metadata or {})}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    if path.suffix not in (".pth", ".safetensors"):
        raise UserError(f"{path}: weights are saved as .pth or .safetensors.")
    with replacing(path) as unfinished:
        if path.suffix == ".pth":
            torch.save({"state_dict": tensors, "metadata": described}, unfinished)
        else:
            safetensors.torch.save_file(tensors, unfinished, metadata=described or None)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in a file, without wrappers' prefixes, and its metadata."""
    if not path.is_file():
        raise UserError(f"there is no file of weights {path}.")
    if path.suffix == ".safetensors":
        content, metadata = _read_safetensors(path)
    else:
        content, metadata = _read_pickle(path)
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    while prefix := next((p for p in _PREFIXES if tensors and all(key.startswith(p) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    if not tensors:
        raise UserError(f"{path} holds no tensors, and so no weights of MPRNet.")
    return tensors, metadata


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is no whole safetensors file ({error}); copy or download it again.") from error


def _read_pickle(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    with open(path, "rb") as file:
        if not file.read(4).startswith(_MAGIC):
            raise UserError(f"{path} is no file of weights: neither PyTorch nor safetensors wrote it.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except Exception as error:  # what a damaged pickle raises knows no bounds
        raise UserError(f"{path} is damaged or cut short; copy or download it again.") from error
    metadata = {}
    if isinstance(content, Mapping):
        stored = content.get("metadata")
        if isinstance(stored, Mapping):
            metadata = {str(key): str(value) for key, value in stored.items()}
        for name in _CONTAINERS:
            if isinstance(content.get(name), Mapping):
                content = content[name]
                break
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

    first, down, concat, tail = (
        shape(f"{name}.weight") for name in ("shallow_feat1.0", "stage1_encoder.down12.down.1", "concat23", "tail")
    )
    if not len(first) == len(down) == len(concat) == len(tail) == 4:
        raise UserError(f"{path} holds no MPRNet: shallow_feat1.0.weight has the shape {first}.")
    n_feat, in_c, kernel_size, _ = first
    cabs = [int(match.group(1)) for key in tensors if (match := _CAB.fullmatch(key))]
    # Blocks work on channels // reduction: the reduction that explains the numbers at two widths.
    squeezed = {
        n_feat: shape("shallow_feat1.1.CA.conv_du.0.weight")[0],
        concat[0]: shape("stage3_orsnet.orb1.body.0.CA.conv_du.0.weight")[0],
        down[0]: shape("stage1_encoder.encoder_level2.0.CA.conv_du.0.weight")[0],
    }
    fitting = [r for r in range(1, n_feat + 1) if all(c // r == s for c, s in squeezed.items())]
    if not fitting:
        raise UserError(f"{path} holds no MPRNet: its channel attention reduces {squeezed} channels, by no one number.")
    return dict(
        n_feat=n_feat,
        scale_unetfeats=down[0] - n_feat,
        scale_orsnetfeats=concat[0] - n_feat,
        num_cab=max(cabs) + 1,
        in_c=in_c,
        out_c=tail[0],
        kernel_size=kernel_size,
        reduction=fitting[0],
        bias="shallow_feat1.0.bias" in tensors,
    )


def _checked(tensors: Mapping[str, Tensor], model: MPRNet, path: Path) -> dict[str, Tensor]:
    """``tensors`` as float32, complete and of the right shapes; aliases that a file leaves out are filled in."""
    expected = model.state_dict()
    given = dict(tensors)
    shared = [key for key, value in expected.items() if value.data_ptr() == _shared_prelu(model).data_ptr()]
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
        *(f"{key} is of type {value.dtype}" for key, value in given.items() if not value.is_floating_point()),
    ]
    if differences:
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UserError(f"{path} holds weights of another network: {'; '.join(differences[:3])}{more}.")
    if any(not torch.equal(given[key], given[present[0]]) for key in present):
        raise UserError(f"{path} holds different PReLU parameters, where one is shared by all blocks of MPRNet.")
    broken = [key for key, value in given.items() if not torch.isfinite(value).all()]
    if broken:
        raise UserError(f"{path} holds values that are not finite (in {broken[0]}): the training that wrote it failed.")
    return {key: value.float() for key, value in given.items()}


def _shared_prelu(model: MPRNet) -> Tensor:
    return next(parameter for parameter in model.parameters() if parameter.numel() == 1)
