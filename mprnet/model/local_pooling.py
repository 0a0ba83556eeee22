"""Local pooling at test time (TLC: Chu et al., "Improving image restoration by revisiting global information
aggregation", ECCV 2022, arXiv 2112.04491).

In training, channel attention pools over a patch. Later it pools over a whole photograph, whose means are different
from those it learned with. With local pooling, every channel attention takes means over a window around each pixel. The
window is 1.5 times as large as the features that the network saw in training.
"""

import copy
import operator

import torch
from torch import Tensor

from mprnet.errors import UserError
from mprnet.model.layers import ChannelAttention
from mprnet.model.network import SIZE_MULTIPLE, MPRNet

# Windows have 384 pixels where the training patch has 256.
_WINDOW, _PATCH = 384, 256
# Sizes of training patches that are allowed.
PATCHES = range(SIZE_MULTIPLE, 2**14 + 1)
_DIGITS = len(str(PATCHES[-1]))  # Python raises an error for thousands of digits


def set_local_pooling(model: MPRNet, patch: int | None) -> None:
    """Let every channel attention of ``model`` pool locally.

    Args:
        patch: height and width in pixels of the patches that the network was trained on, at least 8. None: pool over
            the whole image again.

    Raises:
        ValueError: ``patch`` is too small or too large.
    """
    attentions = [module for module in model.modules() if isinstance(module, ChannelAttention)]
    windows = [None] * len(attentions) if patch is None else _windows(model, patch)
    for attention, window in zip(attentions, windows, strict=True):
        attention.window = window


def largest_window(model: MPRNet) -> int:
    """Return the largest height or width of a window, in pixels of its features; 0 without local pooling."""
    windows = (module.window for module in model.modules() if isinstance(module, ChannelAttention))
    return max((max(window) for window in windows if window), default=0)


def training_patch(model: MPRNet) -> int:
    """Return the training patch that the file of weights states, in pixels.

    Raises:
        UserError: it states none.
    """
    stated = model.metadata.get("training_patch", "")
    if stated.isdecimal() and len(stated) <= _DIGITS and int(stated) in PATCHES:
        return int(stated)
    raise UserError(
        "local pooling needs the size of the patches that the network was trained on, and these weights do not state "
        "it: say --training_patch N (in Python: local_pooling=N). The published networks have 256, for denoising 128."
    )


def choose_patch(local_pooling: bool | int, model: MPRNet) -> int | None:
    """Return the training patch that an option for local pooling means; None: no local pooling.

    Args:
        local_pooling: a training patch; True: the one that the weights state.

    Raises:
        UserError: it is neither, or the weights state none.
    """
    if isinstance(local_pooling, bool):
        return training_patch(model) if local_pooling else None
    patch = operator.index(local_pooling) if hasattr(local_pooling, "__index__") else 0
    if patch not in PATCHES:
        raise UserError(
            f"local_pooling is True, False or a training patch of {PATCHES[0]} to {PATCHES[-1]} pixels, not "
            f"{local_pooling}."
        )
    return patch


def _windows(model: MPRNet, patch: int) -> list[tuple[int, int] | None]:
    """Return each channel attention's window: the size of its features for one training patch, times 1.5."""
    if patch not in PATCHES:
        raise ValueError(f"training patches have {PATCHES[0]} to {PATCHES[-1]} pixels, not {patch}.")
    side = patch // SIZE_MULTIPLE * SIZE_MULTIPLE
    shapes = copy.deepcopy(model).to("meta")

    def note(attention: ChannelAttention, inputs: tuple[Tensor]) -> None:
        height, width = (s * patch // side * _WINDOW // _PATCH for s in inputs[0].shape[2:])
        attention.window = (height, width)

    attentions = [module for module in shapes.modules() if isinstance(module, ChannelAttention)]
    for attention in attentions:
        attention.window = None
        attention.register_forward_pre_hook(note)
    with torch.inference_mode():
        shapes(torch.empty(1, model.config["in_c"], side, side, device="meta", dtype=model.tail.weight.dtype))
    return [attention.window for attention in attentions]
