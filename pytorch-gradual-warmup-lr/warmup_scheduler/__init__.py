"""A scheduler that warms up the learning rate and then lets another scheduler continue."""

from warmup_scheduler.scheduler import GradualWarmupScheduler

__all__ = ["GradualWarmupScheduler"]
