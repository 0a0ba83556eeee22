"""How much memory an image takes, and how much there is."""

import contextlib
import copy
import ctypes
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mprnet.model.bands import band_bytes
from mprnet.model.network import SIZE_MULTIPLE, MPRNet

# What the process takes beyond its tensors' bytes: blocks handed back that do not fit, and the libraries' own buffers.
# Measured on the CPU: 1.05 to 1.15.
_OVERHEAD = 1.25
_CGROUP = Path("/sys/fs/cgroup")
# Where tensors are counted. Twice as large an image has tensors twice as large, but for bands of rows, which are not.
_SIDE = 1024


class Need:
    """What a pass of ``model`` takes, in bytes beside its weights, for images of any size.

    Nothing is fitted: the network runs on PyTorch's meta device, where tensors have sizes and no contents, and the
    largest sum of the sizes of those alive at a time is noted.

    Args:
        model: as it will run: in its precision, with or without local pooling.
        stages: how many stages are run. None: all.
        device: where.
    """

    def __init__(self, model: MPRNet, stages: int | None, device: torch.device) -> None:
        self._model = model
        self._stages = stages
        # Bands of rows are larger on GPUs than where tensors are counted, and three of them are alive at a time.
        self._bands = 3 * (band_bytes(device) - band_bytes(torch.device("meta")))
        self._per_pixel: float | None = None

    def bytes(self, count: int, height: int, width: int) -> int:
        """At the peak, for ``count`` images of this size at a time."""
        if self._per_pixel is None:
            peak = _peak(self._model, self._stages)
            self._per_pixel = _OVERHEAD * peak / _SIDE**2
        whole = int(self._per_pixel * count * _padded(height) * _padded(width))
        return whole + min(self._bands, whole)  # small images are not cut into bands


def _padded(side: int) -> int:
    return -(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE


def _peak(model: MPRNet, stages: int | None) -> int:
    shadow = copy.deepcopy(model).to("meta")
    channels = model.config["in_c"]
    image = torch.empty(1, channels, _SIDE, _SIDE, device="meta").to(memory_format=torch.channels_last)
    with torch.inference_mode(), _Count() as count:
        shadow(image, stages=stages)
    return count.peak


class _Count(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is on, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = 0
        self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self._known:
                storage = tensor.untyped_storage()
                self._known.add(storage)
                self.alive += storage.nbytes()
                self.peak = max(self.peak, self.alive)
                weakref.finalize(storage, self._free, storage.nbytes())
        return result

    def _free(self, size: int) -> None:
        self.alive -= size


def available(device: torch.device, limit: int | None = None) -> int | None:
    """Free bytes on the device, or None where that cannot be told.

    Args:
        limit: how many the process may take in all, those that it has included.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        used = torch.cuda.memory_allocated(device)
        # What PyTorch keeps for itself but does not use is free as well.
        limits = [free + torch.cuda.memory_reserved(device) - used, None if limit is None else limit - used]
    elif device.type == "cpu":
        limits = [_system(), _group(), _process(), None if limit is None else limit - _resident()]
    elif device.type == "mps":
        used = torch.mps.current_allocated_memory()
        limits = [torch.mps.recommended_max_memory() - used, None if limit is None else limit - used]
    else:
        limits = [limit]
    known = [each for each in limits if each is not None]
    return max(0, min(known)) if known else None


def trim() -> None:
    """Let the C library give back what it keeps of memory that is free, where it can."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _system() -> int | None:
    meminfo = _words(Path("/proc/meminfo"))
    return 1024 * int(meminfo["MemAvailable:"]) if "MemAvailable:" in meminfo else None


def _group() -> int | None:
    """What containers and job schedulers leave this process: the control group's limit less its use."""
    for limit, used, statistics, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            most, now = (_CGROUP / limit).read_text().strip(), int((_CGROUP / used).read_text())
        except (OSError, ValueError):
            continue
        if most.isdigit():
            return int(most) - now + int(_words(_CGROUP / statistics).get(cache, 0))
    return None


def _process() -> int | None:
    """What ``ulimit -v`` leaves."""
    try:
        import resource
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _words(Path("/proc/self/status")).get("VmSize:")
    return limit - 1024 * int(used) if limit != resource.RLIM_INFINITY and used else None


def _resident() -> int:
    return 1024 * int(_words(Path("/proc/self/status")).get("VmRSS:", 0))


def _words(path: Path) -> dict[str, str]:
    """The second word of each line by its first."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {words[0]: words[1] for words in map(str.split, lines) if len(words) > 1}
