"""Pictures in memory, with everything that is needed to write them again."""

from dataclasses import dataclass, field, replace

import numpy as np

from mprnet.data.icc import is_linear
from mprnet.data.metadata import Metadata

# How many rows are converted at a time: with a large picture, memory is too small for several copies in floats.
_ROWS = 256
# The curve of sRGB (IEC 61966-2-1) between pixel values and light.
_LINEAR_UNTIL, _SLOPE, _OFFSET, _GAMMA = 0.0031308, 12.92, 0.055, 2.4


@dataclass(frozen=True)
class Photo:
    """A picture in memory, upright.

    Attributes:
        pixels: (H, W, 3) uint8 or uint16, RGB in the picture's own colour space. A grey picture has three equal
            channels.
        alpha: (H, W) of the same type, or None.
        grey: True if the file holds grey values.
        icc: the colour profile of ``pixels``, or None.
        metadata: EXIF, XMP, IPTC and resolution.
        notes: what of the file is not in the picture, for people.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    icc: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def peak(self) -> int:
        """The largest possible value: 255 or 65535."""
        return int(np.iinfo(self.pixels.dtype).max)

    @property
    def height(self) -> int:
        """In pixels."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.pixels.shape[1]

    @property
    def is_linear(self) -> bool:
        """True if the profile says that ``pixels`` are proportional to light."""
        return self.icc is not None and is_linear(self.icc)

    def as_float(self) -> np.ndarray:
        """Return the pixels as (H, W, 3) float32 in [0, 1].

        Pixels in linear light get the curve of sRGB: networks are trained with it.
        """
        image = np.divide(self.pixels, self.peak, dtype=np.float32)
        if self.is_linear:
            for rows in _parts(image):
                image[rows] = _encode_srgb(image[rows])
        return image

    def channels(self) -> np.ndarray:
        """Return the pixels as (H, W, 1 to 4): grey, grey and alpha, RGB, or RGBA."""
        colour = self.pixels[:, :, :1] if self.grey else self.pixels
        return colour if self.alpha is None else np.concatenate([colour, self.alpha[:, :, None]], axis=2)

    def with_image(self, image: np.ndarray) -> "Photo":
        """Return this picture with other pixels, in the same depth, and grey if this picture is grey.

        Args:
            image: (H, W, 3) float, as ``as_float`` returns it; values are clipped to [0, 1] and rounded.
        """
        pixels = np.empty(image.shape, self.pixels.dtype)
        linear = self.is_linear
        for rows in _parts(image):
            part = image[rows].mean(axis=2, keepdims=True) if self.grey else image[rows]
            part = np.clip(part, 0, 1)
            pixels[rows] = np.rint((_decode_srgb(part) if linear else part) * np.float32(self.peak))
        return replace(self, pixels=pixels)


def photo_from_channels(array: np.ndarray, icc: bytes | None = None) -> Photo:
    """Return the photo with these channels: grey (H, W) or (H, W, 1), grey and alpha, RGB, or RGBA."""
    channels = array[:, :, None] if array.ndim == 2 else array
    grey = channels.shape[2] <= 2
    pixels = np.repeat(channels[:, :, :1], 3, axis=2) if grey else np.ascontiguousarray(channels[:, :, :3])
    alpha = np.ascontiguousarray(channels[:, :, -1]) if channels.shape[2] in (2, 4) else None
    return Photo(pixels, alpha, grey, icc)


def _parts(image: np.ndarray) -> list[slice]:
    return [slice(top, top + _ROWS) for top in range(0, len(image), _ROWS)]


def _encode_srgb(light: np.ndarray) -> np.ndarray:
    """Return the values of sRGB pixels for light in [0, 1]."""
    curved = (1 + _OFFSET) * np.power(light, 1 / _GAMMA, dtype=np.float32) - _OFFSET
    return np.where(light <= _LINEAR_UNTIL, _SLOPE * light, curved)


def _decode_srgb(values: np.ndarray) -> np.ndarray:
    """Return the light of sRGB pixels with values in [0, 1]."""
    curved = np.power((values + _OFFSET) / (1 + _OFFSET), _GAMMA, dtype=np.float32)
    return np.where(values <= _SLOPE * _LINEAR_UNTIL, values / _SLOPE, curved)


def to_8_bit(pixels: np.ndarray) -> np.ndarray:
    """Round uint16 values, 0 to 65535, to uint8, 0 to 255."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
