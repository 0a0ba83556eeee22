"""Gradual warm-up of the learning rate (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2)."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class GradualWarmupScheduler(LRScheduler):
    """Raises the learning rate linearly over the first epochs, then leaves it to another scheduler.

    With ``base`` the optimizer's learning rate, in epoch e (``last_epoch``; 0 right after construction):

    - e <= total_epoch: ``base * e / total_epoch`` if ``multiplier`` is 1, else from ``base`` in a straight line to
      ``base * multiplier``;
    - e > total_epoch: what ``after_scheduler`` gives in its own epoch ``e - total_epoch - 1``, from
      ``base * multiplier`` on; ``base * multiplier`` itself if there is none.

    The rate of epoch 0 is 0 for ``multiplier`` 1: call ``step()`` once before the first epoch and once after every
    epoch. The other scheduler is only ever stepped, never asked for a rate out of turn (``get_lr()`` of PyTorch's
    chainable schedulers is right within their own ``step()`` alone).

    Args:
        optimizer: whose ``param_groups`` get the rates; several groups keep their own base.
        multiplier: at least 1.
        total_epoch: length of the warm-up, in calls of ``step()``; at least 1.
        after_scheduler: made on the same optimizer, and from then on stepped by this one alone. With
            ReduceLROnPlateau, give ``step`` the metric: ``step(metrics=loss)``.

    Raises:
        ValueError: an argument is out of its range, or the two schedulers' optimizers differ.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: float,
        total_epoch: int,
        after_scheduler: LRScheduler | None = None,
    ) -> None:
        # PyTorch's own constructor is not called: it would count calls of optimizer.step() and warn of the step
        # before the first epoch, which is right here.
        if not 1 <= multiplier < float("inf"):
            raise ValueError(f"multiplier must be at least 1, not {multiplier}.")
        if total_epoch < 1 or total_epoch != int(total_epoch):
            raise ValueError(f"total_epoch must be a whole number of at least 1, not {total_epoch}.")
        if after_scheduler is not None and after_scheduler.optimizer is not optimizer:
            raise ValueError("after_scheduler works on another optimizer than the warm-up.")
        self.optimizer = optimizer
        self.multiplier = multiplier
        self.total_epoch = total_epoch
        self.after_scheduler = after_scheduler
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", _number(group["lr"]))
        self.base_lrs = [_number(group["initial_lr"]) for group in optimizer.param_groups]
        self.finished = False
        self.last_epoch = 0
        self._set([self._warmup(base) for base in self.base_lrs])

    def step(self, epoch: int | None = None, metrics: float | Tensor | None = None) -> None:
        """Go on to the next epoch, or as far as ``epoch``.

        Args:
            epoch: if given, steps are made until ``last_epoch`` is ``epoch``.
            metrics: for ReduceLROnPlateau, what the epoch just ended was worth; ignored during the warm-up.

        Raises:
            ValueError: ``epoch`` lies in the past, or ReduceLROnPlateau gets no ``metrics``.
        """
        target = self.last_epoch + 1 if epoch is None else epoch
        if target < self.last_epoch:
            raise ValueError(
                f"the schedule is in epoch {self.last_epoch} and cannot go back to {target}; load a state_dict."
            )
        while self.last_epoch < target:
            self._advance(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, the other scheduler's state included, in plain types."""
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
        """Go on where ``state_dict`` was taken; the optimizer's learning rates are set too.

        Raises:
            ValueError: one of the two has a scheduler after the warm-up and the other has none.
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
        self._set(state_dict["last_lr"])

    def get_lr(self) -> list[float | Tensor]:
        """The current learning rates, one per parameter group."""
        return self.get_last_lr()

    def _advance(self, metrics: float | Tensor | None) -> None:
        inner = self.after_scheduler
        if isinstance(inner, ReduceLROnPlateau) and metrics is None and self.last_epoch >= self.total_epoch:
            raise ValueError("ReduceLROnPlateau follows the warm-up: call step(metrics=...).")
        self.last_epoch += 1
        if self.last_epoch <= self.total_epoch:
            self._set([self._warmup(base) for base in self.base_lrs])
            return
        if not self.finished:
            self.finished = True
            self._hand_over()
            if not isinstance(inner, ReduceLROnPlateau):
                return
        if isinstance(inner, ReduceLROnPlateau):
            assert metrics is not None
            inner.step(metrics)
        elif inner is not None:
            with warnings.catch_warnings():
                # Whether the optimizer was stepped first is asked once, of a scheduler that starts in mid-training.
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                inner.step()
        self._last_lr = [_number(group["lr"]) for group in self.optimizer.param_groups]

    def _warmup(self, initial: float | Tensor) -> float:
        base = _number(initial)
        share = self.last_epoch / self.total_epoch
        return base * share if self.multiplier == 1 else base * ((self.multiplier - 1) * share + 1)

    def _hand_over(self) -> None:
        inner = self.after_scheduler
        start = [_number(base) for base in self.base_lrs]
        if inner is not None and not isinstance(inner, ReduceLROnPlateau):
            # What the other scheduler set when it was made is its epoch 0, for the rate before multiplication.
            start = [_number(rate) for rate in inner.get_last_lr()]
            for scheduler in _parts(inner):
                scheduler.base_lrs = [_number(base) * self.multiplier for base in scheduler.base_lrs]
        self._set([rate * self.multiplier for rate in start])

    def _set(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = list(rates)


def _parts(scheduler: LRScheduler) -> Iterator[LRScheduler]:
    """The scheduler itself, or those that a SequentialLR or ChainedScheduler is made of."""
    if hasattr(scheduler, "base_lrs"):
        yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from _parts(part)


def _number(rate: float | Tensor) -> float:
    return rate.item() if isinstance(rate, Tensor) else rate
