"""Reading the tensors of a file of weights without running code that it may hold."""

import mmap
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

from mprnet.errors import UserError, one_line

# Names of the state dict in the checkpoints of common training programs, in order of preference.
_CONTAINERS = ("params_ema", "state_dict", "model_state_dict", "params", "model", "net", "net_g")
# Prefixes of every key: DataParallel, torch.compile, BasicSR, Lightning and others.
_PREFIXES = ("module.", "_orig_mod.", "net_g.", "model.")
_MOST_PREFIXES = 8  # of one key
# Ends of keys that the package thop adds when it counts operations.
_COUNTERS = ("total_ops", "total_params")
# How files of torch.save begin: a zip archive, or before torch 1.6 a pickle.
_MAGIC = (b"PK\x03\x04", b"\x80")
# How a pickle names the type.
_BYTEARRAY = b"\nbytearray\n"
# The paper's largest checkpoint, with the state of its optimizer, has 0.25 GB.
_MAX_BYTES = 2**30


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors in a file of weights, without wrappers' prefixes, and its metadata.

    Every tensor is strided, on the CPU and not empty. All tensors together are not larger than the file: a small
    file cannot fill the memory.

    Raises:
        UserError: no such file, not a file of weights, or pickled code in it.
    """
    try:
        if not path.is_file():
            raise UserError(f"there is no file of weights {path}.")
        size = path.stat().st_size
        with open(path, "rb") as file:
            beginning = file.read(9)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    if size > _MAX_BYTES:
        raise UserError(f"{path} is absurdly large for weights of MPRNet ({size / 2**30:.1f} GiB).")
    if beginning[8:] == b"{":  # the length of a header in JSON, and the header
        content, metadata = _read_safetensors(path)
    elif beginning.startswith(_MAGIC):
        content, metadata = _read_pickle(path)
    else:
        raise UserError(f"{path} is no file of weights: neither PyTorch nor safetensors wrote it.")
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor) and not key.endswith(_COUNTERS)
    }
    for _ in range(_MOST_PREFIXES):
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in tensors)), "")
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    if not tensors:
        raise UserError(f"{path} holds no tensors, and so no weights of MPRNet.")
    return _plain_tensors(tensors, size, path), metadata


def load_pickle(path: Path) -> Any:
    """Return what torch.save wrote, on the CPU, if it holds only tensors and plain values.

    Raises:
        pickle.UnpicklingError: it holds other objects.
        Exception: of any kind, if the file is damaged, even by a single bit.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # torch.save does not compress. A small file that claims to hold much takes long to read.
            claimed = sum(record.file_size for record in archive.infolist())
            # testzip compares checksums, which torch.load does not.
            if claimed > path.stat().st_size or archive.testzip() is not None:
                raise EOFError(path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_BYTEARRAY) >= 0:  # torch.load would make one of any length
            raise pickle.UnpicklingError("GLOBAL builtins.bytearray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch warns of is refused next
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except MemoryError as error:
        raise UserError(f"{path}: there is not enough memory to read it.") from error
    except Exception as error:  # besides SafetensorError, whatever PyTorch raises for an unknown type or shape
        raise UserError(
            f"{path} is no whole safetensors file ({one_line(error, 150)}); copy or download it again."
        ) from error


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
            # Other values, such as lists that hold themselves, have no reasonable text.
            metadata = {key: str(value) for key, value in stored.items() if isinstance(key, str) and _is_short(value)}
        for _ in _CONTAINERS:  # at most: a container may hold itself
            content = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), content)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return content, metadata


def _is_short(value: object) -> bool:
    return isinstance(value, (str, bool, float)) or (isinstance(value, int) and value.bit_length() <= 64)


def _plain_tensors(tensors: Mapping[str, Tensor], size: int, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of ``size`` bytes, after a check of what they claim."""
    plain: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = one_line(key, 80)
        try:
            tensor = Tensor.detach(value)  # without the attributes that a file can give to a tensor
            is_plain = type(tensor) is Tensor and tensor.layout == torch.strided and tensor.device.type == "cpu"
            if not is_plain or tensor.is_nested or not tensor.numel():
                raise UserError(f"{path} holds weights of another network: {name} is not stored as plain numbers.")
            size -= tensor.numel() * tensor.element_size()
        except UserError:
            raise
        except Exception as error:  # a damaged pickle can make tensors that no operation takes
            raise UserError(f"{path} is damaged (in {name}); copy or download it again.") from error
        if size < 0:
            raise UserError(f"{path} is damaged: {name} claims more than the file holds; copy or download it again.")
        plain[key] = tensor
    return plain


def _refused(path: Path, message: str) -> UserError:
    found = re.search(r"GLOBAL ([\w.]+)|trying to (?:call|load)[^\w]*([\w.]+)", message)
    what = f" ({found.group(1) or found.group(2)})" if found else ""
    return UserError(
        f"{path} holds Python objects beside tensors{what}, which could run code when loaded, and so was not loaded; "
        "ask its author for a state dict or a safetensors file."
    )
