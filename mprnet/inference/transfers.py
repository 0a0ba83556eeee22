"""Copies of images to a device and back. On CUDA they run while the device computes."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from mprnet.data.tensors import to_device
from mprnet.inference.out_of_memory import is_out_of_memory


class Transfers:
    """Copies images to ``device`` and back.

    On CUDA, copies in each direction have a stream of their own, and nothing waits for them but the work that needs
    them. Copies from and to pinned memory do not make this thread wait.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.overlaps = device.type == "cuda"
        if self.overlaps:
            self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def pin(self, images: Tensor) -> Tensor:
        """Return images from which ``upload`` copies without a wait, if there is memory for them.

        To be called in the thread that reads them.
        """
        return _unless_memory_is_short(images.pin_memory, lambda: images) if self.overlaps else images

    def upload(self, images: Tensor) -> Tensor:
        """Return images on the device."""
        if not self.overlaps or images.device.type != "cpu":
            return images.to(self.device)
        with torch.cuda.stream(self._up):
            copy = to_device(images, self.device)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._up)
        copy.record_stream(current)
        return copy

    def download(self, tensors: Sequence[Tensor], device: torch.device) -> Callable[[], list[Tensor]]:
        """Start to copy tensors to another device, and return the function that waits for the copies."""
        if not self.overlaps or device.type != "cpu":
            return lambda: [tensor.to(device) for tensor in tensors]
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        copies = []
        with torch.cuda.stream(self._down):
            for tensor in tensors:
                copies.append(_empty_pinned(tensor).copy_(tensor, non_blocking=True))
                tensor.record_stream(self._down)
            done = self._down.record_event()

        def wait() -> list[Tensor]:
            done.synchronize()
            return copies

        return wait


def _empty_pinned(tensor: Tensor) -> Tensor:
    """Return memory for a copy of a tensor: pinned, if there is enough of it."""
    make = partial(torch.empty_like, tensor, device="cpu")
    return _unless_memory_is_short(partial(make, pin_memory=True), make)


def _unless_memory_is_short(pin: Callable[[], Tensor], instead: Callable[[], Tensor]) -> Tensor:
    try:
        return pin()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return instead()
