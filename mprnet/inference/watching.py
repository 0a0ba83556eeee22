"""Following a network while it computes, and stopping it."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from mprnet.model.layers import ChannelAttentionBlock
from mprnet.model.network import MPRNet


def count_blocks(model: MPRNet, stages: int | None) -> int:
    """How many channel attention blocks one pass through the first ``stages`` stages runs. None: through all."""
    blocks = [name for name, module in model.named_modules() if isinstance(module, ChannelAttentionBlock)]
    # Names begin with a word and the number of the stage: shallow_feat1.1, stage1_encoder...
    return sum(int(re.findall(r"\d+", name)[0]) <= (stages or len(model.subnetworks)) for name in blocks)


@contextlib.contextmanager
def watched(on_block: Callable[[], None]) -> Iterator[None]:
    """Call ``on_block`` before each channel attention block that this thread runs; what it raises ends the pass.

    What torch.compile made, and a GPU's recorded kernels, run without coming by here.
    """
    thread = threading.get_ident()

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        # On the meta device only memory is reckoned; and a recording must not be left half done.
        if (
            isinstance(module, ChannelAttentionBlock)
            and threading.get_ident() == thread
            and not inputs[0].is_meta
            and not (inputs[0].is_cuda and torch.cuda.is_current_stream_capturing())
        ):
            on_block()

    hook = register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        hook.remove()
