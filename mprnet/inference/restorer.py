"""A trained network as a function from images to images."""

import copy
import operator
import sys
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mprnet.data.tensors import to_array
from mprnet.errors import UserError
from mprnet.inference import tiling
from mprnet.inference.budget import Budget, checked_tile, is_out_of_memory
from mprnet.inference.images import checked, pad_to_multiple, to_batch
from mprnet.inference.precision import TYPES, choose_device, choose_precision, prepared
from mprnet.inference.runner import Runner
from mprnet.model.bands import layout
from mprnet.model.local_pooling import PATCHES, largest_window, set_local_pooling, training_patch
from mprnet.model.network import SIZE_MULTIPLE, MPRNet

Image = TypeVar("Image", np.ndarray, Tensor)
# The eight symmetries of the square: a flip or none, and quarter turns.
_SYMMETRIES = [(flip, turns) for flip in (False, True) for turns in range(4)]


class Restorer:
    """Restores images of any size.

    Args:
        model: the network, which stays as it is: what runs is a copy.
        device: ``auto`` takes CUDA, else MPS, else the CPU; or a device as PyTorch names it.
        precision: ``fp32`` (without TF32), ``bf16``, ``fp16``, or ``auto``: bf16 where the machine is faster with it,
            else fp32. From the first image on whose result in fp16 is not finite, in fp32.
        stage: whose image to return; the stages after it are not run. None: the last.
        tile: height and width of tiles, more where local pooling needs it; ``auto``: tiles where the image does not fit
            into the memory, as large as do; ``none``: never.
        local_pooling: pool over windows around each pixel as the network did in training, not over the whole image
            (mprnet/model/local_pooling.py). True takes the training patch that the weights name; a number is the patch.
        ensemble: the mean over the image's eight symmetries, for eight times the time.
        compiled: by torch.compile, which takes minutes for every size of images, and then is faster.
        limit: bytes that the process may take in all, for ``tile`` ``auto``. None: what is free.

    One at a time: on a GPU, several threads must not share a Restorer.

    Raises:
        UserError: a device that is not there, an unknown precision, stage, size of tiles or training patch.
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
        self.device = choose_device(device)
        self.stage = stage
        self.stages = last
        self.ensemble = ensemble
        self.on_tile: Callable[[int, int], None] | None = None  # called with how many tiles of how many are done
        self._tile = checked_tile(tile)
        self._limit = limit
        self.patch = _checked_patch(local_pooling, model)
        self._compiled = compiled
        chosen = choose_precision(precision, self.device, model.config["n_feat"])
        # To go on with when the numbers outgrow fp16.
        self._unrounded = copy.deepcopy(model).cpu() if chosen == "fp16" else None
        self._prepare(model, chosen)

    def _prepare(self, model: MPRNet, precision: str) -> None:
        self.precision = precision
        model = prepared(model, self.device, TYPES[precision], winograd=not self._compiled)
        set_local_pooling(model, self.patch)
        # In the middle of a tile, at least, a whole window is there to pool over.
        window = largest_window(model)
        smallest = tiling.allowed(window + tiling.overlap(1024) + SIZE_MULTIPLE) if window else tiling.SMALLEST
        self._budget = Budget(model, self.stage, self.device, self._tile, smallest, self._limit)
        self._run = Runner(model, self.device, self.stage, self._compiled)

    def __call__(self, image: Image) -> Image:
        """Restore one image or a batch.

        Args:
            image: (H, W, 3) float array or (N, 3, H, W) float tensor, RGB in [0, 1], H and W at least 1.

        Returns:
            Of the same kind and shape, float32 (a tensor on the device of ``image``), clipped to [0, 1].

        Raises:
            ValueError: another shape or type, or values outside [0, 1] by more than 0.001.
            UserError: the device has not the memory for it.
            NotFiniteError: the result is not finite.
        """
        if isinstance(image, Tensor):
            return self._restore(checked(image))[0].to(image.device)
        return to_array(self._restore(to_batch(image))[0][0])

    def every_stage(self, image: np.ndarray) -> list[np.ndarray]:
        """The images of all computed stages, the first stage first, in one pass; else as ``__call__`` of an array."""
        return [to_array(restored[0]) for restored in reversed(self._restore(to_batch(image), every=True))]

    @property
    def tile(self) -> int | str:
        """``auto``, ``none``, or the side of tiles as they are."""
        return self._budget.tile

    def batch_size(self, height: int, width: int) -> int:
        """How many images of this size are best restored at a time: small ones leave a GPU idle."""
        return max(1, min(16, 2**20 // (height * width))) if self.device.type == "cuda" else 1

    def _restore(self, batch: Tensor, every: bool = False) -> list[Tensor]:
        """The last stage's image, or every stage's, the last one first."""
        try:
            images = self._symmetries(batch.float(), every)
        except _OverflowError:
            if self._unrounded is None:
                raise NotFiniteError(
                    "the network's result is not finite: these weights are broken or not meant for it."
                ) from None
            tqdm.write("the numbers outgrow fp16; going on in fp32", file=sys.stderr)
            self._prepare(self._unrounded, "fp32")
            self._unrounded = None
            return self._restore(batch, every)
        return [restored.clamp(0, 1) for restored in images]

    def _symmetries(self, batch: Tensor, every: bool) -> list[Tensor]:
        if not self.ensemble:
            return self._fit(batch, every)
        images: list[Tensor] = []
        for flip, turns in _SYMMETRIES:
            seen = torch.rot90(batch.flip(3) if flip else batch, turns, (2, 3))
            for number, restored in enumerate(self._fit(seen, every)):
                restored = torch.rot90(restored, -turns, (2, 3))
                restored = (restored.flip(3) if flip else restored) / len(_SYMMETRIES)
                if number == len(images):
                    images.append(restored)
                else:
                    images[number] += restored
        return images

    def _fit(self, batch: Tensor, every: bool) -> list[Tensor]:
        """Restore in tiles that fit, the whole image being the largest; in half of them where they turn out not to."""
        height, width = batch.shape[2:]
        # Results, the next picture or the last one, an ensemble's turned image and sum.
        copies = (self.stages if every else 1) + 1 + 2 * self.ensemble
        size = self._budget.side(len(batch), height, width, copies)
        while True:
            try:
                if size >= max(height, width):
                    return self._pass(batch, every)
                return self._in_tiles(batch, size, every)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, as the exception holds the tensors of the pass that failed.
            if self.device.type != "cpu":
                recorded = self._run.stop_recording()
                torch.get_device_module(self.device).empty_cache()
                if recorded:
                    continue
            size = self._budget.halve(size, height, width)
            tqdm.write(f"out of memory; going on in tiles of {size} pixels", file=sys.stderr)

    def _in_tiles(self, batch: Tensor, size: int, every: bool) -> list[Tensor]:
        results: list[Tensor] = []
        tiles = tiling.tiles(batch.shape[2], batch.shape[3], size, self._budget.smallest)
        self._note_tile(0, len(tiles))
        for number, tile in enumerate(tiles, start=1):
            images = self._pass(tile.of(batch), every, (tile.rows.cut, tile.columns.cut))
            if not results:
                results = [torch.zeros_like(batch, memory_format=layout(batch.device)) for _ in images]
            for restored, result in zip(images, results, strict=True):
                tile.add(restored, result)
            self._note_tile(number, len(tiles))
        return results

    def _note_tile(self, done: int, total: int) -> None:
        if self.on_tile is not None:
            self.on_tile(done, total)

    def _pass(self, batch: Tensor, every: bool, cuts: tuple[bool, bool] = (True, True)) -> list[Tensor]:
        """The network once over the whole batch, padded as it needs."""
        height, width = batch.shape[2:]
        padded = pad_to_multiple(batch.to(self.device), SIZE_MULTIPLE).contiguous(memory_format=layout(self.device))
        images = self._run(padded, cuts)
        images = images if every else images[:1]
        if not all(torch.isfinite(image).all() for image in images):
            raise _OverflowError
        return [image[:, :, :height, :width] for image in images]


class NotFiniteError(UserError):
    """A result is not finite in fp32 either."""


class _OverflowError(Exception):
    """A result is not finite."""


def _checked_patch(local_pooling: bool | int, model: MPRNet) -> int | None:
    if isinstance(local_pooling, bool):
        return training_patch(model) if local_pooling else None
    patch = operator.index(local_pooling) if hasattr(local_pooling, "__index__") else 0
    if patch not in PATCHES:
        raise UserError(
            f"local_pooling is True, False or a training patch of {PATCHES[0]} to {PATCHES[-1]} pixels, not "
            f"{local_pooling}."
        )
    return patch
