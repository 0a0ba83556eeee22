"""How much memory an image takes, and how much there is."""

import contextlib
import copy
import ctypes
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mprnet.model.bands import band_bytes
from mprnet.model.local_pooling import largest_window
from mprnet.model.network import SIZE_MULTIPLE, MPRNet

# What the process takes beyond its tensors' bytes: blocks handed back that do not fit, and the libraries' own buffers.
# Measured on the CPU: 1.05 to 1.15.
_OVERHEAD = 1.25
_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
# The side, at least, of the image whose tensors are counted, and how many windows of local pooling it holds at least.
# Twice as large an image has tensors twice as large, but for bands of rows, which are not, and means over windows, of
# which the border has none.
_SIDE = 1024
_WINDOWS = 4


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
            side = _padded(max(_SIDE, _WINDOWS * largest_window(self._model)))
            self._per_pixel = _OVERHEAD * _peak(self._model, self._stages, side) / side**2
        whole = int(self._per_pixel * count * _padded(height) * _padded(width))
        return whole + min(self._bands, whole)  # small images are not cut into bands


def _padded(side: int) -> int:
    return -(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE


def _peak(model: MPRNet, stages: int | None, side: int) -> int:
    shadow = copy.deepcopy(model).to("meta")
    channels = model.config["in_c"]
    image = torch.empty(1, channels, side, side, device="meta").to(memory_format=torch.channels_last)
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


def _system() -> int:
    return psutil.virtual_memory().available


def _group() -> int | None:
    """What containers and job schedulers leave this process: of its control group and those around it, the least limit
    less use."""
    left: list[int] = []
    for root, path, limit, used, cache in _groups():
        group = root / path
        for folder in [group, *(parent for parent in group.parents if parent.is_relative_to(root))]:
            with contextlib.suppress(OSError, ValueError):  # the root has no limit, and containers do not see the rest
                free = int((folder / limit).read_text()) - int((folder / used).read_text())
                left.append(free + int(_words(folder / "memory.stat").get(cache, 0)))
    return min(left, default=None)


def _groups() -> Iterator[tuple[Path, str, str, str, str]]:
    """Where the control groups of both versions are, this process's among them, and their files."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers:
            yield _CGROUP, path.strip("/"), "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield _CGROUP / "memory", path.strip("/"), *names


def _process() -> int | None:
    """What ``ulimit -v`` leaves."""
    try:
        import resource
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return limit - psutil.Process().memory_info().vms if limit != resource.RLIM_INFINITY else None


def _resident() -> int:
    return psutil.Process().memory_info().rss


def _words(path: Path) -> dict[str, str]:
    """The second word of each line by its first."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {words[0]: words[1] for words in map(str.split, lines) if len(words) > 1}
