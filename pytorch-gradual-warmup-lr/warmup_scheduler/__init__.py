"""Gradual warm-up of the learning rate, followed by any other scheduler."""

from warmup_scheduler.scheduler import GradualWarmupScheduler

__all__ = ["GradualWarmupScheduler"]
