"""What a picture file holds beside its pixels is read, and written again in every format."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from mprnet import UserError
from mprnet.data import icc
from mprnet.data.cicp import cicp_profile
from mprnet.data.photo_reading import decode_photo, read_photo
from mprnet.data.photo_writing import FORMATS, check_format, write_photo
from mprnet.data.photos import Photo

RGB = (np.arange(12 * 16 * 3).reshape(12, 16, 3) % 251).astype(np.uint8)
GREY = RGB[:, :, 0].copy()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Label="Red"/></rdf:RDF></x:xmpmeta>'
)
IPTC = b"\x1c\x02\x78\x00\x0bA red house"
SUFFIXES = sorted(FORMATS.values())


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks, array=RGB, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    data = file.getvalue()
    return data[:33] + b"".join(chunk(*each) for each in chunks) + data[33:]


def jpeg(array=RGB, **options):
    file = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(file, "JPEG", **options)
    return file.getvalue()


def tiff(array=RGB, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **({"photometric": "rgb"} | options))
    return file.getvalue()


def write_and_read(tmp_path, photo, suffix):
    path = tmp_path / f"result{suffix}"
    left_out = write_photo(path, photo)
    return read_photo(path), left_out


def gamma_chunk(gamma):
    return b"gAMA", struct.pack(">I", gamma)


def chromaticities_chunk(values):
    return b"cHRM", struct.pack(">8I", *(round(value * 1e5) for value in values))


P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


def to_srgb(profile, value):
    """Return what LittleCMS shows for a colour in this profile."""
    image = Image.new("RGB", (1, 1), value)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB")).getpixel((0, 0))


class TestResolution:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize(
        "data",
        [
            png((b"pHYs", struct.pack(">IIB", 11811, 5906, 1))),
            jpeg(dpi=(300, 150)),
            tiff(resolution=(300, 150), resolutionunit="inch"),
            tiff(resolution=(300 / 2.54, 150 / 2.54), resolutionunit="centimeter"),
            tiff(RGB.astype(np.uint16) * 257, resolution=(300, 150), resolutionunit="inch"),
            tiff(resolution=(300, 150), resolutionunit="inch", bigtiff=True),
        ],
        ids=["png", "jpeg", "tiff", "centimetres", "16 bits", "big"],
    )
    def test_it_is_kept(self, tmp_path, data, suffix):
        result, _ = write_and_read(tmp_path, decode_photo(data, tmp_path), suffix)
        assert result.metadata.dpi == pytest.approx((300, 150), abs=0.02)

    def test_a_turned_picture_has_its_resolutions_turned(self, tmp_path):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        photo = decode_photo(jpeg(dpi=(300, 150), exif=exif.tobytes()), tmp_path)
        assert photo.metadata.dpi == (150, 300)

    @pytest.mark.parametrize("data", [png(), jpeg(), tiff(), png((b"pHYs", struct.pack(">IIB", 3, 4, 0)))])
    def test_none_is_invented(self, tmp_path, data):
        assert decode_photo(data, tmp_path).metadata.dpi is None


class TestXmpAndIptc:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize(
        "data",
        [
            jpeg(xmp=XMP),
            png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
            png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
            tiff(extratags=[(700, 1, len(XMP), XMP, True)]),
            tiff(RGB.astype(np.uint16), extratags=[(700, 1, len(XMP), XMP, True)]),
        ],
        ids=["jpeg", "png", "packed png", "tiff", "16 bits"],
    )
    def test_xmp_is_kept(self, tmp_path, data, suffix):
        assert write_and_read(tmp_path, decode_photo(data, tmp_path), suffix)[0].metadata.xmp == XMP

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("name", ["jpeg", "png", "tiff"])
    def test_iptc_is_kept_where_the_format_holds_it(self, tmp_path, suffix, name):
        block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
        raw = f"\niptc\n{len(IPTC):8}\n{IPTC.hex()}\n".encode()
        data = {
            "jpeg": lambda: jpeg(extra=b"\xff\xed" + struct.pack(">H", len(block) + 2) + block),
            "png": lambda: png((b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(raw))),
            "tiff": lambda: tiff(extratags=[(33723, 7, len(IPTC), IPTC, True)]),
        }[name]()
        result, left_out = write_and_read(tmp_path, decode_photo(data, tmp_path), suffix)
        assert result.metadata.iptc == (b"" if suffix == ".webp" else IPTC)
        assert left_out == (["its IPTC data"] if suffix == ".webp" else [])

    def test_xmp_of_a_turned_picture_says_upright(self, tmp_path):
        xmp = XMP.replace(b"xmp:Label", b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="8" xmp:Label')
        photo = decode_photo(tiff(RGB.astype(np.uint16), extratags=[(700, 1, len(xmp), xmp, True)]), tmp_path)
        assert np.array_equal(photo.pixels, np.rot90(RGB))
        assert b'tiff:Orientation="1"' in photo.metadata.xmp

    def test_a_gain_map_is_left_out_and_said(self, tmp_path):
        xmp = XMP.replace(
            b"xmp:Label", b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" xmp:Label'
        )
        photo = decode_photo(jpeg(xmp=xmp), tmp_path)
        assert photo.notes == ("its gain map for HDR displays",)
        assert b"hdrgm:Version" not in photo.metadata.xmp
        assert b'xmp:Label="Red"' in photo.metadata.xmp


class TestLimits:
    def test_exif_data_too_large_for_a_jpeg_lose_their_largest_tag(self, tmp_path):
        exif = Image.Exif()
        exif[ExifTags.Base.Make] = "Maker"
        exif.get_ifd(ExifTags.IFD.Exif).update({0x927C: bytes(70000), 36867: "2020:02:02 02:02:02"})
        exif[ExifTags.IFD.Exif] = exif.get_ifd(ExifTags.IFD.Exif)
        photo = decode_photo(png(exif=exif.tobytes()), tmp_path)
        result, left_out = write_and_read(tmp_path, photo, ".jpg")
        assert left_out == ["its EXIF data MakerNote"]
        with Image.open(tmp_path / "result.jpg") as image:
            assert image.getexif()[ExifTags.Base.Make] == "Maker"
            assert image.getexif().get_ifd(ExifTags.IFD.Exif) == {36867: "2020:02:02 02:02:02"}
        for suffix in (".png", ".tif", ".webp"):
            result, left_out = write_and_read(tmp_path, photo, suffix)
            assert len(result.metadata.exif) > 70000
            assert not left_out

    def test_xmp_too_large_for_a_jpeg_is_left_out(self, tmp_path):
        photo = decode_photo(png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP + b" " * 70000)), tmp_path)
        assert write_and_read(tmp_path, photo, ".jpg")[1] == ["its XMP data"]

    @pytest.mark.parametrize(("suffix", "most"), [(".webp", 16383), (".jpg", 65535), (".png", 1_000_000)])
    def test_sizes_that_a_format_cannot_hold_are_told_before_the_work(self, tmp_path, suffix, most):
        check_format(tmp_path / f"a{suffix}", 1, most)
        with pytest.raises(UserError, match=f"{most + 1}x1 pixels are too many"):
            check_format(tmp_path / f"a{suffix}", 1, most + 1)
        check_format(tmp_path / "a.tif", 1, most + 1)

    @pytest.mark.parametrize("kind", ["zTXt", "iTXt", "tEXt"])
    def test_a_large_text_in_a_png_is_no_damage(self, tmp_path, kind):
        text = PngImagePlugin.PngInfo()
        content = "{" + "n, " * 700_000 + "}"
        if kind == "iTXt":
            text.add_itxt("workflow", content, zip=True)
        else:
            text.add_text("workflow", content, zip=kind == "zTXt")
        photo = decode_photo(png(pnginfo=text), tmp_path)
        assert np.array_equal(photo.pixels, RGB)
        again, _ = write_and_read(tmp_path, photo, ".png")
        assert again.metadata.png_texts == photo.metadata.png_texts
        assert again.metadata.png_texts[0][1].startswith(b"workflow\0")

    def test_a_large_profile_in_a_png_is_no_damage(self, tmp_path):
        profile = SRGB + bytes(2_000_000)
        photo = decode_photo(png((b"iCCP", b"x\0\0" + zlib.compress(profile))), tmp_path)
        assert write_and_read(tmp_path, photo, ".png")[0].icc == profile


class TestColours:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize(
        ("chunks", "expected"),
        [
            ([gamma_chunk(100000)], {(128, 128, 128): (188, 188, 188)}),
            ([gamma_chunk(55556)], {(128, 128, 128): (147, 147, 147)}),
            (
                [chromaticities_chunk(P3), gamma_chunk(45455)],
                {(255, 255, 255): (255, 255, 255), (0, 200, 0): (0, 204, 0)},
            ),
            ([(b"sRGB", b"\0")], {(12, 130, 200): (12, 130, 200)}),
            ([(b"cICP", bytes([12, 13, 0, 1]))], {(100, 150, 100): (81, 151, 95)}),
            ([(b"cICP", bytes([12, 13, 0, 1])), gamma_chunk(100000)], {(100, 150, 100): (81, 151, 95)}),
        ],
        ids=["linear", "gamma 1.8", "P3", "sRGB", "cICP", "cICP comes first"],
    )
    def test_png_chunks_are_kept_or_become_a_profile(self, tmp_path, chunks, expected, suffix):
        result, left_out = write_and_read(tmp_path, decode_photo(png(*chunks), tmp_path), suffix)
        assert result.icc is not None
        assert not left_out
        for value, shown in expected.items():
            assert to_srgb(result.icc, value) == pytest.approx(shown, abs=2)
        if suffix == ".png":
            written = (tmp_path / "result.png").read_bytes()
            assert all(
                chunk(*each) in written
                for each in chunks
                if len(chunks) == 1 or each[0] != b"gAMA" or b"cHRM" in dict(chunks)
            )
            assert b"iCCP" not in written

    def test_hdr_colours_stay_in_a_png_and_are_said_to_be_left_out_elsewhere(self, tmp_path):
        photo = decode_photo(png((b"cICP", bytes([9, 16, 0, 1]))), tmp_path)
        assert write_and_read(tmp_path, photo, ".png")[0].metadata.png_colours == ((b"cICP", bytes([9, 16, 0, 1])),)
        assert write_and_read(tmp_path, photo, ".jpg")[1] == ["its HDR colours (cICP)"]

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_grey_png_gets_a_profile_that_fits(self, tmp_path, suffix):
        photo = decode_photo(png(gamma_chunk(100000), array=GREY), tmp_path)
        result, _ = write_and_read(tmp_path, photo, suffix)
        assert result.is_linear
        assert icc.is_grey_profile(result.icc) == (suffix != ".webp")

    def test_an_adobe_rgb_camera_file_gets_its_profile(self, tmp_path):
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = 0xFFFF
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
        exif[ExifTags.IFD.Exif] = exif.get_ifd(ExifTags.IFD.Exif)
        photo = decode_photo(jpeg(exif=exif.tobytes()), tmp_path)
        assert to_srgb(photo.icc, (100, 150, 100)) == pytest.approx((66, 151, 97), abs=1)
        grey = decode_photo(jpeg(GREY, exif=exif.tobytes()), tmp_path)
        assert icc.is_grey_profile(grey.icc)
        assert decode_photo(jpeg(Image.fromarray(RGB).convert("CMYK"), exif=exif.tobytes()), tmp_path).icc is None
        with_profile = decode_photo(jpeg(exif=exif.tobytes(), icc_profile=SRGB), tmp_path)
        assert with_profile.icc == SRGB

    def test_tiff_tags_become_a_profile(self, tmp_path):
        white, primaries = P3[:2], P3[2:]
        fractions = lambda values: tuple(n for v in values for n in (round(v * 10000), 10000))  # noqa: E731
        table = np.linspace(0, 65535, 256).astype(np.uint16)
        tags = [
            (318, 5, 2, fractions(white), True),
            (319, 5, 6, fractions(primaries), True),
            (301, 3, 256, tuple(table), True),
        ]
        photo = decode_photo(tiff(extratags=tags), tmp_path)
        assert photo.is_linear
        assert to_srgb(photo.icc, (0, 128, 0))[0] == 0

    def test_a_profile_comes_before_other_statements(self, tmp_path):
        photo = decode_photo(png(gamma_chunk(100000), icc_profile=SRGB), tmp_path)
        assert photo.icc == SRGB
        assert not photo.is_linear


class TestLinearLight:
    PROFILES = {  # noqa: RUF012
        "parametric": icc.rgb_profile(icc.SRGB_CHROMATICITIES, [icc.curve_tag((1.0,))]),
        "table": icc.rgb_profile(
            icc.SRGB_CHROMATICITIES, [icc.table_tag(np.linspace(0, 65535, 1024).astype(np.uint16))]
        ),
        "identity": icc.rgb_profile(icc.SRGB_CHROMATICITIES, [icc.table_tag(np.zeros(0, np.uint16))]),
        "gamma": icc.rgb_profile(P3, [icc.table_tag(np.array([256], np.uint16))]),
        "code points": cicp_profile(9, 8),
        "grey": icc.grey_profile(icc.curve_tag((1.0,))),
    }

    @pytest.mark.parametrize("name", PROFILES)
    def test_it_is_recognized(self, name):
        assert icc.is_linear(self.PROFILES[name])

    @pytest.mark.parametrize(
        "profile", [SRGB, cicp_profile(1, 13), cicp_profile(9, 1), cicp_profile(1, 4), b"", b"x" * 200]
    )
    def test_other_profiles_are_not(self, profile):
        assert not icc.is_linear(profile)

    def test_networks_see_srgb(self):
        linear = np.full((1, 1, 3), round(0.21404114 * 65535), np.uint16)
        photo = Photo(linear, icc=self.PROFILES["parametric"])
        assert photo.as_float() == pytest.approx(0.5, abs=1e-4)
        dark = Photo(np.full((1, 1, 3), 100, np.uint16), icc=self.PROFILES["parametric"])
        assert dark.as_float() == pytest.approx(12.92 * 100 / 65535, abs=1e-6)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_pixels_come_back_as_they_were(self, dtype):
        values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
        photo = Photo(np.repeat(values.reshape(-1, 1, 1), 3, 2), icc=self.PROFILES["table"])
        assert np.array_equal(photo.with_image(photo.as_float()).pixels, photo.pixels)
