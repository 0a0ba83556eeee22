"""A trained network as a function from images to images."""

import copy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor
from tqdm import tqdm

from mprnet.data.tensors import are_finite, as_float, to_bytes
from mprnet.errors import UserError
from mprnet.inference import tiling
from mprnet.inference.ensemble import mean_over_symmetries
from mprnet.inference.fitting import Fitting
from mprnet.inference.images import unpack
from mprnet.inference.precision import DTYPES, choose_device, choose_precision, prepare_network
from mprnet.inference.runner import Runner
from mprnet.inference.strength import blend, check_strength
from mprnet.inference.tile_size import TileSizeChooser, check_tile
from mprnet.inference.transfers import Transfers
from mprnet.model.bands import memory_format
from mprnet.model.local_pooling import choose_patch, largest_window, set_local_pooling
from mprnet.model.network import SIZE_MULTIPLE, MPRNet
from mprnet.model.padding import pad_to_multiple
from mprnet.model.patches import FULL_GRID, PatchGrid

Image = TypeVar("Image", np.ndarray, Tensor, PILImage.Image)


class Restorer:
    """Restores images of any size.

    A call checks the image, chooses the size of tiles, pads, runs the network, crops, and blends the tiles.

    Args:
        model: the network. It is not changed: a copy of it runs.
        device: ``auto`` (CUDA if it is there, else MPS, else the CPU), or a device as PyTorch names it.
        precision: ``fp32`` (without TF32), ``bf16``, ``fp16``, or ``auto``: bf16 where the machine is faster with it,
            else fp32. If a result in fp16 is not finite, this image and all later ones are restored in fp32.
        stage: which stage's image to return; later stages are not run. None: the last stage.
        tile: height and width of tiles in pixels, more if local pooling needs it; ``auto``: tiles if the image does not
            fit in memory, as large as fit; ``none``: never tiles.
        local_pooling: channel attention over windows as large as the network saw in training, not over the whole image
            (mprnet/model/local_pooling.py). True: for the training patch that the weights state. A number: for this
            training patch, in pixels.
        ensemble: self-ensemble: the mean over the image's eight symmetries. It takes eight times as long.
        compiled: use torch.compile. It takes minutes for each new size of images, and is faster afterwards.
        limit: how many bytes the process may use, for ``tile="auto"``. None: all memory that is free.
        strength: from 0 to 1. The result is ``image + strength * (restored - image)``, at every stage: less keeps more
            of the original. It can be changed later: ``restorer.strength = 0.5``.

    Attributes:
        transfers: copies images to the device and back.
        on_tile: None, or a function that is called with (tiles done, tiles in all) while an image is restored in tiles.
            On a GPU, a tile counts as done when its work is queued.

    A Restorer on a GPU must not be used by several threads at a time.

    Raises:
        UserError: a device that is not there, an unknown precision, stage, tile size or training patch, a strength
            outside [0, 1], or local pooling for weights that do not state their training patch.
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
        strength: float = 1.0,
    ) -> None:
        if stage is not None and stage not in range(1, model.num_stages + 1):
            raise UserError(f"these weights have the stages 1 to {model.num_stages}, but no stage {stage}.")
        if model.config["in_c"] != 3:
            raise UserError(f"these weights are for images of {model.config['in_c']} channels; Restorer takes RGB.")
        self.device = choose_device(device)
        self.transfers = Transfers(self.device)
        self.stage = stage
        self.num_stages = model.num_stages
        self.ensemble, self.strength = ensemble, strength
        self.on_tile: Callable[[int, int], None] | None = None
        self._tile, self._limit = check_tile(tile), limit
        self.patch = choose_patch(local_pooling, model)
        self._compiled = compiled
        chosen = choose_precision(precision, self.device, model.config["n_feat"])
        # Kept for fp32, if a result in fp16 is not finite.
        self._fp32_model = copy.deepcopy(model).cpu() if chosen == "fp16" else None
        self._prepare(model, chosen)

    def _prepare(self, model: MPRNet, precision: str) -> None:
        self.precision = precision
        model = prepare_network(model, self.device, DTYPES[precision], winograd=not self._compiled)
        set_local_pooling(model, self.patch)
        # A tile must hold a whole window in its middle.
        window = largest_window(model)
        least = tiling.valid_size(window + tiling.min_overlap(1024) + SIZE_MULTIPLE) if window else tiling.SMALLEST
        self._run = runner = Runner(model, self.device, self.stage, self._compiled)
        limits = (self._tile, least, self._limit)
        self._tile_sizes = TileSizeChooser(model, self.stage, self.device, *limits, make_room=runner.make_room)
        self._fitting = Fitting(self._tile_sizes, runner.make_room)

    def __call__(self, image: Image, clipped: bool = True) -> Image:
        """Restore one image or a batch.

        Args:
            image: RGB or grey, H and W at least 1, as one of

                - a float array in [0, 1], or a uint8 or uint16 array, (H, W, 3), (H, W, 1) or (H, W);
                - a PIL image;
                - a float tensor in [0, 1] or a uint8 tensor, (N, 3, H, W) or (3, H, W).

            clipped: False: floats may be outside [0, 1], as those of noise that was not clipped.

        Returns:
            The same kind, shape and dtype (floats as float32), clipped to the range of ``image``. A tensor is on the
            device of ``image``.

        Raises:
            ValueError: another kind, shape or dtype, or floats outside [0, 1] by more than 0.001.
            UserError: the device does not have enough memory.
            NotFiniteError: the result is not finite.
        """
        batch, pack = unpack(image, clipped)
        return pack(self._restore(batch)[0])

    def every_stage(self, image: Image, clipped: bool = True) -> list[Image]:
        """Restore as ``__call__`` does, and return the images of all stages that ran, the first stage first."""
        batch, pack = unpack(image, clipped)
        return [pack(restored) for restored in reversed(self._restore(batch, all_stages=True))]

    @property
    def strength(self) -> float:
        """How much of the network's change is in the result, from 0 to 1."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = check_strength(strength)

    @property
    def tile(self) -> int | str:
        """``auto``, ``none``, or the height and width of tiles."""
        return self._tile_sizes.tile

    def batch_size(self, height: int, width: int) -> int:
        """Return how many images of this size to restore at a time: a GPU is not busy with one small image."""
        return max(1, min(16, self._fitting.batch_pixels // (height * width))) if self.device.type == "cuda" else 1

    def start(self, images: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Start to restore images of one size and dtype; a GPU goes on with them after this method has returned.

        Args:
            images: each (3, H, W), uint8 or float32 in [0, 1]. A GPU copies them without a wait if they are those that
                ``transfers.pin`` returned.

        Returns:
            The function that waits for the restored images, each of the shape, dtype and device of ``images``. It, or
            this method, raises the errors of ``__call__``.
        """
        there = [self.transfers.upload(image) for image in images]
        wait = self._start(torch.stack(there) if len(there) > 1 else there[0][None], images[0].device)
        return lambda: list(wait()[0])

    def _restore(self, batch: Tensor, all_stages: bool = False) -> list[Tensor]:
        """Restore a batch, (N, 3, H, W) float32 or uint8: the last stage's images, or every stage's, the last first."""
        return self._start(batch, batch.device, all_stages)()

    def _start(self, batch: Tensor, device: torch.device, all_stages: bool = False) -> Callable[[], list[Tensor]]:
        """Start to restore a batch. Return the function that waits for the images, which are on ``device`` then."""
        precision = self.precision
        image = as_float(self.transfers.upload(batch))
        restore = partial(self._restore_in_memory, all_stages=all_stages)
        restored = mean_over_symmetries(restore, image) if self.ensemble else restore(image)
        results = [self._finish(image, each, batch.dtype) for each in restored]
        wait = self.transfers.download([*results, are_finite(restored)], device)

        def result() -> list[Tensor]:
            *images, finite = wait()
            if finite:
                return images
            self._leave_fp16(precision)
            return self._start(batch, device, all_stages)()

        return result

    def _finish(self, image: Tensor, restored: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the result in ``dtype``, blended with the image as ``strength`` says."""
        if dtype == torch.uint8 and self.strength == 1:
            return to_bytes(restored)
        result = blend(image, restored.clamp(0, 1), self.strength)
        return to_bytes(result) if dtype == torch.uint8 else result

    def _leave_fp16(self, precision: str) -> None:
        """Continue in fp32, after a result in ``precision`` that is not finite."""
        if precision != "fp16":
            raise NotFiniteError("the network's result is not finite: the weights are broken, or not for such images.")
        if self._fp32_model is not None:  # else an image that was started later has done it
            tqdm.write("a result in fp16 is not finite; continuing in fp32", file=sys.stderr)
            self._prepare(self._fp32_model, "fp32")
            self._fp32_model = None

    def _restore_in_memory(self, batch: Tensor, all_stages: bool) -> list[Tensor]:
        # Images beside the network: results, the next or the last picture, and the ensemble's turned image and mean.
        copies = (self.num_stages if all_stages else 1) + 1 + 2 * self.ensemble
        return self._fitting.restore(partial(self._restore_tiles, all_stages), batch, copies)

    def _restore_tiles(self, all_stages: bool, batch: Tensor, size: int) -> list[Tensor]:
        """Restore in tiles of ``size`` pixels, or as a whole if the image is not larger."""
        height, width = batch.shape[2:]
        if size >= max(height, width):
            return self._restore_padded(all_stages, batch)
        tiles = tiling.make_tiles(height, width, size, self._tile_sizes.least)
        restore = partial(self._restore_padded, all_stages)
        return tiling.restore_tiles(restore, batch, tiles, self.on_tile)

    def _restore_padded(self, all_stages: bool, batch: Tensor, grid: PatchGrid = FULL_GRID) -> list[Tensor]:
        """Pad to the network's sizes, run the network, and crop."""
        height, width = batch.shape[2:]
        padded = pad_to_multiple(batch.to(self.device), SIZE_MULTIPLE)
        images = self._run(padded.contiguous(memory_format=memory_format(self.device, DTYPES[self.precision])), grid)
        return [image[:, :, :height, :width] for image in (images if all_stages else images[:1])]


class NotFiniteError(UserError):
    """A result is not finite, in fp32 either."""
