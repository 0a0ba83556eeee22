"""A trained network as a function from images to images."""

import sys
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mprnet.data.tensors import to_array
from mprnet.errors import UserError
from mprnet.inference import memory, tiling
from mprnet.inference.precision import TYPES, choose_precision, prepared
from mprnet.inference.running import Runner
from mprnet.model.local_pooling import largest_window, set_local_pooling, training_patch
from mprnet.model.network import SIZE_MULTIPLE, MPRNet

Image = TypeVar("Image", np.ndarray, Tensor)
_DEVICES = ("cpu", "cuda", "mps", "xpu")
# Of what is free, a pass is given so much: other programs live too.
_SHARE = 0.85
# The eight symmetries of the square: a flip or none, and quarter turns.
_SYMMETRIES = [(flip, turns) for flip in (False, True) for turns in range(4)]


class Restorer:
    """Restores images of any size.

    Args:
        model: the network, which stays as it is: what runs is a copy.
        device: ``auto`` takes CUDA, else MPS, else the CPU; or a device as PyTorch names it.
        precision: ``fp32`` (without TF32), ``bf16``, ``fp16``, or ``auto``: bf16 where the machine is faster with it,
            else fp32. Images whose result in fp16 is not finite are restored again in fp32.
        stage: whose image to return; the stages after it are not run. None: the last.
        tile: height and width of tiles; ``auto``: tiles where the image does not fit into the memory, as large as do;
            ``none``: never.
        local_pooling: pool over windows around each pixel as the network did in training, not over the whole image
            (mprnet/model/local_pooling.py). True takes the training patch that the weights name; a number is the patch.
        ensemble: the mean over the image's eight symmetries, for eight times the time.
        compiled: by torch.compile, which takes minutes for every size of images, and then is faster.
        limit: bytes that the process may take in all, for ``tile`` ``auto``. None: what is free.

    Raises:
        UserError: a device that is not there, an unknown precision, stage or size of tiles.
    """

    def __init__(
        self,
        model: MPRNet,
        device: str = "auto",
        precision: str = "fp32",
        stage: int | None = None,
        tile: int | str = "auto",
        local_pooling: bool | int = False,
        ensemble: bool = False,
        compiled: bool = False,
        limit: int | None = None,
    ) -> None:
        last = len(model.subnetworks)
        if stage is not None and stage not in range(1, last + 1):
            raise UserError(f"these weights have the stages 1 to {last}, but no stage {stage}.")
        if model.config["in_c"] != 3:
            raise UserError(f"these weights are for images of {model.config['in_c']} channels; Restorer takes RGB.")
        if tile not in ("auto", "none") and (isinstance(tile, str) or tile < tiling.SMALLEST):
            raise UserError(f"a tile is auto, none or at least {tiling.SMALLEST} pixels, not {tile}.")
        self.device = choose_device(device)
        self.stage = stage
        self.stages = last
        self.ensemble = ensemble
        self.limit = limit
        self.on_tile: Callable[[int, int], None] | None = None  # called with how many tiles of how many are done
        self._tile = tile
        self._source = model
        self.patch = (
            None if local_pooling is False else training_patch(model) if local_pooling is True else local_pooling
        )
        self._compiled = compiled
        self._prepare(choose_precision(precision, self.device, model.config["n_feat"]))

    def _prepare(self, precision: str) -> None:
        self.precision = precision
        model = prepared(self._source, self.device, TYPES[precision], winograd=not self._compiled)
        set_local_pooling(model, self.patch)
        self._smallest = tiling.SMALLEST
        if self.patch is not None:
            # A tile narrower than a window would pool over less than the whole image does.
            self._smallest = tiling.allowed(largest_window(model) + tiling.overlap(1024) + SIZE_MULTIPLE)
        self._need = memory.Need(model, self.stage)
        self._run = Runner(model, self.device, self.stage, self._compiled)

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
        return to_array(self._restore(_checked(_to_batch(image)))[0][0])

    def every_stage(self, image: np.ndarray) -> list[np.ndarray]:
        """The images of all computed stages, the first stage first, in one pass; else as ``__call__`` of an array."""
        return [to_array(restored[0]) for restored in reversed(self._restore(_checked(_to_batch(image)), every=True))]

    def batch_size(self, height: int, width: int) -> int:
        """How many images of this size are best restored at a time: small ones leave a GPU idle."""
        return max(1, min(16, 2**20 // (height * width))) if self.device.type == "cuda" else 1

    def _restore(self, batch: Tensor, every: bool = False) -> list[Tensor]:
        """The last stage's image, or every stage's, the last one first."""
        batch = batch.float()
        if not self.ensemble:
            images = self._fit(batch, every)
        else:
            images = []
            for flip, turns in _SYMMETRIES:
                seen = torch.rot90(batch.flip(3) if flip else batch, turns, (2, 3))
                for number, restored in enumerate(self._fit(seen, every)):
                    restored = torch.rot90(restored, -turns, (2, 3))
                    restored = (restored.flip(3) if flip else restored) / len(_SYMMETRIES)
                    if number == len(images):
                        images.append(restored)
                    else:
                        images[number] = images[number] + restored
        return [restored.clamp_(0, 1) for restored in images]

    def _fit(self, batch: Tensor, every: bool) -> list[Tensor]:
        """Restore in tiles that fit, the whole image being the largest; in half of them where they turn out not to."""
        height, width = batch.shape[2:]
        size = self._tile_size(len(batch), height, width)
        while True:
            whole = size is None or size >= max(height, width)
            try:
                return self._pass(batch, every) if whole else self._in_tiles(batch, size or 0, every)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, as the exception holds the tensors of the pass that failed.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            smaller = tiling.allowed((max(height, width) if whole else size or 0) // 2)
            if self._tile == "none" or smaller < self._smallest or smaller == size:
                raise UserError(
                    f"there is not enough memory on {self.device} for {width}x{height} pixels"
                    + (" without tiles." if self._tile == "none" else f" in tiles of {size}.")
                )
            size = self._tile = smaller
            tqdm.write(f"out of memory; going on in tiles of {size} pixels", file=sys.stderr)

    def _tile_size(self, count: int, height: int, width: int) -> int | None:
        """The side of tiles, None for no tiles."""
        if self._tile == "none":
            return None
        if isinstance(self._tile, int):
            return max(self._smallest, tiling.allowed(self._tile))
        free = memory.available(self.device, self.limit)
        if free is None:
            return None
        usable = int(_SHARE * free)
        if self._need.bytes(count, height, width) <= usable:
            return None
        if self.device.type == "cpu":
            usable -= batch_bytes(count, height, width)  # the result's; tiles are made out of the image as it is
        side = int((max(0, usable) / self._need.bytes(count, 1000, 1000)) ** 0.5 * 1000)
        if side < self._smallest:
            images = batch_bytes(count, height, width) if self.device.type == "cpu" else 0
            need = (self._need.bytes(count, self._smallest, self._smallest) + images) / _SHARE
            raise UserError(
                f"{width}x{height} pixels need at least {need / 2**30:.1f} GiB, in tiles of {self._smallest}, and "
                f"{free / 2**30:.1f} GiB are free on {self.device}."
            )
        return tiling.allowed(side)

    def _in_tiles(self, batch: Tensor, size: int, every: bool) -> list[Tensor]:
        height, width = batch.shape[2:]
        results: list[Tensor] = []
        total = tiling.count(height, width, size, self._smallest)
        for number, tile in enumerate(tiling.tiles(height, width, size, self._smallest), start=1):
            images = self._pass(tile.of(batch), every, (tile.rows.cut, tile.columns.cut))
            if not results:
                results = [torch.zeros_like(batch, memory_format=torch.channels_last) for _ in images]
            for restored, result in zip(images, results, strict=True):
                tile.add(restored, result)
            if self.on_tile is not None:
                self.on_tile(number, total)
        return results

    def _pass(self, batch: Tensor, every: bool, cuts: tuple[bool, bool] = (True, True)) -> list[Tensor]:
        """The network once over the whole batch, padded as it needs."""
        height, width = batch.shape[2:]
        padded = pad_to_multiple(batch.to(self.device), SIZE_MULTIPLE).contiguous(memory_format=torch.channels_last)
        images = self._run(padded, cuts)
        images = images if every else images[:1]
        if not all(torch.isfinite(image).all() for image in images):
            if self.precision == "fp16":
                tqdm.write("the numbers outgrow fp16; going on in fp32", file=sys.stderr)
                self._prepare("fp32")
                return self._pass(batch, every, cuts)
            raise UserError("the network's result is not finite: these weights are broken or not meant for it.")
        return [image[:, :, :height, :width] for image in images]


def batch_bytes(count: int, height: int, width: int) -> int:
    """Of images in fp32."""
    return count * 3 * 4 * height * width


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's or the system's memory is what ``error`` is about."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(error) for words in ("not enough memory", "out of memory", "can't allocate memory")
    )


def _to_batch(image: np.ndarray) -> Tensor:
    array = np.ascontiguousarray(image, dtype=np.float32)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).permute(2, 0, 1)[None]


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
