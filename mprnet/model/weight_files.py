"""Reading the tensors of a file of weights without running code that it may hold."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from mprnet.errors import UserError

# Names of the state dict in the checkpoints of common training programs, in order of preference.
_CONTAINERS = ("params_ema", "state_dict", "model_state_dict", "params", "model", "net", "net_g")
# Prefixes of every key: DataParallel, torch.compile, BasicSR, Lightning and others.
_PREFIXES = ("module.", "_orig_mod.", "net_g.", "model.")
# Ends of keys that the package thop adds when it counts operations.
_COUNTERS = ("total_ops", "total_params")
# How files of torch.save begin: a zip archive, or before torch 1.6 a pickle.
_MAGIC = (b"PK\x03\x04", b"\x80")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors in a file of weights, without wrappers' prefixes, and its metadata.

    Raises:
        UserError: no such file, not a file of weights, or pickled code in it.
    """
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
    tensors = {
        str(key): value
        for key, value in content.items()
        if isinstance(value, Tensor) and not str(key).endswith(_COUNTERS)
    }
    while prefix := next((p for p in _PREFIXES if tensors and all(key.startswith(p) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    if not tensors:
        raise UserError(f"{path} holds no tensors, and so no weights of MPRNet.")
    return tensors, metadata


def load_pickle(path: Path) -> Any:
    """Return what torch.save wrote, on the CPU, if it holds only tensors and plain values.

    Raises:
        pickle.UnpicklingError: it holds other objects.
        Exception: of any kind, if the file is damaged, even by a single bit.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # compares checksums, which torch.load does not
                raise EOFError(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # the file is refused next
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is no whole safetensors file ({error}); copy or download it again.") from error


def _read_pickle(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    try:
        content = load_pickle(path)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path} is damaged or cut short; copy or download it again.") from error
    metadata = {}
    if isinstance(content, Mapping):
        stored = content.get("metadata")
        if isinstance(stored, Mapping):
            metadata = {str(key): str(value) for key, value in stored.items()}
        for _ in _CONTAINERS:  # at most: a container may hold itself
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
