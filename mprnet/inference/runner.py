"""One run of the network: as it is, compiled, or as a CUDA graph."""

import contextlib
import shutil
import sys

import torch
from torch import Tensor
from tqdm import tqdm

from mprnet.inference import memory
from mprnet.inference.graphs import Graphs
from mprnet.inference.precision import full_fp32
from mprnet.model.network import MPRNet
from mprnet.model.patches import PatchGrid

# With fewer pixels than this in a batch, a GPU waits for Python. A CUDA graph is replayed without Python.
_GRAPH_PIXELS = 512 * 512
_MOST_SHAPES = 256  # that a process compiles


class Runner:
    """Runs a network without gradients, and in full fp32 if its precision is fp32.

    Args:
        model: prepared for ``device``.
        stages: how many stages to run. None: all.
        compiled: use torch.compile, once for every shape.
    """

    def __init__(self, model: MPRNet, device: torch.device, stages: int | None, compiled: bool) -> None:
        self._model = model
        self._device = device
        self._stages = stages
        self._graphs = Graphs(model, stages) if device.type == "cuda" else None
        self._compiled = torch.compile(model, dynamic=False) if compiled and has_compiler(device) else None

    def __call__(self, batch: Tensor, grid: PatchGrid) -> list[Tensor]:
        """Restore a batch.

        Args:
            batch: (N, 3, H, W) float32 in [0, 1], on the device.
            grid: as for MPRNet.forward.

        Returns:
            The stages' images, float32, the last stage first. They may be tensors of inference mode.
        """
        # The precision is chosen already; a caller's autocast must not change it.
        with torch.inference_mode(), full_fp32(), torch.autocast(self._device.type, enabled=False):
            return [image.float() for image in self._run(batch, grid)]

    def make_room(self) -> bool:
        """Free memory that the process can do without. Return True if there were CUDA graphs, whose memory is large."""
        memory.trim()
        released = self._graphs is not None and self._graphs.release()
        if self._device.type != "cpu":
            torch.get_device_module(self._device).empty_cache()
        return released

    def _run(self, batch: Tensor, grid: PatchGrid) -> list[Tensor]:
        if self._compiled is not None:
            with _allow_many_shapes():
                return self._compiled(batch, self._stages, grid)
        if self._graphs is not None and batch.shape[0] * batch.shape[2] * batch.shape[3] <= _GRAPH_PIXELS:
            images = self._graphs.replay(batch, grid)
            if images is not None:
                return images
        return self._model(batch, self._stages, grid)


def _allow_many_shapes() -> contextlib.AbstractContextManager[None]:
    """Let PyTorch compile for more than 8 shapes; after 8 it would continue without compiling."""
    config = torch._dynamo.config
    return config.patch("recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit", _MOST_SHAPES)


def has_compiler(device: torch.device) -> bool:
    """Return True if torch.compile can work, and print a note if not. On the CPU it needs a C++ compiler."""
    if device.type != "cpu" or any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        return True
    tqdm.write("there is no C++ compiler here, which torch.compile needs; continuing without", file=sys.stderr)
    return False
