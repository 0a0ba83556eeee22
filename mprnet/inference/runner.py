"""One pass of the network: as it is, compiled, or as a recorded sequence of a GPU's kernels."""

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

# Below so many pixels in a batch, a GPU waits for Python; a recording (CUDA graph) is replayed without it.
_RECORDED_PIXELS = 512 * 512
_RECORDINGS = 4
_SHAPES = 256  # that are compiled in a process's life


class Runner:
    """Calls a network without gradients, in full fp32 where it is in fp32.

    Args:
        model: prepared for ``device``.
        stages: how many stages to run. None: all.
        compiled: by torch.compile, once for every shape.
    """

    def __init__(self, model: MPRNet, device: torch.device, stages: int | None, compiled: bool) -> None:
        self._model = model
        self._device = device
        self._stages = stages
        self._records = device.type == "cuda"
        self._recordings: OrderedDict[tuple[int, ...], _Recording | None] = OrderedDict()
        self._seen: set[tuple[int, ...]] = set()
        self._pool: Any = None  # of memory, that all recordings share: one is replayed at a time
        self._compiled = torch.compile(model, dynamic=False) if compiled and compiler_is_there(device) else None

    def __call__(self, batch: Tensor, cuts: tuple[bool, bool]) -> list[Tensor]:
        """(N, 3, H, W) float32 on the device, in [0, 1], to the stages' images, the last stage first, float32; ``cuts``
        as in MPRNet.forward."""
        # What a caller's autocast would change is settled already.
        with torch.inference_mode(), full_fp32(), torch.autocast(self._device.type, enabled=False):
            images = self._run(batch, cuts)
        # Outside of inference mode, so that what comes out is an ordinary tensor.
        return [image.float().clone() for image in images]

    def stop_recording(self) -> bool:
        """Give back the memory of recordings, and make no more; whether there were any."""
        there_were = bool(self._recordings)
        self._recordings.clear()
        self._records = False
        return there_were

    def _run(self, batch: Tensor, cuts: tuple[bool, bool]) -> list[Tensor]:
        if self._compiled is not None:
            with _many_shapes():
                return self._compiled(batch, self._stages, cuts)
        if self._records and batch.shape[0] * batch.shape[2] * batch.shape[3] <= _RECORDED_PIXELS:
            recording = self._recording(batch, cuts)
            if recording is not None:
                return recording.replay(batch)
        return self._model(batch, self._stages, cuts)

    def _recording(self, batch: Tensor, cuts: tuple[bool, bool]) -> "_Recording | None":
        """For images of this shape, from the second on: a recording takes as long as three passes. None for the first,
        and where the device does not record."""
        shape = (*batch.shape, *cuts)
        if shape not in self._seen:
            self._seen.add(shape)
            return None
        if shape not in self._recordings:
            if len(self._recordings) == _RECORDINGS:
                self._recordings.popitem(last=False)
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._recordings[shape] = None
            with contextlib.suppress(RuntimeError):
                self._recordings[shape] = _Recording(self._model, batch, self._stages, cuts, self._pool)
        self._recordings.move_to_end(shape)
        return self._recordings[shape]


class _Recording:
    """A CUDA graph of one pass over a batch of one shape, in the memory of ``pool``."""

    def __init__(self, model: MPRNet, batch: Tensor, stages: int | None, cuts: tuple[bool, bool], pool: Any) -> None:
        self._input = batch.clone()
        self._graph = torch.cuda.CUDAGraph()
        # The stream says on which GPU is recorded: without one it is the first that this process ever recorded on.
        with torch.cuda.device(batch.device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            # Libraries choose their kernels and make their handles now, not while recording.
            with torch.cuda.stream(side):
                for _ in range(2):
                    model(self._input, stages, cuts)
            torch.cuda.current_stream().wait_stream(side)
            current = torch.cuda.current_stream()
            try:
                with torch.cuda.graph(self._graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                    self._output = model(self._input, stages, cuts)
            finally:
                torch.cuda.set_stream(current)  # PyTorch 2.6 stays on the other one if this failed

    def replay(self, batch: Tensor) -> list[Tensor]:
        self._input.copy_(batch)
        self._graph.replay()
        return [image.clone() for image in self._output]


def _many_shapes() -> contextlib.AbstractContextManager[None]:
    """In here PyTorch compiles for more than the 8 shapes after which it would go on uncompiled."""
    config = torch._dynamo.config
    return config.patch("recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit", _SHAPES)


def compiler_is_there(device: torch.device) -> bool:
    """Whether torch.compile can work; says so if not. On the CPU it writes C++."""
    if device.type != "cpu" or any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        return True
    tqdm.write("there is no C++ compiler here, which torch.compile needs; going on without", file=sys.stderr)
    return False
