"""Following a network while it runs, and stopping it."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from mprnet.model.layers import ChannelAttention
from mprnet.model.network import MPRNet


def count_blocks(model: MPRNet, stages: int | None) -> int:
    """Return how many channel attention blocks run in the first ``stages`` stages. None: in all stages."""
    names = [name for name, module in model.named_modules() if isinstance(module, ChannelAttention)]
    # The first number in a name is that of the stage: shallow_feat1.1.CA, stage1_encoder...
    return sum(int(re.findall(r"\d+", name)[0]) <= (stages or model.num_stages) for name in names)


@contextlib.contextmanager
def call_in_blocks(on_block: Callable[[], None]) -> Iterator[None]:
    """Call ``on_block`` in each channel attention block that this thread runs. An exception from it ends the run.

    Compiled networks and replayed CUDA graphs do not call it.
    """
    thread = threading.get_ident()

    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        # Runs on the meta device only estimate memory. A CUDA graph must be captured whole.
        if (
            isinstance(module, ChannelAttention)
            and threading.get_ident() == thread
            and not inputs[0].is_meta
            and not (inputs[0].is_cuda and torch.cuda.is_current_stream_capturing())
        ):
            on_block()

    handle = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
