"""A trained network as a function from images to images."""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mprnet.errors import UserError
from mprnet.inference import memory
from mprnet.model.network import SIZE_MULTIPLE, MPRNet

Image = TypeVar("Image", np.ndarray, Tensor)
PRECISIONS = ("fp32",)
_DEVICES = ("cpu", "cuda", "mps", "xpu")


class Restorer:
    """Restores images of any size.

    Args:
        model: the network; it is moved to the device and put into evaluation mode.
        device: ``auto`` takes CUDA, else MPS, else the CPU; or a device as PyTorch names it.
        precision: ``fp32``, without TF32.
        stage: whose image to return; the stages after it are not run. None: the last.

    Raises:
        UserError: a device that is not there, an unknown precision or stage.
    """

    def __init__(self, model: MPRNet, device: str = "auto", precision: str = "fp32", stage: int | None = None) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"the precision {precision} is not known; choose one of {', '.join(PRECISIONS)}.")
        last = len(model.subnetworks)
        if stage is not None and stage not in range(1, last + 1):
            raise UserError(f"these weights have the stages 1 to {last}, but no stage {stage}.")
        self.device = choose_device(device)
        self.stage = stage
        if model.config["in_c"] != 3:
            raise UserError(f"these weights are for images of {model.config['in_c']} channels; Restorer takes RGB.")
        model = model.eval().float()
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, image: Image) -> Image:
        """Restore one image or a batch.

        Args:
            image: (H, W, 3) float array or (N, 3, H, W) float tensor, RGB in [0, 1], H and W at least 1.

        Returns:
            Of the same kind and shape, float32 (a tensor on the device of ``image``), clipped to [0, 1].

        Raises:
            ValueError: another shape or type, or values outside [0, 1].
            UserError: the device has not the memory for it, or the result is not finite.
        """
        if isinstance(image, Tensor):
            return self._restore(_checked(image))[0].to(image.device)
        if not isinstance(image, np.ndarray):
            raise ValueError(f"an image is a NumPy array or a batch a tensor, not a {type(image).__name__}.")
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image is an array of shape (H, W, 3), not {image.shape}.")
        if not np.issubdtype(image.dtype, np.floating):
            raise ValueError(f"an image holds floats in [0, 1], not {image.dtype}: divide by its peak, 255 for 8 bits.")
        return _to_array(self._restore(_checked(_to_batch(image)))[0])

    def every_stage(self, image: np.ndarray) -> list[np.ndarray]:
        """The images of all computed stages, the first stage first, in one pass; else as ``__call__`` of an array."""
        return [_to_array(restored) for restored in reversed(self._restore(_checked(_to_batch(image))))]

    def _restore(self, batch: Tensor) -> list[Tensor]:
        """The stages' images, the last one first."""
        height, width = batch.shape[-2:]
        memory.check(self.model, len(batch), height, width, self.device)
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            batch = batch.to(self.device, torch.float32)
            padded = pad_to_multiple(batch, SIZE_MULTIPLE).contiguous(memory_format=torch.channels_last)
            images = self.model(padded, stages=self.stage)
        # Outside of inference mode, so that what comes out is an ordinary tensor.
        images = [restored[:, :, :height, :width].clamp(0, 1) for restored in images]
        if not torch.isfinite(images[0]).all():
            raise UserError("the network's result is not finite: these weights are broken or not meant for it.")
        return images


def _to_batch(image: np.ndarray) -> Tensor:
    array = np.ascontiguousarray(image, dtype=np.float32)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).permute(2, 0, 1)[None]


def _to_array(restored: Tensor) -> np.ndarray:
    return restored[0].permute(1, 2, 0).cpu().contiguous().numpy()


def pad_to_multiple(batch: Tensor, multiple: int) -> Tensor:
    """Pad height and width at the bottom and right to multiples of ``multiple`` by reflection.

    (N, C, H, W), H and W at least 1. Where a side is too short for one reflection, it is reflected back and forth.
    """
    for dim in (2, 3):
        size = batch.shape[dim]
        target = -(-size // multiple) * multiple
        if target != size:
            period = max(1, 2 * (size - 1))
            position = torch.arange(target, device=batch.device) % period
            batch = batch.index_select(dim, torch.minimum(position, period - position).clamp(max=size - 1))
    return batch


def choose_device(name: str) -> torch.device:
    """``auto`` or a device as PyTorch names it.

    Raises:
        UserError: unknown, or not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in _DEVICES or (device.type == "cpu" and device.index):
            raise RuntimeError
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise UserError(f"there is no device {name} here; choose auto, cpu, cuda or mps.") from error
    return device


def _checked(batch: Tensor) -> Tensor:
    if batch.ndim != 4 or batch.shape[1] != 3 or 0 in batch.shape:
        raise ValueError(f"a batch of images has the shape (N, 3, H, W), none of them 0, not {tuple(batch.shape)}.")
    if not batch.is_floating_point():
        raise ValueError(f"images hold floats in [0, 1], not {batch.dtype}: divide by their peak, 255 for 8 bits.")
    low, high = batch.aminmax()
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also if there are NaN
        raise ValueError(f"images hold values in [0, 1], not from {float(low):g} to {float(high):g}.")
    return batch
