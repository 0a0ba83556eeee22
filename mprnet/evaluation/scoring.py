"""Scores of restored images, by the measures that the benchmarks name, on several cores."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from types import TracebackType

import cv2
import numpy as np

from mprnet import metrics

Scores = tuple[float, float]  # PSNR in decibels, and SSIM


def _rgb(image: np.ndarray, target: np.ndarray) -> Scores:
    return metrics.psnr(image, target), metrics.ssim_volume(image, target)


def _luma(image: np.ndarray, target: np.ndarray) -> Scores:
    image, target = metrics.luma(image), metrics.luma(target)
    return metrics.psnr(image, target), metrics.ssim_wang2003(image, target)


def _aligned(image: np.ndarray, target: np.ndarray) -> Scores:
    aligned = metrics.align(image, target)
    return metrics.masked_psnr(aligned), metrics.masked_ssim(aligned)


# What a benchmark's ``measure`` may be, with how it is called in reports.
MEASURES: dict[str, tuple[Callable[[np.ndarray, np.ndarray], Scores], str]] = {
    "rgb": (_rgb, "RGB PSNR, SSIM of the RGB volume"),
    "luma": (_luma, "PSNR and SSIM of Y"),
    "aligned": (_aligned, "RGB PSNR and SSIM after alignment"),
}


def score(measure: str, image: np.ndarray, target: np.ndarray) -> Scores:
    """PSNR and SSIM of (H, W, 3) images, both uint8 or both float32 in [0, 1].

    Raises:
        ValueError: they cannot be compared; one sentence.
    """
    return MEASURES[measure][0](image, target)


class Scorers:
    """Processes that score while the next image is restored; a context manager.

    Args:
        workers: how many; 0 scores in this process. -1: one per core.
    """

    def __init__(self, workers: int) -> None:
        # Windows waits for 61 processes at most.
        self.workers = min(61, (os.cpu_count() or 1) if workers < 0 else workers)
        # Not forked: this process may have threads of PyTorch's, which a fork does not survive.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.workers, context, _one_thread) if self.workers else None

    def __enter__(self) -> "Scorers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._pool is None:
            return
        if kind is not None:
            # Not left to themselves: one that is still starting would not find this process any more, and say so.
            for process in multiprocessing.active_children():
                process.kill()
        self._pool.shutdown(cancel_futures=kind is not None)

    def submit(self, measure: str, image: np.ndarray, target: np.ndarray) -> "Future[Scores]":
        """``score``, soon."""
        if self._pool is not None:
            with _interrupts_blocked():  # what starts a process
                return self._pool.submit(score, measure, image, target)
        future: Future[Scores] = Future()
        try:
            future.set_result(score(measure, image, target))
        except ValueError as error:
            future.set_exception(error)
        return future


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started here never meet Ctrl-C, which a terminal sends to all; this one meets it at the end."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _one_thread() -> None:
    cv2.setNumThreads(1)
