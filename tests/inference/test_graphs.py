"""When CUDA graphs are recorded, on a machine without a GPU."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from mprnet.inference import graphs
from mprnet.inference.graphs import CaptureError, Graph, Graphs
from mprnet.inference.runner import Runner
from mprnet.model.patches import FULL_GRID, PatchGrid

CPU = torch.device("cpu")


class Recordings(list):
    """The recorded shapes, by the side of their batches, and the recorders. Those of the side 24 fail."""

    def __init__(self, monkeypatch) -> None:
        self.recorders = []
        self.grids = []
        monkeypatch.setattr(graphs, "Graph", self.record)
        monkeypatch.setattr(graphs, "Recorder", lambda device: object())

    def record(self, model, batch, stages, grid, recorder):
        self.append(batch.shape[2])
        self.recorders.append(recorder)
        self.grids.append(grid)
        if batch.shape[2] in (24, 25):
            raise CaptureError("not permitted")
        return SimpleNamespace(replay=lambda batch: [torch.full_like(batch, 0.5)])


@pytest.fixture
def recordings(monkeypatch) -> Recordings:
    return Recordings(monkeypatch)


def replay(made: Graphs, *sides: int) -> list[bool]:
    """Return which of these batches were replayed."""
    return [made.replay(torch.zeros(1, 3, side, 8), FULL_GRID) is not None for side in sides]


def test_a_shape_is_recorded_when_it_has_come_often(recordings):
    made = Graphs(None, None)
    assert replay(made, *[8] * 6) == [False] * 3 + [True] * 3
    assert recordings == [8]


def test_six_sizes_in_turn_do_not_drive_each_other_out(recordings):
    made = Graphs(None, None)
    replayed = replay(made, *[8, 16, 32, 40, 48, 56] * 10)
    assert recordings == [8, 16, 32, 40]
    assert sum(replayed) == 4 * 7


def test_a_size_that_does_not_come_any_more_gives_way(recordings):
    made = Graphs(None, None)
    replay(made, *[8, 16, 32, 40] * 20, *[16, 32, 40] * 2)
    assert replay(made, *[48] * 5) == [False] * 3 + [True] * 2
    assert recordings == [8, 16, 32, 40, 48]
    assert replay(made, 16, 32, 40) == [True] * 3
    assert replay(made, 8) == [False]


def test_all_graphs_share_a_recorder_until_one_fails(recordings, capsys):
    """A failed recording is not repeated, said once, and its pool is not used again."""
    made = Graphs(None, None)
    assert not any(replay(made, *[24] * 9))
    replay(made, *[8] * 4, *[16] * 4)
    assert not any(replay(made, *[25] * 9))
    replay(made, *[32] * 4)
    assert recordings == [24, 8, 16, 25, 32]
    failed, first, second, failed_again, third = recordings.recorders
    assert failed is not first is second is failed_again is not third
    assert capsys.readouterr().err.count("a CUDA graph cannot be recorded (not permitted); continuing without") == 1


def test_released_graphs_are_recorded_again_when_it_pays(recordings):
    made = Graphs(None, None)
    assert not made.release()
    replay(made, *[8] * 4)
    assert made.release()
    assert replay(made, *[8] * 5) == [False] * 3 + [True] * 2
    assert recordings.recorders[0] is not recordings.recorders[1]


def test_a_release_also_forgets_how_often_shapes_came(recordings):
    """Graphs that are recorded at once could fill the memory again."""
    made = Graphs(None, None)
    replay(made, *[8] * 4, *[16] * 3)
    made.release()
    assert replay(made, *[16] * 5) == [False] * 3 + [True] * 2


def test_shapes_that_came_long_ago_are_forgotten(recordings, monkeypatch):
    monkeypatch.setattr(graphs, "_MOST_SHAPES", 2)
    made = Graphs(None, None)
    replay(made, 8, 8, 8, 16, 32, 8)
    assert recordings == []
    replay(made, 32, 32, 32)
    assert recordings == [32]


def test_each_way_to_split_a_batch_has_its_own_graph(recordings):
    made = Graphs(None, None)
    grids = [PatchGrid(rows, columns) for rows in (True, False) for columns in (True, False)]
    for grid in grids * 4:
        made.replay(torch.zeros(1, 3, 8, 8), grid)
    assert recordings.grids == grids


def test_only_small_batches_are_recorded(tiny, recordings, monkeypatch):
    runner = Runner(tiny, CPU, None, compiled=False)
    runner._graphs = Graphs(tiny, None)
    monkeypatch.setattr("mprnet.inference.runner._GRAPH_PIXELS", 8 * 8)
    for _ in range(5):
        for side in (8, 16):
            result = runner(torch.zeros(1, 3, side, 8), FULL_GRID)[0]
        runner(torch.zeros(2, 3, 8, 8), FULL_GRID)  # two images have too many pixels, too
    assert recordings == [8]
    assert not (result == 0.5).all()
    assert runner.make_room()
    assert not runner.make_room()


def test_memory_that_pytorch_keeps_on_a_gpu_is_given_back(tiny, monkeypatch):
    runner = Runner(tiny, CPU, None, compiled=False)
    runner._device = torch.device("cuda")
    emptied: list[str] = []
    monkeypatch.setattr(
        torch, "get_device_module", lambda device: SimpleNamespace(empty_cache=lambda: emptied.append(""))
    )
    assert not runner.make_room()
    assert len(emptied) == 1


class FakeCuda:
    """The functions of torch.cuda that recording calls; capturing ends with ``error``."""

    def __init__(self, monkeypatch, error: Exception | None = None) -> None:
        self.log: list[str] = []
        current, side = (self.make_stream(name) for name in ("current", "side"))

        @contextlib.contextmanager
        def capture(graph, pool, stream, capture_error_mode):
            self.log.append("capture")
            yield
            if error is not None:
                raise error

        for name, value in {
            "device": lambda device: contextlib.nullcontext(),
            "stream": lambda stream: contextlib.nullcontext(),
            "current_stream": lambda: current,
            "set_stream": lambda stream: None,
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
            "graph": capture,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        self.recorder = SimpleNamespace(stream=side, pool=(0, 1))

    def make_stream(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, wait_stream=lambda other: self.log.append(f"{name} waits for {other.name}"))


def test_only_what_belongs_to_capturing_becomes_a_capture_error(tiny, monkeypatch):
    batch = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        cuda = FakeCuda(monkeypatch)
        replayed = Graph(tiny, batch, None, FULL_GRID, cuda.recorder).replay(batch)
        assert torch.equal(replayed[0], tiny(batch)[0])
        for error, expected in (
            (RuntimeError("operation not permitted when stream is capturing"), CaptureError),
            (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
            (KeyError("x"), KeyError),
        ):
            with pytest.raises(expected):
                Graph(tiny, batch, None, FULL_GRID, FakeCuda(monkeypatch, error).recorder)

        def fail(batch, stages, grid):
            raise RuntimeError("CUDA error: an illegal access")

        with pytest.raises(RuntimeError, match="illegal access"):  # before the capture
            Graph(fail, batch, None, FULL_GRID, FakeCuda(monkeypatch).recorder)


def test_the_first_passes_wait_for_the_batch_and_later_work_for_them(monkeypatch):
    cuda = FakeCuda(monkeypatch)

    def network(batch, stages, grid):
        cuda.log.append("pass")
        return [batch]

    Graph(network, torch.rand(1, 3, 8, 8), None, FULL_GRID, cuda.recorder)
    assert cuda.log == ["side waits for current", "pass", "pass", "current waits for side", "capture", "pass"]


def test_a_result_is_not_overwritten_by_the_next_replay(tiny, monkeypatch):
    """All replays write to the same memory."""
    batch = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        graph = Graph(tiny, batch, None, FULL_GRID, FakeCuda(monkeypatch).recorder)
        first = graph.replay(batch)
        expected = [image.clone() for image in first]
        for image in graph.replay(batch):
            image.zero_()
        assert all(map(torch.equal, first, expected))


def test_a_lack_of_memory_behind_the_end_of_a_capture_is_found(tiny, monkeypatch):
    def fail(batch, stages, grid):
        raise torch.OutOfMemoryError("CUDA out of memory")

    try:
        fail(None, None, None)
    except RuntimeError as lack:
        error = RuntimeError("operation failed due to a previous error during capture")
        error.__context__ = lack
    with pytest.raises(RuntimeError, match="previous error"):
        Graph(tiny, torch.rand(1, 3, 8, 8), None, FULL_GRID, FakeCuda(monkeypatch, error).recorder)
