"""Writes the checkpoints of a run in a thread, while training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mprnet.errors import UserError
from mprnet.training.state import save_epoch, save_latest


class CheckpointWriter:
    """Writes checkpoints to ``folder``, one at a time. ``close`` waits for the last one.

    Attributes:
        latest_is_damaged: the latest checkpoint in the folder is not to be kept as the fallback of the next one.
    """

    def __init__(self, folder: Path) -> None:
        self.latest_is_damaged = False
        self._folder = folder
        self._executor = ThreadPoolExecutor(1, "checkpoints")
        self._write: Callable[[], None] | None = None  # the one that is in progress
        self._future: Future[None] | None = None

    def write(
        self, content: dict[str, Any], is_best: bool = False, is_epoch_file: bool = False, keep_epochs: int = 0
    ) -> None:
        """Start to write the latest checkpoint. Its content may change as soon as this call returns.

        Args:
            is_best: it is the best one too.
            is_epoch_file: write its weights to model_epoch_N.pth too.
            keep_epochs: number of such files to keep; 0: all.

        Raises:
            UserError: the checkpoint before cannot be written, at the second attempt either.
        """
        self.wait()
        copy, is_damaged = _copy_to_cpu(content), self.latest_is_damaged
        self.latest_is_damaged = False
        self._write = partial(_write, self._folder, copy, is_damaged, is_best, is_epoch_file, keep_epochs)
        self._future = self._executor.submit(self._write)

    @property
    def has_failed(self) -> bool:
        """True if the last checkpoint could not be written. ``wait`` tries again."""
        return self._future is not None and self._future.done() and self._future.exception() is not None

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            UserError: it cannot be written, at the second attempt either.
        """
        future, write = self._future, self._write
        if future is None or write is None:
            return
        try:
            future.result()
        except UserError:
            write()  # a file server that did not answer, or a disk that was full, may be back
        finally:
            self._future = self._write = None

    def close(self) -> None:
        """Wait until the last checkpoint is written, and end the thread.

        Raises:
            UserError: it cannot be written.
        """
        try:
            self.wait()
        finally:
            self._executor.shutdown()


def _write(
    folder: Path, content: dict[str, Any], is_damaged: bool, is_best: bool, is_epoch_file: bool, keep_epochs: int
) -> None:
    # The latest checkpoint comes last: a run that is killed before it resumes earlier, and writes all files again.
    if is_epoch_file:
        save_epoch(folder, content, keep_epochs)
    save_latest(folder, content, is_damaged, is_best)


def _copy_to_cpu(value: Any) -> Any:
    """Return a copy of nested dicts, lists and tensors, with all tensors on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy_to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_copy_to_cpu, value))
    return value
