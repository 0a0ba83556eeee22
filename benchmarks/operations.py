"""Operations of a network: how many there are, how fast a device can do them, and which ones take the time."""

import copy
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, bmm_flop, conv_flop_count, mm_flop

from mprnet.model.bands import memory_format

_RUNS = 5


class Operation(NamedTuple):
    """A kind of operation in a pass.

    Attributes:
        name: PyTorch's, and the shapes of its tensors.
        calls: how many there are.
        seconds: of all of them, without other operations that they call.
        share: of the time of all operations, from 0 to 1.
        flops: of all of them, per second. None: not counted for this kind.
    """

    name: str
    calls: int
    seconds: float
    share: float
    flops: float | None


def count_flops(network: nn.Module, shape: Sequence[int]) -> int:
    """Return the operations of a forward pass over an image of this shape: 2 per multiplication and addition.

    Convolutions and products of matrices are counted.
    """
    # With gradients: without them, our networks compute rows twice where bands meet.
    with torch.inference_mode(False), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        network = copy.deepcopy(network).to("meta")
        network(torch.empty(*shape, device="meta", dtype=next(network.parameters()).dtype))
    return counter.get_total_flops()


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the time of one call; the device is idle before and after it.

    It is wall-clock time. On the CPU with one thread, it is the processor's: other programs hardly change that.
    """
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    synchronize(device)
    start = clock()
    run()
    synchronize(device)
    return clock() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_peak(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """Return the FLOP/s of the fastest of some products of large square matrices."""
    side = side or (8192 if device.type == "cuda" else 2048)
    matrix = torch.rand(side, side, device=device).to(dtype)
    return 2 * side**3 / min(seconds(lambda: matrix @ matrix, device) for _ in range(_RUNS))


def convolution_peak(device: torch.device, dtype: torch.dtype, channels: int = 128, side: int | None = None) -> float:
    """Return the FLOP/s of the fastest of some 3x3 convolutions of a large image."""
    side = side or (1024 if device.type == "cuda" else 256)
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device).requires_grad_(False)
    layer = layer.to(dtype=dtype, memory_format=memory_format(device))  # type: ignore[call-overload]
    image = torch.rand(1, channels, side, side, device=device).to(dtype).contiguous(memory_format=memory_format(device))
    least = min(seconds(lambda: F.conv2d(image, layer.weight, padding=1), device) for _ in range(_RUNS))
    return count_flops(layer, image.shape) / least


def costliest_operations(run: Callable[[], object], device: torch.device, count: int = 10) -> list[Operation]:
    """Return the kinds of operations of a call that take the most time, the costliest first.

    Time is wall-clock time; on a GPU, that of the kernels. The call is made twice: the first one is not measured.
    """
    is_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * is_cuda
    run()
    with profile(activities=activities, record_shapes=True) as profiler:
        run()
        synchronize(device)
    found = []
    for event in profiler.key_averages(group_by_input_shape=True):
        microseconds = event.self_device_time_total if is_cuda else event.self_cpu_time_total
        # On a GPU, the kernels are listed too. Their time is that of the operations that started them.
        if microseconds > 0 and (event.key.startswith("aten::") or not is_cuda):
            found.append((event.key, event.input_shapes or [], event.count, microseconds / 1e6))
    total = sum(item[-1] for item in found)
    found.sort(key=lambda item: -item[-1])
    operations = []
    for key, shapes, calls, duration in found[:count]:
        flops = _flops_of_call(key, shapes)
        texts = ["x".join(map(str, shape)) for shape in shapes if shape]
        name = f"{key.removeprefix('aten::')} {', '.join(texts)}".strip()
        operations.append(Operation(name, calls, duration, duration / total, flops and flops * calls / duration))
    return operations


def print_operations(operations: list[Operation]) -> None:
    """Print operations as a table in Markdown."""
    print("| operation | calls | ms | share | TFLOP/s |\n|---|---|---|---|---|")
    for name, calls, duration, share, flops in operations:
        speed = "" if flops is None else f"{flops / 1e12:.3f}"
        print(f"| {name} | {calls} | {1000 * duration:.1f} | {share:.1%} | {speed} |", flush=True)


def _flops_of_call(name: str, shapes: list[list[int]]) -> int | None:
    """Return the operations of one call; None if they are not counted."""
    # Not aten::convolution and aten::_convolution, which only call these.
    if name.endswith(("mkldnn_convolution", "cudnn_convolution", "miopen_convolution", "_slow_conv2d_forward")):
        image, weight = shapes[:2]
        return conv_flop_count(image, weight, [image[0], weight[0], *image[2:]])  # the network's keep the size
    products = {"aten::mm": mm_flop, "aten::bmm": bmm_flop}
    return products[name](*shapes[:2]) if name in products else None
