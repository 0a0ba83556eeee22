"""Gradual warm-up of the learning rate (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2)."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class GradualWarmupScheduler(LRScheduler):
    """Raises the learning rate linearly over the first epochs. Then another scheduler sets it.

    Let ``base`` be the optimizer's learning rate. The rate in epoch e (``last_epoch``; 0 after construction) is:

    - e <= total_epoch: ``base * e / total_epoch`` if ``multiplier`` is 1, else a straight line from ``base`` to
      ``base * multiplier``;
    - e > total_epoch: the rate of ``after_scheduler`` in its own epoch ``e - total_epoch - 1``, if it starts with
      ``base * multiplier``. Without an ``after_scheduler``: ``base * multiplier``.

    With ``multiplier`` 1, the rate of epoch 0 is 0. So call ``step()`` once before the first epoch and once after every
    epoch. This class calls only ``step()`` of the other scheduler, because ``get_lr()`` of PyTorch's chainable
    schedulers is right only within their own ``step()``.

    Args:
        optimizer: the rates of its ``param_groups`` are set. Each group has its own base.
        multiplier: at least 1.
        total_epoch: length of the warm-up in calls of ``step()``; at least 1.
        after_scheduler: the other scheduler, with the same optimizer. Do not call its ``step()`` yourself. With
            ReduceLROnPlateau, pass the metric: ``step(metrics=loss)``.

    Raises:
        ValueError: an argument is out of range, or the other scheduler has another optimizer.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: float,
        total_epoch: int,
        after_scheduler: LRScheduler | None = None,
    ) -> None:
        # PyTorch's constructor is not called: it would count calls of optimizer.step(), and warn of the step before the
        # first epoch. Here this step is right.
        if not 1 <= multiplier < float("inf"):
            raise ValueError(f"multiplier must be at least 1, not {multiplier}.")
        if total_epoch < 1 or total_epoch != int(total_epoch):
            raise ValueError(f"total_epoch must be a whole number of at least 1, not {total_epoch}.")
        if after_scheduler is not None and after_scheduler.optimizer is not optimizer:
            raise ValueError("after_scheduler has another optimizer than the warm-up.")
        self.optimizer = optimizer
        self.multiplier = multiplier
        self.total_epoch = total_epoch
        self.after_scheduler = after_scheduler
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", _to_float(group["lr"]))
        self.base_lrs = [_to_float(group["initial_lr"]) for group in optimizer.param_groups]
        self.finished = False
        self.last_epoch = 0
        self._set_rates([self._warmup_rate(base) for base in self.base_lrs])

    def step(self, epoch: int | None = None, metrics: float | Tensor | None = None) -> None:
        """Set the rate of the next epoch, or of ``epoch``.

        Args:
            epoch: if given, steps are made until ``last_epoch`` is ``epoch``.
            metrics: for ReduceLROnPlateau, the metric of the last epoch. It is ignored during the warm-up.

        Raises:
            ValueError: ``epoch`` is in the past, or ``metrics`` is missing for ReduceLROnPlateau.
        """
        target = self.last_epoch + 1 if epoch is None else epoch
        if target < self.last_epoch:
            raise ValueError(
                f"the schedule is in epoch {self.last_epoch} and cannot go back to {target}; load a state_dict."
            )
        while self.last_epoch < target:
            self._advance(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, including the other scheduler's, without the optimizer, in plain types."""
        inner = self.after_scheduler
        return {
            "multiplier": self.multiplier,
            "total_epoch": self.total_epoch,
            "base_lrs": list(self.base_lrs),
            "finished": self.finished,
            "last_epoch": self.last_epoch,
            "last_lr": list(self.get_last_lr()),
            "after_scheduler": None if inner is None else inner.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, and set the optimizer's learning rates.

        Raises:
            ValueError: only one of the state and this schedule has an ``after_scheduler``.
        """
        inner = state_dict["after_scheduler"]
        if (inner is None) != (self.after_scheduler is None):
            raise ValueError("the state and this schedule differ in whether a scheduler follows the warm-up.")
        if self.after_scheduler is not None:
            self.after_scheduler.load_state_dict(inner)
        self.multiplier = state_dict["multiplier"]
        self.total_epoch = state_dict["total_epoch"]
        self.base_lrs = list(state_dict["base_lrs"])
        self.finished = state_dict["finished"]
        self.last_epoch = state_dict["last_epoch"]
        self._set_rates(state_dict["last_lr"])

    def get_lr(self) -> list[float | Tensor]:
        """Return the current learning rates, one per parameter group."""
        return self.get_last_lr()

    def _advance(self, metrics: float | Tensor | None) -> None:
        inner = self.after_scheduler
        if isinstance(inner, ReduceLROnPlateau) and metrics is None and self.last_epoch >= self.total_epoch:
            raise ValueError("ReduceLROnPlateau follows the warm-up: call step(metrics=...).")
        self.last_epoch += 1
        if self.last_epoch <= self.total_epoch:
            self._set_rates([self._warmup_rate(base) for base in self.base_lrs])
            return
        if not self.finished:
            self.finished = True
            self._start_after_scheduler()
            if not isinstance(inner, ReduceLROnPlateau):
                return
        if isinstance(inner, ReduceLROnPlateau):
            assert metrics is not None
            inner.step(metrics)
        elif inner is not None:
            with warnings.catch_warnings():
                # PyTorch warns once if optimizer.step() was not called before. This scheduler starts in mid-training.
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                inner.step()
        self._last_lr = [_to_float(group["lr"]) for group in self.optimizer.param_groups]

    def _warmup_rate(self, initial: float | Tensor) -> float:
        base = _to_float(initial)
        progress = self.last_epoch / self.total_epoch
        return base * progress if self.multiplier == 1 else base * ((self.multiplier - 1) * progress + 1)

    def _start_after_scheduler(self) -> None:
        inner = self.after_scheduler
        start = [_to_float(base) for base in self.base_lrs]
        if inner is not None and not isinstance(inner, ReduceLROnPlateau):
            # The other scheduler has set the rate of its epoch 0 at its construction, without the multiplier.
            start = [_to_float(rate) for rate in inner.get_last_lr()]
            for scheduler in _parts(inner):
                scheduler.base_lrs = [_to_float(base) * self.multiplier for base in scheduler.base_lrs]
        self._set_rates([rate * self.multiplier for rate in start])

    def _set_rates(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = list(rates)


def _parts(scheduler: LRScheduler) -> Iterator[LRScheduler]:
    """Yield the scheduler itself, or the schedulers in a SequentialLR or ChainedScheduler."""
    if hasattr(scheduler, "base_lrs"):
        yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from _parts(part)


def _to_float(rate: float | Tensor) -> float:
    return rate.item() if isinstance(rate, Tensor) else rate
