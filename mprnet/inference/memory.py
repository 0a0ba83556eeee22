"""How much memory a run of the network takes, and how much memory is free."""

import contextlib
import copy
import ctypes
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mprnet.control_groups import find_control_groups
from mprnet.inference.launcher import count_local_processes
from mprnet.model.bands import max_band_bytes
from mprnet.model.local_pooling import largest_window
from mprnet.model.network import SIZE_MULTIPLE, MPRNet
from mprnet.model.padding import round_up

# A process takes more than the bytes of its tensors: freed blocks that no tensor fits in, and buffers of libraries.
# Measured on the CPU: 1.05 to 1.15 times as much.
_OVERHEAD = 1.25
# For each version of control groups, the names of the limit, of the use, and of the cache that can be given back.
_GROUP_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
# The image whose tensors are counted has at least this height and width, and at least this many windows of local
# pooling. Memory grows in proportion to the pixels, with two exceptions, which matter little in a large image: bands of
# rows, and means over windows, which there are none of near the border.
_SIDE = 1024
_WINDOWS = 4


class MemoryEstimate:
    """Estimates how many bytes a run of ``model`` takes, beside its weights.

    The network runs on PyTorch's meta device, where tensors have a size but no contents. The estimate is the largest
    sum of the sizes of the tensors that are alive at a time.

    Args:
        model: as it will run: in its precision, with or without local pooling.
        stages: how many stages run. None: all.
        device: where.
    """

    def __init__(self, model: MPRNet, stages: int | None, device: torch.device) -> None:
        self._model = model
        self._stages = stages
        # On GPUs, bands of rows are larger than on the meta device, and three of them are alive at a time.
        self._bands = 3 * (max_band_bytes(device) - max_band_bytes(torch.device("meta")))
        self._per_pixel: float | None = None

    def peak(self, count: int, height: int, width: int) -> int:
        """Return the bytes at the peak, for ``count`` images of this size at a time."""
        if self._per_pixel is None:
            side = round_up(max(_SIDE, _WINDOWS * largest_window(self._model)), SIZE_MULTIPLE)
            self._per_pixel = _OVERHEAD * _peak(self._model, self._stages, side) / side**2
        pixels = round_up(height, SIZE_MULTIPLE) * round_up(width, SIZE_MULTIPLE)
        whole = int(self._per_pixel * count * pixels)
        return whole + min(self._bands, whole)  # small images are not cut into bands


def _peak(model: MPRNet, stages: int | None, side: int) -> int:
    shadow = copy.deepcopy(model).to("meta")
    channels = model.config["in_c"]
    image = torch.empty(1, channels, side, side, device="meta").to(memory_format=torch.channels_last)
    with torch.inference_mode(), _TensorCounter() as counter:
        shadow(image, stages=stages)
    return counter.peak


class _TensorCounter(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is active, until they are freed."""

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


def free_memory(device: torch.device, limit: int | None = None) -> int | None:
    """Return how many bytes are free on the device for this process; None if that is not known.

    Below 0, the process uses so many more than ``limit`` already.

    Args:
        limit: how many bytes the process may use, including those that it uses now.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        used = torch.cuda.memory_allocated(device)
        # Memory that PyTorch has reserved but does not use is free as well, if it does not belong to a CUDA graph.
        kept = _kept_by_graphs(device)
        limits = [
            free + torch.cuda.memory_reserved(device) - used - kept,
            None if limit is None else limit - used - kept,
        ]
    elif device.type == "cpu":
        # The processes of a run need memory at the same time.
        shared = [each // count_local_processes() for each in (_free_in_system(), _free_in_group()) if each is not None]
        limits = [
            *shared,
            _free_in_process(),
            None if limit is None else limit - _resident(),
        ]
    elif device.type == "mps":
        used = torch.mps.current_allocated_memory()
        limits = [torch.mps.recommended_max_memory() - used, None if limit is None else limit - used]
    else:
        limits = [limit]
    known = [each for each in limits if each is not None]
    return min(known) if known else None


def _kept_by_graphs(device: torch.device) -> int:
    """Return how many bytes lie unused in the pools of CUDA graphs: nothing else can be put there."""
    return sum(
        segment["total_size"] - segment["allocated_size"]
        for segment in torch.cuda.memory_snapshot()
        if segment["device"] == device.index and any(segment.get("segment_pool_id", ()))
    )


def trim() -> None:
    """Let the C library return free memory to the system, where it can."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _free_in_system() -> int:
    return psutil.virtual_memory().available


def _free_in_group(root: Path = Path("/")) -> int | None:
    """Return what containers and job schedulers leave: the least, over this process's control group and those around
    it, of the limit less the use; None without a limit."""
    left: list[int] = []
    for version, folder in find_control_groups("memory", root):
        limit, used, cache = _GROUP_FILES[version]
        with contextlib.suppress(OSError, ValueError):  # the root has no limit, and containers see no others
            free = int((folder / limit).read_text()) - int((folder / used).read_text())
            left.append(free + int(_words(folder / "memory.stat").get(cache, 0)))
    return min(left, default=None)


def _free_in_process() -> int | None:
    """Return what ``ulimit -v`` leaves; None without a limit."""
    try:
        import resource
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return limit - psutil.Process().memory_info().vms if limit != resource.RLIM_INFINITY else None


def _resident() -> int:
    return psutil.Process().memory_info().rss


def _words(path: Path) -> dict[str, str]:
    """Return the second word of each line, by the first word."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {words[0]: words[1] for words in map(str.split, lines) if len(words) > 1}
