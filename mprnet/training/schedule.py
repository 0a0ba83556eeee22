"""The learning rate of each epoch."""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from warmup_scheduler import GradualWarmupScheduler
from yacs.config import CfgNode

Schedule = GradualWarmupScheduler | CosineAnnealingLR


def make_schedule(optimizer: torch.optim.Optimizer, optim: CfgNode, epochs: int) -> Schedule:
    """Return the learning rate's schedule: linear warm-up, then cosine down to OPTIM.LR_MIN.

    The optimizer gets the learning rate of epoch 1. Call ``step`` after each epoch.

    Args:
        optim: the settings' section OPTIM.
        epochs: of the whole training.
    """
    length = epochs - optim.WARMUP_EPOCHS + optim.COSINE_EXTRA_EPOCHS
    cosine = CosineAnnealingLR(optimizer, max(1, length), eta_min=optim.LR_MIN)
    if not optim.WARMUP_EPOCHS:
        return cosine
    warmup = GradualWarmupScheduler(optimizer, multiplier=1, total_epoch=optim.WARMUP_EPOCHS, after_scheduler=cosine)
    warmup.step()
    return warmup
