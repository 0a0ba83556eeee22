"""Loading and saving weights: published files, plain state dicts, safetensors and the project's own files."""

import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mprnet.errors import UserError, one_line
from mprnet.files import write_atomically
from mprnet.model.ablations import build_network
from mprnet.model.network import LARGEST, MPRNet
from mprnet.model.weight_files import read_tensors

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# The metadata that holds the constructor's arguments, as JSON.
_CONFIG = "config"
_CAB = re.compile(r"stage\d_orsnet\.orb1\.body\.(\d+)\.CA\.conv_du\.0\.weight")
_STAGE = re.compile(r"stage(\d)_(encoder|orsnet)\.")


def load_model(path: str | Path, build: Callable[[Mapping[str, Any]], MPRNet] = build_network) -> MPRNet:
    """Build the network that a file of weights belongs to, and load the weights.

    Reads published checkpoints (``state_dict`` beside ``epoch`` and ``optimizer``), plain state dicts and safetensors,
    with or without the prefixes and containers of common training programs, saved on any device in any floating-point
    type. Only tensors and plain values are unpickled, so no code in a file can run. The configuration is the one that
    ``save_weights`` stored; for other files it is derived from the shapes of the tensors.

    Args:
        build: from a configuration to the network.

    Returns:
        The network in evaluation mode, on the CPU, in float32. ``model.metadata`` holds the file's metadata (str to
        str; empty for published files).

    Raises:
        UserError: no such file, not a file of weights, pickled code in it, or tensors that are not an MPRNet's.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    config = _stored_config(metadata) or _config_of_tensors(tensors, path)
    try:
        with torch.device("meta"):
            model = build(config)
    except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(f"{path} describes an MPRNet that cannot be built: {one_line(error)}") from error
    weights = _check(tensors, model, path)
    model.to_empty(device="cpu")
    model.load_state_dict(weights)
    model.metadata = {key: value for key, value in metadata.items() if key != _CONFIG}
    return model.eval()


def save_weights(model: MPRNet, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's weights to ``path``, as ``.pth`` or ``.safetensors``.

    Every key of the published files is written; the shared PReLU is written once for each block. The configuration is
    stored with the tensors, and so are ``model.metadata`` and ``metadata`` (training patch, data, author, ...).

    Raises:
        UserError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    stored = full_metadata(model, metadata)
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    if path.suffix == ".pth":
        file = io.BytesIO()
        torch.save({"state_dict": tensors, "metadata": stored}, file)
        write_atomically(path, file.getvalue())
    elif path.suffix == ".safetensors":
        write_atomically(path, safetensors.torch.save(tensors, metadata=stored))
    else:
        raise UserError(f"{path}: weights are saved as .pth or .safetensors.")


def full_metadata(model: MPRNet, metadata: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what files store beside a network's tensors: its metadata, ``metadata``, and its configuration."""
    known = {str(key): str(value) for key, value in {**model.metadata, **(metadata or {})}.items()}
    return known | {_CONFIG: json.dumps(model.config)}


def _stored_config(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The configuration that ``save_weights`` stored. None: another program wrote the file."""
    try:
        config = json.loads(metadata[_CONFIG])
    except (KeyError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) and "n_feat" in config else None


def _config_of_tensors(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The arguments of ``build_network`` for a network whose state dict has these tensors."""

    def shape(key: str) -> list[int]:
        if key not in tensors:
            some = one_line(", ".join(list(tensors)[:3]), 100)
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
        shown = one_line(first, 80)
        raise UserError(f"{path} holds no MPRNet: its tensors are no convolutions (shallow_feat1.0.weight is {shown}).")
    # Blocks work on channels // reduction: the reduction that explains the numbers at all widths.
    squeezed = {channels: reduced for reduced, channels, _, _ in squeezes}
    reductions = range(1, min(first[0], LARGEST) + 1)
    fitting = [r for r in reductions if all(c // r == s for c, s in squeezed.items())]
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
    """The subnetwork of each stage."""
    found = {int(match.group(1)): match.group(2) for match in map(_STAGE.match, tensors) if match}
    if sorted(found) != list(range(1, len(found) + 1)) or not 1 <= len(found) <= 3:
        raise UserError(f"{path} holds no MPRNet: it has tensors of the stages {sorted(found) or 'none'}.")
    return [{"encoder": "unet"}.get(part, part) for _, part in sorted(found.items())]


def _check(tensors: Mapping[str, Tensor], model: MPRNet, path: Path) -> dict[str, Tensor]:
    """Return ``tensors`` as float32, complete and of the right shapes; missing copies of the shared PReLU are added."""
    expected = model.state_dict()
    given = dict(tensors)
    shared = [key for key, value in expected.items() if key.endswith(".body.1.weight") and value.ndim == 1]
    present = [key for key in shared if key in given]
    if present:
        for key in shared:
            given.setdefault(key, given[present[0]])
    differences = [
        *(f"{key} is missing" for key in expected if key not in given),
        *(f"{one_line(key, 80)} is unknown" for key in given if key not in expected),
        *(
            f"{key} has the shape {one_line(list(given[key].shape), 80)} instead of {list(value.shape)}"
            for key, value in expected.items()
            if key in given and given[key].shape != value.shape
        ),
        *(f"{one_line(key, 80)} is of type {v.dtype}" for key, v in given.items() if v.dtype not in _DTYPES),
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
