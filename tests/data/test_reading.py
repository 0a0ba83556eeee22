"""``read_picture``, for training, gives the same result as ``read_photo``, for demo.py."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from apps import odd_files
from PIL import Image, PngImagePlugin

from mprnet import UserError
from mprnet.data import reading
from mprnet.data.photo_reading import decode_photo, read_photo
from mprnet.data.reading import read_picture, read_rgb

_rng = np.random.default_rng(3)
HEIGHT, WIDTH = 37, 51
_smooth = np.linspace(20, 230, WIDTH)[None, :, None] * [1.0, 0.7, 0.4] + np.linspace(0, 25, HEIGHT)[:, None, None]
RGB = np.clip(_smooth + _rng.normal(0, 9, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
GREY = RGB[:, :, 1].copy()
ALPHA = _rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
RGB16 = _rng.integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
# What makes each EXIF orientation upright.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


def saved(array, format_, **options):
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, format_, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def insert(png, *chunks):
    """Insert chunks after the header."""
    return png[:33] + b"".join(chunks) + png[33:]


def png_of(raw, colour, interlaced=False):
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", raw) + chunk(b"IEND", b"")


def rows(array):
    return b"".join(b"\0" + row.tobytes() for row in array)


def interlaced(array, colour):
    passes = (array[top::down, left::right] for top, left, down, right in ADAM7)
    return png_of(zlib.compress(b"".join(map(rows, passes))), colour, True)


def exif(orientation):
    tags = Image.Exif()
    tags[271] = "Camera"
    if orientation:
        tags[274] = orientation
    return tags.tobytes()


def xmp(orientation):
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        f'tiff:Orientation="{orientation}"/></rdf:RDF></x:xmpmeta>'
    )


def raw_profile(orientation):
    """EXIF data in a PNG as older versions of ImageMagick write it: as text, in hexadecimal digits."""
    text = PngImagePlugin.PngInfo()
    data = exif(orientation)
    text.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n")
    return text


def xmp_text(orientation):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp(orientation))
    return text


def fast_files():
    """Common PNGs, each with its pixels (None: compared only with the reference)."""
    rgb = saved(RGB, "PNG")
    grey = np.repeat(GREY[:, :, None], 3, 2)
    plain = (
        chunk(b"gAMA", struct.pack(">I", 100000)),
        chunk(b"cHRM", struct.pack(">8I", *[1] * 8)),
        chunk(b"sRGB", b"\0"),
        chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
        chunk(b"tIME", b"\x07\xe0\1\1\1\1\1"),
        chunk(b"tEXt", b"Software\0GIMP"),
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(5_000_000))),
        chunk(b"iCCP", b"x\0\0no profile"),
        chunk(b"teST", b"anything"),
    )
    return {
        "rgb.png": (rgb, RGB),
        "grey.png": (saved(GREY, "PNG"), grey),
        "rgba.png": (saved(np.dstack([RGB, ALPHA]), "PNG"), RGB),
        "grey_alpha.png": (saved(np.dstack([GREY, ALPHA]), "PNG"), grey),
        "interlaced.png": (interlaced(RGB, 2), RGB),
        "interlaced_grey.png": (interlaced(GREY, 0), grey),
        "metadata.png": (insert(rgb, *plain), RGB),
        "something_behind.png": (rgb + b"something", RGB),
    }


def slow_files():
    """All other pictures, each with its pixels."""
    palette = Image.fromarray(RGB).quantize(16)
    rgb = saved(RGB, "PNG")
    key = tuple(int(v) for v in RGB[2, 3])
    jpeg = {"quality": 91}
    return {
        "444.jpg": (saved(RGB, "JPEG", subsampling=0, **jpeg), None),
        "422.jpg": (saved(RGB, "JPEG", subsampling=1, **jpeg), None),
        "420.jpg": (saved(RGB, "JPEG", subsampling=2, **jpeg), None),
        "progressive.jpg": (saved(RGB, "JPEG", progressive=True, **jpeg), None),
        "rgb.jpg": (saved(RGB, "JPEG", keep_rgb=True, **jpeg), None),
        "grey.jpg": (saved(GREY, "JPEG", **jpeg), None),
        "restarts.jpg": (saved(RGB, "JPEG", restart_marker_rows=1, **jpeg), None),
        "comment.jpg": (saved(RGB, "JPEG", comment=b"hello", dpi=(300, 300), **jpeg), None),
        "camera.jpg": (saved(RGB, "JPEG", exif=exif(None), **jpeg), None),
        "turned.jpg": (saved(RGB, "JPEG", exif=exif(6), **jpeg), None),
        "palette.png": (saved(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "clear_palette.png": (saved(palette, "PNG", transparency=3), np.asarray(palette.convert("RGB"))),
        "colour_key.png": (saved(RGB, "PNG", transparency=key), RGB),
        "suggested_palette.png": (insert(rgb, chunk(b"PLTE", bytes(range(30)))), RGB),
        "one_bit.png": (saved(GREY > 99, "PNG"), np.repeat((GREY > 99)[:, :, None] * np.uint8(255), 3, 2)),
        "16.png": (cv2.imencode(".png", RGB16[:, :, ::-1])[1].tobytes(), np.rint(RGB16 / 257).astype(np.uint8)),
        "16.tif": (tiff(RGB16, photometric="rgb"), np.rint(RGB16 / 257).astype(np.uint8)),
        "turned_behind.png": (rgb[:-12] + chunk(b"eXIf", exif(3)[6:]) + rgb[-12:], RGB[::-1, ::-1]),
        "cmyk.jpg": (saved(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=91), None),
        "phone.jpg": (
            saved(RGB, "MPO", save_all=True, append_images=[Image.fromarray(RGB[:9])], quality=91, exif=exif(8)),
            None,
        ),
        "something_behind.jpg": (saved(RGB, "JPEG", quality=91) + b"something", None),
        "lzw.tif": (saved(RGB, "TIFF", compression="tiff_lzw"), RGB),
        "windows.bmp": (saved(RGB, "BMP"), RGB),
        "lossless.webp": (saved(RGB, "WEBP", lossless=True), RGB),
        "still.gif": (saved(palette, "GIF"), np.asarray(palette.convert("RGB"))),
    }


def flip_bit(data, index):
    index = index % len(data)
    return data[:index] + bytes([data[index] ^ 16]) + data[index + 1 :]


def damaged_files():
    """Damaged files, and files that hold no or several pictures."""
    png, jpeg, lzw = saved(RGB, "PNG"), saved(RGB, "JPEG"), saved(RGB, "TIFF", compression="tiff_lzw")
    deflated = zlib.compress(rows(RGB))
    frames = {"save_all": True, "append_images": [Image.fromarray(RGB[::-1])]}
    return {
        "cut.png": png[: len(png) // 2],
        "no_end.png": png[:-12],
        "flipped.png": flip_bit(png, len(png) // 2),
        "flipped_checksum.png": flip_bit(png, -14),
        "flipped_text.png": flip_bit(insert(png, chunk(b"tEXt", b"Comment\0hello there")), 55),
        "cut_inside.png": png_of(deflated[: len(deflated) // 2], 2),
        "flipped_inside.png": png_of(flip_bit(deflated, len(deflated) // 2), 2),
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut_header.jpg": jpeg[:200] + b"\xff\xd9",
        "cut.tif": lzw[: len(lzw) // 2],
        "flipped.tif": lzw[:60] + bytes([lzw[60] ^ 255, lzw[61] ^ 255]) + lzw[62:],
        "film.png": saved(RGB, "PNG", **frames),
        "film.gif": saved(GREY, "GIF", **frames),
        "film.webp": saved(RGB, "WEBP", **frames),
        "pages.tif": saved(RGB, "TIFF", **frames),
        "text.png": b"no picture",
        "empty.png": b"",
    }


FAST, SLOW, DAMAGED = fast_files(), slow_files(), damaged_files()


def assert_same_as_read_photo(path):
    """Compare pixels, alpha and grey; also compare ``read_rgb``, in 8 bits."""
    result, expected = read_picture(path), read_photo(path)
    np.testing.assert_array_equal(result.pixels, expected.pixels)
    assert result.pixels.dtype == expected.pixels.dtype
    assert result.grey == expected.grey
    assert (result.alpha is None) == (expected.alpha is None)
    if expected.alpha is not None:
        np.testing.assert_array_equal(result.alpha, expected.alpha)
    image = read_rgb(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.rint(expected.pixels * (255 / expected.peak)))


def assert_same_error_as_read_photo(path):
    with pytest.raises(UserError) as expected:
        read_photo(path)
    with pytest.raises(UserError) as result:
        read_rgb(path)
    assert str(result.value) == str(expected.value)


@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_read_picture_returns_the_same_as_read_photo(tmp_path, capfd, name):
    data, pixels = (FAST | SLOW)[name]
    (tmp_path / name).write_bytes(data)
    assert_same_as_read_photo(tmp_path / name)
    if pixels is not None:
        np.testing.assert_array_equal(read_rgb(tmp_path / name), pixels)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", lambda n: {"exif": exif(n)}),
        ("JPEG", lambda n: {"xmp": xmp(n).encode()}),
        ("JPEG", lambda n: {"xmp": xmp(n).encode(), "exif": exif(None)}),
        ("PNG", lambda n: {"exif": exif(n)}),
        ("PNG", lambda n: {"pnginfo": xmp_text(n)}),
        ("PNG", lambda n: {"pnginfo": raw_profile(n)}),
        ("TIFF", lambda n: {"tiffinfo": {274: n}}),
        ("WEBP", lambda n: {"exif": exif(n), "lossless": True}),
    ],
)
def test_the_exif_orientation_is_applied(tmp_path, kind, options, orientation):
    stored = np.asarray(Image.open(io.BytesIO(saved(RGB, kind, **({"lossless": True} if kind == "WEBP" else {})))))
    (tmp_path / "a").write_bytes(saved(RGB, kind, **options(orientation)))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a"), UPRIGHT[orientation](stored))
    assert_same_as_read_photo(tmp_path / "a")


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_raise_the_same_error_as_read_photo(tmp_path, name):
    (tmp_path / name).write_bytes(DAMAGED[name])
    assert_same_error_as_read_photo(tmp_path / name)


@pytest.mark.parametrize("name", odd_files.right())
def test_pictures_that_demo_py_restores_are_read_the_same(tmp_path, name):
    (tmp_path / name).write_bytes(odd_files.right()[name][0])
    assert_same_as_read_photo(tmp_path / name)


@pytest.mark.parametrize("name", odd_files.wrong())
def test_pictures_that_demo_py_refuses_raise_the_same_error(tmp_path, name):
    (tmp_path / name).write_bytes(odd_files.wrong()[name][0])
    assert_same_error_as_read_photo(tmp_path / name)


def test_only_common_pictures_are_decoded_the_fast_way(tmp_path, monkeypatch):
    slow = []
    monkeypatch.setattr(reading, "decode_photo", lambda data, path: slow.append(path.name) or decode_photo(data, path))
    for name, (data, _) in (FAST | SLOW).items():
        (tmp_path / name).write_bytes(data)
        read_rgb(tmp_path / name)
    assert slow == list(SLOW)


def test_missing_files_and_folders_raise_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_rgb(tmp_path / "nowhere.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="not a file"):
        read_rgb(tmp_path / "folder.png")
