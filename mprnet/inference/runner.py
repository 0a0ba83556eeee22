"""One run of the network: as it is, compiled, or as a CUDA graph."""

import contextlib
import shutil
import sys
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from mprnet.inference.precision import full_fp32
from mprnet.model.network import MPRNet
from mprnet.model.patches import PatchGrid

# With fewer pixels than this in a batch, a GPU waits for Python. A CUDA graph is replayed without Python.
_GRAPH_PIXELS = 512 * 512
_MOST_GRAPHS = 4
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
        self._use_graphs = device.type == "cuda"
        self._graphs: OrderedDict[tuple[int, ...], _Graph | None] = OrderedDict()
        self._seen: set[tuple[int, ...]] = set()
        self._pool: Any = None  # one memory pool for all graphs: they are replayed one at a time
        self._compiled = torch.compile(model, dynamic=False) if compiled and has_compiler(device) else None

    def __call__(self, batch: Tensor, grid: PatchGrid) -> list[Tensor]:
        """Restore a batch.

        Args:
            batch: (N, 3, H, W) float32 in [0, 1], on the device.
            grid: as for MPRNet.forward.

        Returns:
            The stages' images, float32, the last stage first.
        """
        # The precision is chosen already; a caller's autocast must not change it.
        with torch.inference_mode(), full_fp32(), torch.autocast(self._device.type, enabled=False):
            images = self._run(batch, grid)
        # Cloned outside of inference mode, so that the results are ordinary tensors.
        return [image.float().clone() for image in images]

    def release_graphs(self) -> bool:
        """Free the memory of CUDA graphs and stop using them. Return True if there were any."""
        there_were = bool(self._graphs)
        self._graphs.clear()
        self._use_graphs = False
        return there_were

    def _run(self, batch: Tensor, grid: PatchGrid) -> list[Tensor]:
        if self._compiled is not None:
            with _allow_many_shapes():
                return self._compiled(batch, self._stages, grid)
        if self._use_graphs and batch.shape[0] * batch.shape[2] * batch.shape[3] <= _GRAPH_PIXELS:
            graph = self._graph(batch, grid)
            if graph is not None:
                return graph.replay(batch)
        return self._model(batch, self._stages, grid)

    def _graph(self, batch: Tensor, grid: PatchGrid) -> "_Graph | None":
        """The CUDA graph for batches of this shape, from the second batch on: to capture one takes as long as three
        runs. None for the first batch, and if capturing failed."""
        shape = (*batch.shape, grid.rows, grid.columns)
        if shape not in self._seen:
            self._seen.add(shape)
            return None
        if shape not in self._graphs:
            if len(self._graphs) == _MOST_GRAPHS:
                self._graphs.popitem(last=False)
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._graphs[shape] = None
            with contextlib.suppress(RuntimeError):
                self._graphs[shape] = _Graph(self._model, batch, self._stages, grid, self._pool)
        self._graphs.move_to_end(shape)
        return self._graphs[shape]


class _Graph:
    """A CUDA graph of one run over a batch of one shape, in the memory of ``pool``."""

    def __init__(self, model: MPRNet, batch: Tensor, stages: int | None, grid: PatchGrid, pool: Any) -> None:
        self._input = batch.clone()
        self._graph = torch.cuda.CUDAGraph()
        # torch.cuda.graph captures on the GPU of its stream. Without a stream it takes the first GPU that this process
        # ever captured on.
        with torch.cuda.device(batch.device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            # Libraries choose their kernels and make their handles now, not during the capture.
            with torch.cuda.stream(side):
                for _ in range(2):
                    model(self._input, stages, grid)
            torch.cuda.current_stream().wait_stream(side)
            current = torch.cuda.current_stream()
            try:
                with torch.cuda.graph(self._graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                    self._output = model(self._input, stages, grid)
            finally:
                torch.cuda.set_stream(current)  # PyTorch 2.6 stays on the side stream if capturing failed

    def replay(self, batch: Tensor) -> list[Tensor]:
        """Restore a batch of the captured shape."""
        self._input.copy_(batch)
        self._graph.replay()
        return [image.clone() for image in self._output]


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
