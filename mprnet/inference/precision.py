"""Choosing the device and the precision, and preparing a network for them."""

import contextlib
import copy
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from mprnet.errors import UserError
from mprnet.inference.winograd import WinogradConv2d
from mprnet.model.bands import memory_format

Module = TypeVar("Module", bound=nn.Module)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("auto", *DTYPES)
_DEVICES = ("cpu", "cuda", "mps", "xpu")
# ``auto`` takes bf16 only if it is at least this much faster than fp32.
_MIN_SPEEDUP = 1.2
_RUNS = 20


def choose_device(name: str) -> torch.device:
    """Return the device that ``name`` says: ``auto``, or a device as PyTorch names it.

    Raises:
        UserError: unknown, or not on this machine.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())  # not the one that is current later
    try:
        device = torch.device(name)
        if device.type not in _DEVICES or (device.type == "cpu" and device.index):
            raise RuntimeError
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise UserError(f"there is no device {name} here; choose auto, cpu, cuda or mps.") from error
    return device


def choose_precision(name: str, device: torch.device, channels: int) -> str:
    """Return the precision that ``name`` says: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    ``auto`` is bf16 if the device is faster with it, else fp32. PyTorch says so of GPUs. On a CPU, a convolution of
    ``channels`` channels is timed in both, because some CPUs have the instructions and are slower with them.

    Raises:
        UserError: an unknown precision, or one that the device does not support.
    """
    if name not in PRECISIONS:
        raise UserError(f"the precision {name} is not known; choose one of {', '.join(PRECISIONS)}.")
    if name == "auto":
        if device.type == "cuda":
            with torch.cuda.device(device):
                return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        return _fastest_on_cpu(channels) if device.type == "cpu" else "fp32"
    if name != "fp32":
        try:
            x = torch.ones(1, 8, 8, 8, device=device, dtype=DTYPES[name])
            F.conv2d(x, x, padding=4)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"{device} does not support {name}; choose fp32 or auto.") from error
    return name


@lru_cache
def _fastest_on_cpu(channels: int) -> str:
    # PyTorch without oneDNN, as on Macs, does not have the second function.
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "fp32"
    times = _seconds(channels)
    return "bf16" if _MIN_SPEEDUP * times[torch.bfloat16] < times[torch.float32] else "fp32"


@torch.inference_mode()
def _seconds(channels: int) -> dict[torch.dtype, float]:
    """Return the seconds of a convolution in each dtype: the shortest of many runs, which alternate."""
    cpu = torch.device("cpu")
    layer = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
    image = torch.rand(1, channels, 96, 96).contiguous(memory_format=torch.channels_last)
    runs = {dtype: (prepare_network(layer, cpu, dtype), image.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    times = dict.fromkeys(runs, float("inf"))
    for _ in range(_RUNS):
        for dtype, (network, given) in runs.items():
            start = time.perf_counter()
            network(given)
            times[dtype] = min(times[dtype], time.perf_counter() - start)
    return times


@contextlib.contextmanager
def full_fp32() -> Iterator[None]:
    """Switch TF32 off in this context, so that GPUs compute fp32 in fp32."""
    try:
        matmul, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:  # the caller uses the settings of PyTorch 2.9, which do not mix with these
        operations = (
            torch.backends.cuda.matmul,
            torch.backends.cudnn.conv,  # type: ignore[attr-defined]
            torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
        )
        before = [operation.fp32_precision for operation in operations]
        try:
            for operation in operations:
                operation.fp32_precision = "ieee"
            yield
        finally:
            for operation, chosen in zip(operations, before, strict=True):
                operation.fp32_precision = chosen
        return
    try:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolution


def prepare_network(module: Module, device: torch.device, dtype: torch.dtype, winograd: bool = True) -> Module:
    """Return a copy of ``module`` on ``device``, in ``dtype`` and in the fastest form for inference.

    Images stay in fp32 in any ``dtype``: MPRNet converts them where features begin.

    Args:
        winograd: replace convolutions by WinogradConv2d where that is faster. torch.compile needs nn.Conv2d.
    """
    module = copy.deepcopy(module).eval().requires_grad_(False)
    module = module.to(device, dtype, memory_format=memory_format(device))  # type: ignore[call-overload]
    if device.type != "cpu" or dtype != torch.float32 or not winograd:
        return module
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if WinogradConv2d.supports(child):
                setattr(parent, name, WinogradConv2d(child))  # type: ignore[arg-type]
    return module
