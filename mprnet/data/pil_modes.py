"""Conversion of Pillow's image modes to grey or RGB, with or without alpha."""

import io

import numpy as np
from PIL import Image, ImageCms

from mprnet.errors import UserError


def to_plain_mode(image: Image.Image, icc: bytes | None, path: object) -> tuple[Image.Image, bytes | None]:
    """Return the image in mode L, LA, RGB or RGBA, and its colour profile; None if the profile does not fit any more.

    Args:
        icc: the colour profile of ``image``.
        path: the name of the image, for the error message.

    Raises:
        UserError: an unknown mode.
    """
    format_ = image.format
    transparent = "transparency" in image.info or image.mode in ("PA", "RGBa", "La")
    if image.mode == "CMYK":
        converted, icc = _cmyk_to_srgb(image, icc), None
    elif image.mode in ("1", "L", "La", "LA"):
        converted = image.convert("LA" if transparent or image.mode == "LA" else "L")
    elif image.mode in ("P", "PA"):
        converted = image.convert("RGBA" if transparent else "RGB")
        colours = np.asarray(converted)[:, :, :3]
        if icc is None and np.all(colours == colours[:, :, :1]):
            converted = converted.convert("LA" if transparent else "L")
    elif image.mode in ("RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
        converted = image.convert("RGBA" if transparent or image.mode == "RGBA" else "RGB")
    else:
        raise UserError(f"{path}: its pixels are of the kind {image.mode}, which is not known here; save it as RGB.")
    converted.format = format_
    return converted, icc


def _cmyk_to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except ImageCms.PyCMSError:
            pass  # a broken profile is ignored
    return image.convert("RGB")
