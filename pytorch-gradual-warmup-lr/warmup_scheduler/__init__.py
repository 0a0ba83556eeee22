"""Warm up a learning rate, then hand over to another scheduler."""

from warmup_scheduler.scheduler import GradualWarmupScheduler

__all__ = ["GradualWarmupScheduler"]
