"""What becomes of the pictures of a folder: counted, printed, and when to stop."""

import re
import sys
import traceback
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from mprnet.data.photo_writing import describe_left_out
from mprnet.errors import UserError, escape_controls, one_line
from mprnet.inference.jobs import Job

# What a RuntimeError says if a GPU or one of its libraries fails.
_DEVICE = re.compile(r"CUDA error|cuDNN|CUDNN|CUBLAS|\bHIP\b|\bMPS\b")
_MOST_DEVICE_ERRORS = 3  # that are equal, in a row


@dataclass
class Report:
    """The results of ``restore_all``.

    Attributes:
        failures: an error for each picture that could not be restored.
        done: how many pictures are restored and written.
        stopped: why the other pictures were not tried; empty if all were.
        seconds: how long it took.
        restoring: how many of these seconds the network ran.
    """

    failures: list[UserError] = field(default_factory=list)
    done: int = 0
    stopped: str = ""
    seconds: float = 0.0
    restoring: float = 0.0


class Outcomes:
    """Counts and prints what has become of the pictures."""

    def __init__(self, bar: "tqdm[NoReturn]", verbose: bool) -> None:
        self.bar = bar
        self.report = Report()
        self._verbose = verbose
        self._device_error, self._times = "", 0  # the last picture's, and how many times in a row

    def finish(self, job: Job, writing: "Future[list[str]]") -> None:
        """Wait until a picture is written, count it, and print what of the file is not in the result."""
        if (error := writing.exception()) is not None:
            self.fail(job, error)
        else:
            self.report.done += 1
            self.bar.update()
            if left_out := writing.result():
                note = f"note: {job.source}: {describe_left_out(left_out)}"
                tqdm.write(escape_controls(note), file=sys.stderr)

    def fail(self, job: Job, error: BaseException) -> None:
        """Print and count a picture's error. What is no Exception, such as KeyboardInterrupt, is raised."""
        if not isinstance(error, Exception):
            raise error
        known = isinstance(error, UserError)
        # Without its traceback, which keeps the picture in memory.
        failure = UserError(str(error) if known else f"{job.source}: cannot be restored ({_describe(error)}).")
        self.report.failures.append(failure)
        self.bar.update()
        tqdm.write(f"error: {failure}", file=sys.stderr)
        if self._verbose and not known:
            tqdm.write("".join(traceback.format_exception(error)), file=sys.stderr)

    def note_device(self, result: Tensor | Exception) -> None:
        """Stop the run after several equal errors of the device in a row: it will not recover in this process."""
        text = _describe(result) if isinstance(result, Exception) and _is_device_error(result) else ""
        self._times = self._times + 1 if text == self._device_error else 1
        self._device_error = text
        if text and self._times == _MOST_DEVICE_ERRORS:
            self.report.stopped = (
                f"the device has failed {self._times} times in a row with the same error ({text}), so the run stops: "
                "start it again with --skip_existing, or with --device cpu."
            )


def _describe(error: Exception) -> str:
    """Return the type and the message of an error that the program does not know, in one line."""
    return f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")


def _is_device_error(error: Exception) -> bool:
    """True if a GPU or its libraries have failed. A lack of memory is a UserError here."""
    if isinstance(error, UserError):
        return False
    accelerator: type | tuple[()] = getattr(torch, "AcceleratorError", ())  # from PyTorch 2.8 on
    is_named = isinstance(error, RuntimeError) and _DEVICE.search(str(error)) is not None
    return isinstance(error, accelerator) or is_named
