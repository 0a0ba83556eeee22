"""Unusual pictures: some are valid, some are not.

If there are two libraries for a format, they are written with the one that the project does not use for reading.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_rng = np.random.default_rng(7)
HEIGHT, WIDTH = 9, 13
# Smooth, so that lossy formats change it only a little.
_ramp = (
    np.linspace(30, 220, WIDTH)[None, :, None] * np.array([1.0, 0.8, 0.6]) + np.linspace(0, 30, HEIGHT)[:, None, None]
)
RGB = _ramp.astype(np.uint8)
RGB16 = _rng.integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
ALPHA = _rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
ALPHA16 = _rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)


@dataclass(frozen=True)
class Expected:
    """The expected result: channels last, grey as (H, W). ``tolerance`` is in grey levels."""

    array: np.ndarray
    tolerance: int = 0
    icc: bytes | None = None
    camera: str | None = None


def _saved(image: Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def _png(array: np.ndarray, **options: object) -> bytes:
    return _saved(Image.fromarray(array), "PNG", **options)


def _cv_png(array: np.ndarray) -> bytes:
    order = {2: lambda a: a, 3: lambda a: a[:, :, ::-1], 4: lambda a: a[:, :, [2, 1, 0, 3]]}
    shape = array.ndim if array.ndim == 2 else array.shape[2]
    return cv2.imencode(".png", np.ascontiguousarray(order[shape](array)))[1].tobytes()


def _tiff(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _insert(png: bytes, *chunks: bytes) -> bytes:
    """Return the PNG with more chunks after IHDR."""
    return png[:33] + b"".join(chunks) + png[33:]


def _grey_alpha_16() -> bytes:
    rows = np.dstack([RGB16[:, :, 0], ALPHA16]).astype(">u2").reshape(HEIGHT, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 4, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw)) + _chunk(b"IEND", b"")


def _huge() -> bytes:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"\0") + _chunk(b"IEND", b"")


def _exif(orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    exif[271] = "Camera"
    exif.get_ifd(0x8769)[36867] = "2020:02:02 02:02:02"
    if orientation:
        exif[274] = orientation
    return exif.tobytes()


def _two_bit_grey(transparent: int) -> bytes:
    """Return a PNG with the greys 0 to 3 in turn. One of them is transparent."""
    values = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4).astype(np.uint8)
    padded = np.pad(values, ((0, 0), (0, -WIDTH % 4)))
    packed = padded[:, 0::4] << 6 | padded[:, 1::4] << 4 | padded[:, 2::4] << 2 | padded[:, 3::4]
    raw = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 2, 0, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", transparent)),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _exif_with_an_unwritable_tag() -> bytes:
    """Return EXIF data with orientation 3, after a tag Make whose type is wrong (signed fraction)."""
    entries = struct.pack("<HHII", 271, 10, 1, 50) + struct.pack("<HHIHH", 274, 3, 1, 3, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0) + b"\0" * 40


def _with_exif(jpeg: bytes, exif: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def _oriented(orientation: int) -> tuple[bytes, Expected]:
    """Return a JPEG whose pixels equal RGB after the rotation that EXIF states."""
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[274] = undo
    stored = Image.fromarray(RGB)
    stored.info["exif"] = exif.tobytes()
    stored = ImageOps.exif_transpose(Image.open(io.BytesIO(_saved(stored, "PNG", exif=exif.tobytes()))))
    data = _saved(stored, "JPEG", quality=100, subsampling=0, exif=_exif(orientation))
    return data, Expected(RGB, 3, camera="Camera")


def _palette(colours: np.ndarray, transparency: bytes | None = None) -> bytes:
    image = Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 4)
    image = image.convert("L")
    palette = Image.new("P", image.size)
    palette.putdata(list(image.tobytes()))
    palette.putpalette(colours.astype(np.uint8).tobytes())
    return _saved(palette, "PNG", **({"transparency": transparency} if transparency else {}))


def _cmyk() -> tuple[bytes, Expected]:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    return _saved(cmyk, "JPEG", quality=100, subsampling=0), Expected(np.asarray(cmyk.convert("RGB")), 3)


def _flip_a_bit(data: bytes) -> bytes:
    """Return the data with one bit changed in the middle, where the pixels are."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]


def right() -> dict[str, tuple[bytes, Expected]]:
    """Return the pictures that must be restored: names, bytes and expected results."""
    index = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4
    colours = np.array([[0, 0, 0], [255, 0, 0], [10, 200, 30], [7, 8, 9]])
    greys = np.array([[0, 0, 0], [99, 99, 99], [200, 200, 200], [255, 255, 255]])
    grey = RGB[:, :, 0]
    key = np.where(np.all(RGB[2, 3] == RGB, axis=2), 0, 255).astype(np.uint8)
    jpeg = _saved(Image.fromarray(RGB), "JPEG", quality=100, subsampling=0)
    turned = RGB16[::-1].transpose(1, 0, 2)  # orientation 6 rotates clockwise
    files = {
        "rgb8.png": (_png(RGB), Expected(RGB)),
        "rgb16.png": (_cv_png(RGB16), Expected(RGB16)),
        "grey8.png": (_png(grey), Expected(grey)),
        "grey16.png": (_cv_png(RGB16[:, :, 0]), Expected(RGB16[:, :, 0])),
        "grey_alpha8.png": (_png(np.dstack([grey, ALPHA])), Expected(np.dstack([grey, ALPHA]))),
        "grey_alpha16.png": (_grey_alpha_16(), Expected(np.dstack([RGB16[:, :, 0], ALPHA16]))),
        "rgba8.png": (_png(np.dstack([RGB, ALPHA])), Expected(np.dstack([RGB, ALPHA]))),
        "rgba16.png": (_cv_png(np.dstack([RGB16, ALPHA16])), Expected(np.dstack([RGB16, ALPHA16]))),
        "palette.png": (_palette(colours), Expected(colours[index].astype(np.uint8))),
        "palette_grey.png": (_palette(greys), Expected(greys[index][:, :, 0].astype(np.uint8))),
        "palette_clear.png": (
            _palette(colours, bytes([0, 128, 255, 255])),
            Expected(np.dstack([colours[index], np.array([0, 128, 255, 255])[index]]).astype(np.uint8)),
        ),
        "one_bit.png": (_png(grey > 128), Expected(np.where(grey > 128, 255, 0).astype(np.uint8))),
        "colour_key.png": (
            _png(RGB, transparency=tuple(int(v) for v in RGB[2, 3])),
            Expected(np.dstack([RGB, key])),
        ),
        "profile.png": (_png(RGB, icc_profile=SRGB), Expected(RGB, icc=SRGB)),
        "profile16.png": (
            _insert(_cv_png(RGB16), _chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB)), _chunk(b"eXIf", _exif()[6:])),
            Expected(RGB16, icc=SRGB, camera="Camera"),
        ),
        "turned16.png": (
            _insert(_cv_png(RGB16), _chunk(b"eXIf", _exif(6)[6:])),
            Expected(turned[:, ::1], camera="Camera"),
        ),
        "same.png": (_png(RGB), Expected(RGB)),
        "same.jpg": (jpeg, Expected(RGB, 3)),
        "same.jpeg": (jpeg, Expected(RGB, 3)),
        "UPPER.JPG": (jpeg, Expected(RGB, 3)),
        "grey.jpg": (_saved(Image.fromarray(grey), "JPEG", quality=100), Expected(grey, 2)),
        "profile.jpg": (
            _saved(Image.fromarray(RGB), "JPEG", quality=100, subsampling=0, icc_profile=SRGB, exif=_exif()),
            Expected(RGB, 3, icc=SRGB, camera="Camera"),
        ),
        "broken_exif.jpg": (
            _saved(Image.fromarray(RGB), "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
            Expected(RGB, 3),
        ),
        "cmyk.jpg": _cmyk(),
        "rgb8.tif": (_tiff(RGB, photometric="rgb"), Expected(RGB)),
        "rgb16.tif": (_tiff(RGB16, photometric="rgb", iccprofile=SRGB), Expected(RGB16, icc=SRGB)),
        "packed16.tiff": (_tiff(RGB16, photometric="rgb", compression="zlib", predictor=True), Expected(RGB16)),
        "turned8.tif": (
            _tiff(RGB, photometric="rgb", extratags=[(274, "H", 1, 6, True)]),
            Expected(RGB[::-1].transpose(1, 0, 2)),
        ),
        "turned16.tif": (_tiff(RGB16, photometric="rgb", extratags=[(274, "H", 1, 6, True)]), Expected(turned)),
        "planes16.tif": (
            _tiff(RGB16.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
            Expected(RGB16),
        ),
        "big_endian16.tif": (_tiff(RGB16[:, :, 0], byteorder=">"), Expected(RGB16[:, :, 0])),
        "clear_grey16.png": (
            _insert(_cv_png(RGB16[:, :, 0]), _chunk(b"tRNS", RGB16[:1, :1, 0].astype(">u2").tobytes())),
            Expected(
                np.dstack([RGB16[:, :, 0], np.where(RGB16[:, :, 0] == RGB16[0, 0, 0], 0, 65535)]).astype(np.uint16)
            ),
        ),
        "clear_grey2.png": (
            _two_bit_grey(transparent=1),
            Expected(np.dstack([85 * index, np.where(index == 1, 0, 255)]).astype(np.uint8)),
        ),
        "odd_exif.jpg": (_with_exif(jpeg, _exif_with_an_unwritable_tag()), Expected(RGB[::-1, ::-1], 3)),
        "lossless.webp": (_saved(Image.fromarray(RGB), "WEBP", lossless=True), Expected(RGB)),
        "alpha.webp": (
            _saved(Image.fromarray(np.dstack([RGB, ALPHA])), "WEBP", lossless=True, exact=True),
            Expected(np.dstack([RGB, ALPHA])),
        ),
        "windows.bmp": (_saved(Image.fromarray(RGB), "BMP"), Expected(RGB)),
        "still.gif": (_saved(Image.fromarray(grey), "GIF"), Expected(grey)),
        "one_pixel.png": (_png(RGB[:1, :1]), Expected(RGB[:1, :1])),
        "line.png": (_png(RGB[:1]), Expected(RGB[:1])),
        "Grün, 绿 and spaces.png": (_png(RGB), Expected(RGB)),
        "dots.in.the.name.png": (_png(RGB), Expected(RGB)),
        "actually_a_jpeg.png": (jpeg, Expected(RGB, 3)),
    }
    return files | {f"orientation_{n}.jpg": _oriented(n) for n in range(1, 9)}


def wrong() -> dict[str, tuple[bytes, str]]:
    """Return the files that must fail: names, bytes and a part of the error message."""
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (0, 99, 200)]
    cut: Callable[[bytes], bytes] = lambda data: data[: len(data) * 2 // 3]  # noqa: E731
    noise = _rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    return {
        "empty.png": (b"", "empty"),
        "text.jpg": (b"Dear diary,\n", "not a picture"),
        "cut.png": (cut(_png(noise)), "broken or cut short"),
        "cut.jpg": (cut(_saved(Image.fromarray(noise), "JPEG")), "broken or cut short"),
        "cut16.png": (cut(_cv_png(noise.astype(np.uint16) * 257)), "broken or cut short"),
        "cut16.tif": (cut(_tiff(noise.astype(np.uint16), photometric="rgb")), "broken or cut short"),
        "cut.webp": (cut(_saved(Image.fromarray(noise), "WEBP")), "broken or cut short"),
        "huge.png": (_huge(), "3600 million pixels"),
        "film.gif": (_saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "3 pages or frames"),
        "pages.tif": (_saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]), "3 pages or frames"),
        "float.tif": (_tiff(RGB.astype(np.float32), photometric="rgb"), "not unsigned integers"),
        "flipped_bit.png": (_flip_a_bit(_png(noise)), "broken or cut short"),
        "signed.tif": (_tiff(RGB.astype(np.int8), photometric="rgb"), "save it as RGB"),
        "lab.tif": (_saved(Image.fromarray(RGB).convert("LAB"), "TIFF"), "LAB"),
    }
