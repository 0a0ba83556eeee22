"""How the learning rate goes over the epochs."""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from warmup_scheduler import GradualWarmupScheduler
from yacs.config import CfgNode

Schedule = GradualWarmupScheduler | CosineAnnealingLR


def make_schedule(optimizer: torch.optim.Optimizer, optim: CfgNode, epochs: int) -> Schedule:
    """Linear warm-up, then cosine to OPTIM.LR_MIN over the other epochs; already in epoch 1. Step it after each."""
    length = epochs - optim.WARMUP_EPOCHS + optim.COSINE_EXTRA_EPOCHS
    cosine = CosineAnnealingLR(optimizer, max(1, length), eta_min=optim.LR_MIN)
    if not optim.WARMUP_EPOCHS:
        return cosine
    warmup = GradualWarmupScheduler(optimizer, multiplier=1, total_epoch=optim.WARMUP_EPOCHS, after_scheduler=cosine)
    warmup.step()
    return warmup
