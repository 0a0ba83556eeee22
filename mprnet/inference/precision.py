"""Choosing the device and the precision, and preparing a network for them."""

import contextlib
import copy
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from mprnet.errors import UserError, one_line
from mprnet.inference.out_of_memory import is_out_of_memory
from mprnet.inference.winograd import WinogradConv2d
from mprnet.model.bands import memory_format

Module = TypeVar("Module", bound=nn.Module)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("auto", *DTYPES)
_DEVICES = ("cpu", "cuda", "mps", "xpu")
# From this compute capability on, GPUs are faster in fp16 than in fp32 (Volta, Turing).
_FAST_FP16 = (7, 0)
# ``auto`` takes bf16 only if it is at least this much faster than fp32.
_MIN_SPEEDUP = 1.2
_RUNS = 20


def choose_device(name: str) -> torch.device:
    """Return the device that ``name`` says: ``auto``, or a device as PyTorch names it.

    If ``auto`` finds a GPU that cannot compute, a sentence says so, and the CPU is returned.

    Raises:
        UserError: unknown, not on this machine, or it cannot compute.
    """
    if name == "auto":
        if torch.cuda.is_available():
            device = torch.device("cuda", torch.cuda.current_device())  # not the one that is current later
            if not (problem := _find_problem(device)):
                return device
            tqdm.write(f"{device} cannot be used ({problem}); continuing on the CPU", file=sys.stderr)
            return torch.device("cpu")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "cuda" and torch.cuda.is_available():
        name = f"cuda:{torch.cuda.current_device()}"
    try:
        device = torch.device(name)
        if device.type not in _DEVICES or (device.type == "cpu" and device.index):
            raise RuntimeError
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise UserError(f"there is no device {name} here; choose auto, cpu, cuda or mps.") from error
    if device.type == "cuda" and (problem := _find_problem(device)):
        raise UserError(f"{device} cannot be used ({problem}); choose --device cpu.")
    return device


@lru_cache
def _find_problem(device: torch.device) -> str:
    """Return why a GPU cannot compute: a driver or a PyTorch that do not know it, for instance. Empty: it can."""
    try:
        image = torch.ones(1, 1, 8, 8, device=device)
        F.conv2d(image, image, padding=4).sum().item()
    except RuntimeError as error:
        # Memory that other programs have taken now may be free when the network runs.
        return "" if is_out_of_memory(error) else one_line(error, 120)
    return ""


def choose_precision(name: str, device: torch.device, channels: int) -> str:
    """Return the precision that ``name`` says: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    ``auto`` is bf16 if the device is faster with it, else fp32. PyTorch says so of GPUs; of those that are slower with
    it, some are faster with fp16. On a CPU, a convolution of ``channels`` channels is timed in both, because some CPUs
    have the instructions and are slower with them.

    Raises:
        UserError: an unknown precision, or one that the device does not support.
    """
    if name not in PRECISIONS:
        raise UserError(f"the precision {name} is not known; choose one of {', '.join(PRECISIONS)}.")
    if name == "auto":
        if device.type == "cuda":
            with torch.cuda.device(device):
                if torch.cuda.is_bf16_supported(including_emulation=False):
                    return "bf16"
                return "fp16" if torch.cuda.get_device_capability() >= _FAST_FP16 else "fp32"
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
    return "bf16" if _bf16_speedup(channels) > _MIN_SPEEDUP else "fp32"


@torch.inference_mode()
def _bf16_speedup(channels: int) -> float:
    """Return how many times as fast as in fp32 a convolution is in bf16.

    It is the median of many runs in turns. So other programs, which slow some of the runs down, hardly change it.
    """
    cpu = torch.device("cpu")
    layer = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
    image = torch.rand(1, channels, 96, 96).contiguous(memory_format=torch.channels_last)
    runs = [(prepare_network(layer, cpu, dtype), image.to(dtype)) for dtype in (torch.float32, torch.bfloat16)]
    ratios = []
    with full_fp32():
        for _ in range(_RUNS):
            times = []
            for network, given in runs:
                start = time.perf_counter()
                network(given)
                times.append(time.perf_counter() - start)
            ratios.append(times[0] / times[1])
    return statistics.median(ratios)


@contextlib.contextmanager
def full_fp32() -> Iterator[None]:
    """Compute fp32 in fp32 in this context: without TF32, and without bf16 inside operations.

    The settings are those of the process. Several threads can be in this context at a time; the last one that leaves
    it restores the settings that the program had chosen.
    """
    with _FULL_FP32.lock:
        if _FULL_FP32.threads == 0:
            _FULL_FP32.undo = _switch_to_fp32()
        _FULL_FP32.threads += 1
    try:
        yield
    finally:
        with _FULL_FP32.lock:
            _FULL_FP32.threads -= 1
            if _FULL_FP32.threads == 0:
                _FULL_FP32.undo.close()


class _Switch:
    """Which threads are in ``full_fp32``, and how to undo it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0
        self.undo = contextlib.ExitStack()


_FULL_FP32 = _Switch()


def _switch_to_fp32() -> contextlib.ExitStack:
    """Choose fp32 in all settings. Closing the result restores them, the older settings first: they change others."""
    undo = contextlib.ExitStack()
    backends: Any = torch.backends
    older: tuple[str, bool] | None = None
    # PyTorch refuses to read the older settings if they contradict those of PyTorch 2.9.
    with contextlib.suppress(RuntimeError):
        older = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    operations: list[Any] = []
    if hasattr(backends.cudnn, "conv"):  # PyTorch 2.9 or newer
        operations = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
        operations += [backends.mkldnn.matmul, backends.mkldnn.conv]
    for operation in operations:
        undo.callback(setattr, operation, "fp32_precision", _reset_precision(operation))
    if older is not None:
        undo.callback(torch.set_float32_matmul_precision, older[0])
        undo.callback(setattr, backends.cudnn, "allow_tf32", older[1])
        torch.set_float32_matmul_precision("highest")
        backends.cudnn.allow_tf32 = False
    for operation in operations:
        operation.fp32_precision = "ieee"
    return undo


def _reset_precision(operation: Any) -> str:
    """Let an operation inherit its precision, and return its own setting until now: "none" if it inherited it."""
    chosen = operation.fp32_precision
    operation.fp32_precision = "none"
    return "none" if operation.fp32_precision == chosen else chosen


def prepare_network(module: Module, device: torch.device, dtype: torch.dtype, winograd: bool = True) -> Module:
    """Return a copy of ``module`` on ``device``, in ``dtype`` and in the fastest form for inference.

    Images stay in fp32 in any ``dtype``: MPRNet converts them where features begin.

    Args:
        winograd: replace convolutions by WinogradConv2d where that is faster. torch.compile needs nn.Conv2d.
    """
    module = copy.deepcopy(module).eval().requires_grad_(False)
    module = module.to(device, dtype, memory_format=memory_format(device, dtype))  # type: ignore[call-overload]
    if device.type != "cpu" or dtype != torch.float32 or not winograd:
        return module
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if WinogradConv2d.supports(child):
                setattr(parent, name, WinogradConv2d(child))  # type: ignore[arg-type]
    return module
