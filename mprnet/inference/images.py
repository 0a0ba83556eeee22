"""The kinds of images that people have, as batches for a network, and back."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mprnet.data.photos import Photo, photo_from_channels
from mprnet.data.pil_modes import to_plain_mode
from mprnet.data.tensors import to_array, to_tensor
from mprnet.errors import UserError

# From a restored batch, (N, 3, H, W) of the dtype of the one that came in, to an image of the kind that came in.
Pack = Callable[[Tensor], Any]


def unpack(image: Any, clipped: bool = True) -> tuple[Tensor, Pack]:
    """Return an image as a batch (N, 3, H, W), and the function that makes its kind of a result.

    The batch is float32 in [0, 1], or uint8 if ``image`` is a tensor of uint8.

    Args:
        image: one of

            - a float array in [0, 1], or a uint8 or uint16 array: (H, W, 3) RGB, (H, W) or (H, W, 1) grey;
            - a PIL image; its transparency is kept;
            - a float tensor in [0, 1], or a uint8 tensor: (N, 3, H, W) or (3, H, W).

            H and W are at least 1. Floats may be outside [0, 1] by 0.001.
        clipped: False: floats may have any finite value, and the batch, too.

    Returns:
        Results have the kind and shape of ``image``, and its dtype; floats become float32. Grey results are the mean
        of the network's three channels. Tensors are on the device of ``image``.

    Raises:
        ValueError: it is something else; one sentence.
    """
    if isinstance(image, Tensor):
        return _unpack_tensor(image, clipped)
    if isinstance(image, Image.Image):
        return _unpack_pil(image)
    if isinstance(image, np.ndarray):
        return _unpack_array(image, clipped)
    raise ValueError(f"an image is a NumPy array, a PIL image or a tensor, not a {type(image).__name__}.")


def _unpack_tensor(image: Tensor, clipped: bool) -> tuple[Tensor, Pack]:
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or batch.shape[1] != 3 or 0 in batch.shape:
        raise ValueError(f"a tensor of images has the shape (N, 3, H, W) or (3, H, W), not {tuple(image.shape)}.")

    def pack(restored: Tensor) -> Tensor:
        return restored.reshape(image.shape)

    return batch if image.dtype == torch.uint8 else _check_range(batch, clipped), pack


def _unpack_array(image: np.ndarray, clipped: bool) -> tuple[Tensor, Pack]:
    colour = image[:, :, None] if image.ndim == 2 else image
    if colour.ndim != 3 or colour.shape[2] not in (1, 3) or 0 in colour.shape:
        raise ValueError(f"an array of an image has the shape (H, W, 3), (H, W, 1) or (H, W), not {image.shape}.")
    grey = colour.shape[2] == 1
    if image.dtype in (np.uint8, np.uint16):
        photo = Photo(np.repeat(colour, 3, axis=2) if grey else colour, grey=grey)

        def pack(restored: Tensor) -> np.ndarray:
            pixels = photo.with_image(to_array(restored[0])).pixels
            return (pixels[:, :, :1] if grey else pixels).reshape(image.shape)

        return to_tensor(photo.as_float())[None], pack
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"an image holds floats in [0, 1], uint8 or uint16, not {image.dtype}.")

    def pack_floats(restored: Tensor) -> np.ndarray:
        result = to_array(restored[0])
        return (result.mean(axis=2) if grey else result).reshape(image.shape)

    colour = np.ascontiguousarray(colour, dtype=np.float32)
    batch = torch.from_numpy(colour if colour.flags.writeable else colour.copy()).permute(2, 0, 1)[None]
    return _check_range(batch, clipped).expand(1, 3, -1, -1), pack_floats


def _unpack_pil(image: Image.Image) -> tuple[Tensor, Pack]:
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        channels = np.asarray(image).astype(np.uint16)
    else:
        try:
            image, icc = to_plain_mode(image, icc, "the image")
        except UserError as error:
            raise ValueError(str(error)) from error
        channels = np.asarray(image)
    photo = photo_from_channels(channels, icc=icc)

    def pack(restored: Tensor) -> Image.Image:
        channels = photo.with_image(to_array(restored[0])).channels()
        result = Image.fromarray(channels[:, :, 0] if channels.shape[2] == 1 else channels)
        result.info = {**image.info, "icc_profile": icc} if icc else dict(image.info)
        return result

    return to_tensor(photo.as_float())[None], pack


def _check_range(batch: Tensor, clipped: bool) -> Tensor:
    """Return float images as float32.

    Raises:
        ValueError: they are not finite; or, if ``clipped``, outside [0, 1] by more than 0.001.
    """
    if not batch.is_floating_point():
        raise ValueError(f"images hold floats in [0, 1] or uint8, not {batch.dtype}: divide by their largest value.")
    low, high = batch.aminmax()
    margin = 1e-3 if clipped else torch.finfo(torch.float32).max / 2
    if not (low >= -margin and high <= 1 + margin):  # also if there is a NaN
        expected = "values in [0, 1]" if clipped else "finite values"
        raise ValueError(f"images hold {expected}, not from {float(low):g} to {float(high):g}.")
    return batch.float()


def photo_to_tensor(photo: Photo) -> Tensor:
    """Return the pixels for the network, (3, H, W): uint8 as they are stored, others as float32 in [0, 1]."""
    pixels = photo.pixels if _is_plain(photo) else photo.as_float()
    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)


def replace_pixels(photo: Photo, restored: Tensor) -> Photo:
    """Return the photo with other pixels, (3, H, W), in the dtype in which ``photo_to_tensor`` returns its own."""
    image = to_array(restored)
    return replace(photo, pixels=image) if _is_plain(photo) else photo.with_image(image)


def _is_plain(photo: Photo) -> bool:
    """True if rounding is all that is between a result and the pixels. Grey is the mean of three channels."""
    return photo.pixels.dtype == np.uint8 and not photo.grey and not photo.is_linear
