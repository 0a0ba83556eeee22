"""What to do about steps that fail, for users."""

import torch
from yacs.config import CfgNode

from mprnet.training.meter import peak_memory


def describe_divergence(settings: CfgNode, epochs_done: int) -> str:
    """Return what to do if many steps in a row were skipped."""
    advice = [f"lower OPTIM.LR_INITIAL (it is {settings.OPTIM.LR_INITIAL:g})"]
    if not settings.OPTIM.GRAD_CLIP:
        advice.append("set OPTIM.GRAD_CLIP 1")
    if settings.TRAINING.PRECISION != "fp32":
        advice.append("train with TRAINING.PRECISION fp32")
    if epochs_done:
        advice.append("start another run from an earlier model_epoch_N.pth (TRAINING.INIT_WEIGHTS)")
    return ", or ".join(advice)


def describe_memory(settings: CfgNode, device: torch.device) -> str:
    """Return a sentence for a step that does not fit in memory: what to set, what costs least first."""
    training, optim = settings.TRAINING, settings.OPTIM
    advice = []
    if training.PRECISION == "fp32":
        advice.append("TRAINING.PRECISION bf16")
    if not training.CHECKPOINTING:
        advice.append("TRAINING.CHECKPOINTING True")
    advice.append(f"OPTIM.ACCUMULATE {2 * optim.ACCUMULATE}")
    advice.append(f"a smaller OPTIM.BATCH_SIZE or TRAINING.TRAIN_PS (they are {optim.BATCH_SIZE}, {training.TRAIN_PS})")
    peak = peak_memory(device)
    note = "" if peak is None else f" (the peak was {peak / 2**30:.1f} GiB)"
    return f"a training step needs more memory than {device} has{note}: set {', then '.join(advice)}."
