"""CUDA graphs: passes of a network that a GPU repeats without Python."""

import sys
from collections import OrderedDict, deque

import torch
from torch import Tensor
from tqdm import tqdm

from mprnet.errors import one_line
from mprnet.inference.out_of_memory import is_out_of_memory
from mprnet.model.network import MPRNet
from mprnet.model.patches import PatchGrid

# Recording takes as long as three passes, and a replay saves up to half of one. So a shape is recorded when so many
# batches of it have come: it has paid then after as many more.
_PAYS = 4
_MOST_GRAPHS = 4
_MOST_SHAPES = 64  # whose last passes are remembered

Shape = tuple[int, ...]


class CaptureError(Exception):
    """A pass cannot be recorded. The message says why."""


class Graphs:
    """The CUDA graphs of a network, one for each of a few shapes of batches.

    Args:
        model: prepared for a GPU.
        stages: how many stages to run. None: all.
    """

    def __init__(self, model: MPRNet, stages: int | None) -> None:
        self._model = model
        self._stages = stages
        self._graphs: OrderedDict[Shape, Graph] = OrderedDict()  # the one that was not used for longest comes first
        self._used: dict[Shape, int] = {}  # the number of each graph's last pass
        self._passes: OrderedDict[Shape, deque[int]] = OrderedDict()  # the numbers of the last passes without a graph
        self._count = 0
        self._recorder: Recorder | None = None
        self._failed: set[Shape] = set()

    def replay(self, batch: Tensor, grid: PatchGrid) -> list[Tensor] | None:
        """Return the images of a batch, (N, 3, H, W). None: there is no graph for it, so the network has to run."""
        shape = (*batch.shape, grid.rows, grid.columns)
        self._count += 1
        if shape not in self._graphs and not (self._pays(shape) and self._record(shape, batch, grid)):
            return None
        self._graphs.move_to_end(shape)
        self._used[shape] = self._count
        return self._graphs[shape].replay(batch)

    def release(self) -> bool:
        """Free the memory of all graphs. Return True if there were any. Shapes are recorded again when it pays."""
        there_were = bool(self._graphs)
        self._graphs.clear()
        self._used.clear()
        self._passes.clear()
        self._recorder = None
        return there_were

    def _pays(self, shape: Shape) -> bool:
        """Note a pass of a shape that has no graph. Return True if now is the time to record one.

        A graph gives way only to a shape that came often while the graph was not used at all. So a few sizes in turn
        do not drive each other out.
        """
        if shape in self._failed:
            return False
        passes = self._passes.setdefault(shape, deque(maxlen=_PAYS))
        self._passes.move_to_end(shape)
        if len(self._passes) > _MOST_SHAPES:
            self._passes.popitem(last=False)
        passes.append(self._count)
        if len(passes) < _PAYS:
            return False
        return len(self._graphs) < _MOST_GRAPHS or passes[0] > self._used[next(iter(self._graphs))]

    def _record(self, shape: Shape, batch: Tensor, grid: PatchGrid) -> bool:
        """Record a graph. Return False if that is not possible."""
        if len(self._graphs) == _MOST_GRAPHS:
            idle, _ = self._graphs.popitem(last=False)
            del self._used[idle]
        self._recorder = self._recorder or Recorder(batch.device)
        try:
            self._graphs[shape] = Graph(self._model, batch, self._stages, grid, self._recorder)
        except CaptureError as error:
            if not self._failed:
                tqdm.write(f"a CUDA graph cannot be recorded ({error}); continuing without", file=sys.stderr)
            self._failed.add(shape)
            self._recorder = None  # what a failed recording leaves in the pool cannot be used again
            return False
        del self._passes[shape]
        return True


class Recorder:
    """The stream and the pool of memory that all graphs share: they are replayed one at a time."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()


class Graph:
    """A CUDA graph of one pass over a batch of one shape.

    Raises:
        CaptureError: the pass cannot be recorded. Errors of the pass itself, and of memory, are raised as they are.
    """

    def __init__(self, model: MPRNet, batch: Tensor, stages: int | None, grid: PatchGrid, recorder: Recorder) -> None:
        self._input = batch.clone()
        self._graph = torch.cuda.CUDAGraph()
        # torch.cuda.graph captures on the GPU of its stream. Without a stream it takes the first GPU that this process
        # ever captured on.
        with torch.cuda.device(batch.device):
            current, side = torch.cuda.current_stream(), recorder.stream
            side.wait_stream(current)
            # Libraries choose their kernels and make their handles now, not during the capture.
            with torch.cuda.stream(side):
                for _ in range(2):
                    model(self._input, stages, grid)
            current.wait_stream(side)
            try:
                with torch.cuda.graph(self._graph, pool=recorder.pool, stream=side, capture_error_mode="thread_local"):
                    self._output = model(self._input, stages, grid)
            except RuntimeError as error:
                # The end of a broken capture raises an error of its own.
                if is_out_of_memory(error) or (error.__context__ and is_out_of_memory(error.__context__)):
                    raise
                raise CaptureError(one_line(error)) from error
            finally:
                torch.cuda.set_stream(current)  # PyTorch 2.6 stays on the side stream if capturing failed

    def replay(self, batch: Tensor) -> list[Tensor]:
        """Restore a batch of the captured shape."""
        self._input.copy_(batch)
        self._graph.replay()
        return [image.clone() for image in self._output]
