"""Scores of restored images by the measures of the benchmarks, on several cores."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from types import TracebackType

import cv2
import numpy as np

from mprnet import metrics
from mprnet.metrics.fidelity import WINDOW_SIZE
from mprnet.processors import available_processors

# PSNR in decibels, and SSIM. None: the image is smaller than the window of this SSIM.
Scores = tuple[float, float | None]
# What is said of images without SSIM.
NO_SSIM = f"smaller than {WINDOW_SIZE}x{WINDOW_SIZE} pixels, so there is no SSIM"


def _rgb(image: np.ndarray, target: np.ndarray) -> Scores:
    return metrics.psnr(image, target), metrics.ssim_volume(image, target)


def _luma(image: np.ndarray, target: np.ndarray) -> Scores:
    image, target = metrics.luma(image), metrics.luma(target)
    return metrics.psnr(image, target), metrics.ssim_wang2003(image, target) if _fits_window(image) else None


def _aligned(image: np.ndarray, target: np.ndarray) -> Scores:
    aligned = metrics.align(image, target)
    return metrics.masked_psnr(aligned), metrics.masked_ssim(aligned) if _fits_window(image) else None


def _fits_window(image: np.ndarray) -> bool:
    return min(image.shape[:2]) >= WINDOW_SIZE


# The values of a benchmark's ``measure``, and their descriptions in reports.
MEASURES: dict[str, tuple[Callable[[np.ndarray, np.ndarray], Scores], str]] = {
    "rgb": (_rgb, "RGB PSNR, SSIM of the RGB volume"),
    "luma": (_luma, "PSNR and SSIM of Y"),
    "aligned": (_aligned, "RGB PSNR and SSIM after alignment"),
}


def score(measure: str, image: np.ndarray, target: np.ndarray) -> Scores:
    """Return PSNR in dB and SSIM of an image.

    Args:
        measure: a name of ``MEASURES``.
        image, target: (H, W, 3), both uint8 or both float32 in [0, 1].

    Raises:
        ValueError: the images cannot be compared; the message is one sentence.
    """
    return MEASURES[measure][0](image, target)


class Scorers:
    """Processes that score images while this process restores the next one. It is a context manager.

    Args:
        workers: number of processes. 0: score in this process. -1: one process for each core.
    """

    def __init__(self, workers: int) -> None:
        # On Windows, a pool can have at most 61 processes.
        self.workers = min(61, available_processors() if workers < 0 else workers)
        # Processes are not forked: PyTorch's threads in this process do not exist after a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.workers, context, _use_one_thread) if self.workers else None

    def __enter__(self) -> "Scorers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._pool is None:
            return
        if kind is not None:
            # Kill them: a process that is still starting would fail when this one has ended, and print a traceback.
            for process in multiprocessing.active_children():
                process.kill()
        self._pool.shutdown(cancel_futures=kind is not None)

    def submit(self, measure: str, image: np.ndarray, target: np.ndarray) -> "Future[Scores]":
        """Start to score an image; arguments, result and errors as for ``score``."""
        if self._pool is not None:
            with _block_interrupts():  # submitting can start a process
                return self._pool.submit(score, measure, image, target)
        future: Future[Scores] = Future()
        try:
            future.set_result(score(measure, image, target))
        except ValueError as error:
            future.set_exception(error)
        return future


@contextmanager
def _block_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which a terminal sends to all processes. This process gets it at the end."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _use_one_thread() -> None:
    cv2.setNumThreads(1)
