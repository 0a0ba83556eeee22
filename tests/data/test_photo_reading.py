"""Which picture of a file is read, by which decoder."""

import io
import struct
import subprocess

import numpy as np
import pytest
import tifffile
from PIL import Image

from mprnet import UserError
from mprnet.data import camera_files, kinds
from mprnet.data.icc import is_grey_profile
from mprnet.data.photo_reading import decode_photo, read_photo, read_size
from mprnet.data.photo_writing import write_photo
from mprnet.data.photos import Photo

_rng = np.random.default_rng(5)
RGB = _rng.integers(0, 256, (24, 32, 3)).astype(np.uint8)
RGB16 = _rng.integers(0, 65536, (24, 32, 3)).astype(np.uint16)
ALPHA16 = _rng.integers(1, 65536, (24, 32, 1)).astype(np.uint16)
SENSOR = 32803


def tiff(*pages, bigtiff=False, **options):
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=bigtiff) as writer:
        for page in pages or [(RGB16, {})]:
            array, own = page
            writer.write(array, **({"photometric": "rgb"} | options | own))
    return file.getvalue()


def to_8_bit(array):
    return np.rint(array / 257).astype(np.uint8)


class TestTiff:
    def read(self, data, tmp_path):
        return decode_photo(data, tmp_path / "a.tif")

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd", "lzma"])
    @pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "big", "big-endian"])
    def test_layouts(self, tmp_path, dtype, compression, layout):
        array = RGB if dtype == np.uint8 else RGB16
        options = {
            "strips": {"rowsperstrip": 5},
            "tiles": {"tile": (16, 16)},
            "planes": {"planarconfig": "separate"},
            "big": {"rowsperstrip": 5},
            "big-endian": {},
        }[layout]
        stored = array.transpose(2, 0, 1).copy() if layout == "planes" else array
        file = io.BytesIO()
        with tifffile.TiffWriter(
            file, bigtiff=layout == "big", byteorder=">" if layout == "big-endian" else "<"
        ) as writer:
            writer.write(stored, photometric="rgb", compression=compression, **options)
        photo = self.read(file.getvalue(), tmp_path)
        assert photo.pixels.dtype == dtype
        np.testing.assert_array_equal(photo.pixels, array)

    @pytest.mark.parametrize("depth", [8, 16])
    @pytest.mark.parametrize("kind", ["unspecified", "unassalpha", "assocalpha"])
    def test_only_alpha_is_transparency(self, tmp_path, depth, kind):
        scale = (lambda a: to_8_bit(a)) if depth == 8 else (lambda a: a)
        colour, alpha = scale(RGB16), scale(ALPHA16)
        stored = np.rint(colour.astype(float) * alpha / np.iinfo(colour.dtype).max) if kind == "assocalpha" else colour
        data = tiff((np.concatenate([stored.astype(colour.dtype), alpha], 2), {"extrasamples": [kind]}))
        photo = self.read(data, tmp_path)
        if kind == "unspecified":
            assert photo.alpha is None
            np.testing.assert_array_equal(photo.pixels, colour)
        else:
            np.testing.assert_array_equal(photo.alpha, alpha[:, :, 0])
            clear = alpha[:, :, 0] > np.iinfo(alpha.dtype).max * 0.9
            difference = np.abs(photo.pixels.astype(int) - colour)[clear]
            assert difference.max() <= (1 if kind == "assocalpha" else 0)

    def test_alpha_behind_another_extra_sample(self, tmp_path):
        extra = np.concatenate([RGB16, 7 * np.ones_like(ALPHA16), ALPHA16], 2)
        photo = self.read(tiff((extra, {"extrasamples": ["unspecified", "unassalpha"]})), tmp_path)
        np.testing.assert_array_equal(photo.alpha, ALPHA16[:, :, 0])
        np.testing.assert_array_equal(photo.pixels, RGB16)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_white_is_zero(self, tmp_path, dtype):
        grey = (RGB16[:, :, 0] if dtype == np.uint16 else RGB[:, :, 0]).copy()
        photo = self.read(tiff((grey, {"photometric": "miniswhite"})), tmp_path)
        assert photo.grey
        np.testing.assert_array_equal(photo.pixels[:, :, 1], np.iinfo(dtype).max - grey)

    @pytest.mark.parametrize("bigtiff", [False, True])
    @pytest.mark.parametrize("array", [RGB, RGB16])
    def test_a_thumbnail_comes_first(self, tmp_path, array, bigtiff):
        data = tiff((array[::4, ::4], {"subfiletype": 1}), (array, {}), bigtiff=bigtiff)
        np.testing.assert_array_equal(self.read(data, tmp_path).pixels, array)

    def test_the_picture_is_in_a_directory_below_the_thumbnail(self, tmp_path):
        data = tiff((RGB[::4, ::4], {"subfiletype": 1, "subifds": 1}), (RGB, {"subfiletype": 0}))
        np.testing.assert_array_equal(self.read(data, tmp_path).pixels, RGB)

    @pytest.mark.parametrize("subfiletype", [0, 1])
    def test_a_pyramid(self, tmp_path, subfiletype):
        copies = [(RGB16[::step, ::step], {"subfiletype": subfiletype}) for step in (2, 4, 8)]
        np.testing.assert_array_equal(self.read(tiff((RGB16, {}), *copies), tmp_path).pixels, RGB16)

    @pytest.mark.parametrize("place", [0, 1])
    def test_a_mask_is_left_out_and_said(self, tmp_path, place):
        pages = [(RGB, {}), (RGB[:, :, 0] > 99, {"photometric": "mask", "subfiletype": 4})]
        photo = self.read(tiff(*(pages if place else pages[::-1])), tmp_path)
        np.testing.assert_array_equal(photo.pixels, RGB)
        assert photo.alpha is None
        assert photo.notes == ("a mask",)

    def test_several_pictures_are_refused(self, tmp_path):
        with pytest.raises(UserError, match="holds 2 pages or frames"):
            self.read(tiff((RGB, {}), (RGB[:20], {})), tmp_path)

    def test_a_picture_that_claims_to_be_huge_is_refused(self, tmp_path):
        data = bytearray(tiff((RGB16, {})))
        with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
            tags = file.pages[0].tags
            for code in (256, 257):
                data[tags[code].valueoffset : tags[code].valueoffset + 2] = b"\xff\xff"
        with pytest.raises(UserError, match="4294 million pixels"):
            self.read(bytes(data), tmp_path)

    def test_a_picture_without_pixels_is_refused(self, tmp_path):
        data = bytearray(tiff((RGB16, {})))
        with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
            place = file.pages[0].tags[257].valueoffset
        data[place : place + 4] = bytes(4)
        with pytest.raises(UserError, match="32x0 pixels"):
            self.read(bytes(data), tmp_path)

    @pytest.mark.parametrize("array", [RGB, RGB16])
    @pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
    def test_a_file_that_is_cut_short_is_refused(self, tmp_path, array, compression):
        data = tiff((array, {"compression": compression, "rowsperstrip": 4}))
        with pytest.raises(UserError, match="broken or cut short"):
            self.read(data[: len(data) * 9 // 10], tmp_path)

    def test_exif_data_are_kept(self, tmp_path):
        exif = Image.Exif()
        exif[271] = "Maker"
        exif.get_ifd(0x8769)[36867] = "2020:02:02 02:02:02"
        exif.get_ifd(0x8825)[1] = "N"
        exif[0x8769], exif[0x8825] = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        file = io.BytesIO()
        Image.fromarray(RGB).save(file, "PNG", exif=exif.tobytes())
        photo = decode_photo(file.getvalue(), tmp_path)
        for pixels in (RGB, RGB16):
            write_photo(tmp_path / "a.tif", Photo(pixels, metadata=photo.metadata))
            again = read_photo(tmp_path / "a.tif")
            np.testing.assert_array_equal(again.pixels, pixels)
            result = Image.Exif()
            result.load(again.metadata.exif)
            assert result[271] == "Maker"
            assert result.get_ifd(0x8769)[36867] == "2020:02:02 02:02:02"
            assert result.get_ifd(0x8825)[1] == "N"


def raw_file():
    """A camera's raw file: a small preview, and below it the values of the sensor."""
    dng = (50706, 1, 4, bytes([1, 4, 0, 0]), True)
    pattern = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes([0, 1, 1, 2]), True)]
    return tiff(
        (RGB[::4, ::4], {"subfiletype": 1, "subifds": 1, "extratags": [dng, (271, 2, 0, "Maker", True)]}),
        (RGB16[:, :, 1], {"photometric": SENSOR, "subfiletype": 0, "extratags": pattern}),
    )


def heif_file(depth, **options):
    import pillow_heif

    if depth == 8:
        image = pillow_heif.from_pillow(Image.fromarray(np.full((24, 32, 3), (200, 100, 50), np.uint8)))
    else:
        pixels = np.full((24, 32, 3), 65535 * 512 // 1023, np.uint16)
        pixels[:, :16] = 65535
        image = pillow_heif.from_bytes("RGB;16", (32, 24), pixels.tobytes())
    file = io.BytesIO()
    image.save(file, quality=-1, chroma=444, **options)
    return file.getvalue()


class TestCameraFiles:
    @pytest.mark.parametrize("name", ["a.dng", "a.tif", "a.NEF"])
    def test_raw_files_are_developed(self, tmp_path, name):
        photo = decode_photo(raw_file(), tmp_path / name)
        assert photo.pixels.shape == (24, 32, 3)
        assert photo.pixels.dtype == np.uint16
        assert photo.icc is not None
        assert b"Maker" in photo.metadata.exif

    def test_raw_files_of_sensors_without_colours_are_grey(self, tmp_path):
        data = raw_file().replace(struct.pack("<H", SENSOR), struct.pack("<H", 34892))
        photo = decode_photo(data, tmp_path / "a.dng")
        assert photo.grey
        assert photo.pixels.shape == (24, 32, 3)
        assert is_grey_profile(photo.icc)

    def test_heif_of_8_bits(self, tmp_path):
        exif = Image.Exif()
        exif[271], exif[274] = "Maker", 6
        photo = decode_photo(heif_file(8, exif=exif.tobytes()), tmp_path / "a.HEIC")
        assert photo.pixels.shape == (32, 24, 3)  # turned once
        assert np.abs(photo.pixels.astype(int) - (200, 100, 50)).max() <= 3
        assert b"Maker" in photo.metadata.exif

    def test_heif_of_10_bits(self, tmp_path):
        photo = decode_photo(heif_file(10), tmp_path / "a.heic")
        assert photo.pixels.dtype == np.uint16
        assert photo.pixels[0, 0, 1] == 65535
        assert abs(int(photo.pixels[0, -1, 1]) - 32800) < 400

    def test_heif_colours_become_a_profile(self, tmp_path):
        photo = decode_photo(heif_file(8, color_primaries=12, transfer_characteristics=13), tmp_path / "a.heic")
        assert photo.icc is not None
        assert decode_photo(heif_file(8), tmp_path / "a.heic").icc is None

    @pytest.mark.parametrize(
        ("data", "name", "extra"), [(raw_file, "a.dng", "raw"), (lambda: heif_file(8), "a.heic", "heif")]
    )
    def test_without_the_package_a_sentence_names_the_extra(self, tmp_path, monkeypatch, data, name, extra):
        monkeypatch.setattr(camera_files, "is_installed", lambda extra: False)
        with pytest.raises(UserError, match=rf"mprnet\[{extra}\]"):
            decode_photo(data(), tmp_path / name)

    def test_suffixes_follow_the_packages(self, tmp_path, monkeypatch):
        assert kinds.is_picture(tmp_path / "a.HEIC")
        assert kinds.missing_extra(tmp_path / "a.HEIC") is None
        monkeypatch.setattr(kinds, "is_installed", lambda extra: False)
        assert not kinds.is_picture(tmp_path / "a.HEIC")
        assert kinds.missing_extra(tmp_path / "a.HEIC") == "heif"
        assert kinds.missing_extra(tmp_path / "a.cr2") == "raw"
        assert kinds.missing_extra(tmp_path / "a.txt") is None

    def test_broken_ones_are_refused(self, tmp_path):
        for name, data in (("a.heic", heif_file(8)[:200]), ("a.cr2", b"II*\0" + bytes(99)), ("a.raf", b"FUJIFILM")):
            with pytest.raises(UserError, match=f"{name}: (broken or cut short|a raw file of a kind)"):
                decode_photo(data, tmp_path / name)


class TestDecoders:
    EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n" + b"%" * 99 + b"\nshowpage\n%%EOF\n"

    @pytest.mark.parametrize(
        "name", ["eps.png", "eps.jpg", "eps.tif", "eps.webp", "eps.gif", "eps.avif", "eps.heic", "eps.eps"]
    )
    def test_no_program_is_started(self, tmp_path, monkeypatch, name):
        """Pillow starts Ghostscript for an EPS file under any name."""
        (tmp_path / "plain.eps").write_bytes(self.EPS)
        with Image.open(tmp_path / "plain.eps") as image:
            assert image.format == "EPS"
        monkeypatch.setattr(subprocess, "Popen", None)
        with pytest.raises(UserError, match="not a picture, or of a kind that cannot be read"):
            decode_photo(self.EPS, tmp_path / name)

    @pytest.mark.parametrize("format_", ["PPM", "TGA", "PCX", "ICO", "PDF", "DDS", "SGI", "JPEG2000", "ICNS", "IM"])
    def test_other_formats_are_not_opened(self, tmp_path, format_):
        file = io.BytesIO()
        Image.fromarray(RGB).save(file, format_)
        with pytest.raises(UserError, match="not a picture, or of a kind that cannot be read"):
            decode_photo(file.getvalue(), tmp_path / "a.png")


class TestSize:
    @pytest.mark.parametrize(
        ("data", "name"),
        [
            (lambda: tiff((RGB[::4, ::4], {"subfiletype": 1}), (RGB, {})), "a.tif"),
            (raw_file, "a.dng"),
            (raw_file, "a.tif"),
            (lambda: heif_file(10), "a.heic"),
            (lambda: save("PNG"), "a.png"),
            (lambda: save("JPEG"), "a.jpg"),
            (lambda: save("AVIF"), "a.avif"),
        ],
    )
    def test_it_is_read_without_decoding(self, tmp_path, data, name):
        (tmp_path / name).write_bytes(data())
        assert read_size(tmp_path / name) == (32, 24)

    def test_what_cannot_be_read_has_none(self, tmp_path):
        (tmp_path / "a.png").write_bytes(TestDecoders.EPS)
        assert read_size(tmp_path / "a.png") is None
        assert read_size(tmp_path / "nowhere.png") is None


def save(format_):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, format_)
    return file.getvalue()
