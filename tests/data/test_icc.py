"""Colour profiles, made from numbers: their colours, and which of them mean linear light."""

import struct

import numpy as np
import pytest

from mprnet.data import icc
from mprnet.data.cicp import cicp_profile

D65 = (0.3127, 0.3290)
LINEAR = icc.curve_tag((1.0,))
# Of ITU-T H.273, Table 2: white point, red, green, blue.
PRIMARIES = {
    1: (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}


def read_tag(profile, name):
    (count,) = struct.unpack_from(">I", profile, 128)
    for place in range(132, 132 + 12 * count, 12):
        found, start, length = struct.unpack_from(">4sII", profile, place)
        if found == name:
            return profile[start : start + length]
    return None


def read_numbers(profile, name):
    tag = read_tag(profile, name)
    return np.frombuffer(tag[8:], ">i4") / 65536


def srgb_profile(*curves):
    return icc.rgb_profile(icc.SRGB_CHROMATICITIES, curves)


def bt709(value):
    return value / 4.5 if value < 0.081 else ((value + 0.099) / 1.099) ** (1 / 0.45)


@pytest.mark.parametrize("code", PRIMARIES)
def test_code_points_name_these_primaries(code):
    profile = cicp_profile(code, 8)
    adaptation = read_numbers(profile, b"chad").reshape(3, 3)
    columns = [np.linalg.solve(adaptation, read_numbers(profile, name)) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    found = [value for xyz in (sum(columns), *columns) for value in xyz[:2] / xyz.sum()]
    assert found == pytest.approx(PRIMARIES[code], abs=2e-4)
    assert read_numbers(profile, b"wtpt") == pytest.approx((0.9642, 1, 0.8249), abs=1e-4)


@pytest.mark.parametrize(
    ("codes", "curve"),
    [
        ((1, 6, 14, 15), bt709),
        ((4,), lambda value: value**2.2),
        ((5,), lambda value: value**2.8),
        ((8,), lambda value: value),
        ((13,), lambda value: value / 12.92 if value < 0.04045 else ((value + 0.055) / 1.055) ** 2.4),
    ],
)
def test_code_points_name_these_curves(codes, curve):
    for code in codes:
        tag = read_tag(cicp_profile(1, code), b"gTRC")
        gamma, *others = np.frombuffer(tag[12:], ">i4") / 65536
        a, b, c, d = others or (1, 0, 0, 0)
        for value in (0.02, 0.06, 0.1, 0.5, 1.0):
            found = (a * value + b) ** gamma if value >= d else c * value
            assert found == pytest.approx(curve(value), abs=1e-3)


@pytest.mark.parametrize("codes", [(2, 13), (1, 2), (9, 16), (9, 18), (22, 13)])
def test_code_points_without_a_profile(codes):
    assert cicp_profile(*codes) is None


def test_code_points_of_a_grey_picture():
    profile = cicp_profile(12, 8, grey=True)
    assert icc.is_grey_profile(profile)
    assert icc.is_linear(profile)


@pytest.mark.parametrize(
    "values",
    [
        (*D65, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3),
        (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.0),
        (0.3, 0.0, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
        (0.0, 0.9, 0.64, 0.33, 0.30, 0.60, 0.31, 0.55),
    ],
    ids=["one point", "no light of blue", "no light of white", "white far outside"],
)
def test_chromaticities_that_make_no_sense_give_no_profile(values):
    assert icc.rgb_profile(values, [LINEAR]) is None


def test_each_channel_has_its_own_curve():
    curves = [icc.curve_tag((gamma,)) for gamma in (1.0, 1.5, 2.0)]
    profile = srgb_profile(*curves)
    assert [read_tag(profile, name) for name in (b"rTRC", b"gTRC", b"bTRC")] == curves


def test_equal_curves_are_stored_once():
    table = icc.table_tag(np.arange(4096, dtype=np.uint16))
    assert len(srgb_profile(table)) == len(srgb_profile(table, table, table)) < 2 * len(table)


def test_the_header_says_what_the_profile_is():
    profile = srgb_profile(LINEAR)
    assert struct.unpack_from(">I", profile) == (len(profile),)
    assert profile[12:24] == b"mntrRGB XYZ "
    assert profile[36:40] == b"acsp"
    assert struct.unpack_from(">3i", profile, 68) == (63190, 65536, 54061)  # D50
    assert len(profile) % 4 == 0


@pytest.mark.parametrize(
    ("curve", "is_linear"),
    [
        (icc.curve_tag((1.01,)), True),
        (icc.curve_tag((1.1,)), False),
        (icc.table_tag(np.array([round(1.01 * 256)], np.uint16)), True),
        (icc.table_tag(np.array([round(1.1 * 256)], np.uint16)), False),
        (icc.curve_tag((1.0, 0.9, 0.1, 0.5, 0.2)), False),
        (icc.table_tag((np.arange(256) * 257 // 100 * 100).astype(np.uint16)), True),
        (icc.table_tag((np.linspace(0, 1, 256) ** 1.1 * 65535).astype(np.uint16)), False),
    ],
    ids=["gamma 1.01", "gamma 1.1", "number 1.01", "number 1.1", "five numbers", "rounded table", "table 1.1"],
)
def test_small_differences_from_linear_light(curve, is_linear):
    assert icc.is_linear(srgb_profile(curve)) == is_linear
    assert icc.is_linear(icc.grey_profile(curve)) == is_linear


def test_light_is_linear_only_if_all_channels_are():
    assert not icc.is_linear(srgb_profile(LINEAR, LINEAR, icc.curve_tag((2.2,))))


def test_a_profile_with_a_table_of_colours_is_not_linear():
    """Its table comes before its curves."""
    profile = srgb_profile(LINEAR)
    assert not icc.is_linear(profile.replace(b"desc", b"A2B0", 1))


def test_curves_that_are_cut_short_are_not_linear():
    table = icc.table_tag(np.linspace(0, 65535, 64).astype(np.uint16))
    for length in (12, 14, 138):
        assert not icc.is_linear(icc.grey_profile(table[:length]))
    assert icc.is_linear(icc.grey_profile(table))


def test_a_grey_profile_becomes_one_for_colours_with_its_curve():
    curve = icc.table_tag(np.arange(1024, dtype=np.uint16))
    grey = icc.grey_profile(curve)
    profile = icc.grey_to_rgb(grey)
    assert not icc.is_grey_profile(profile)
    assert profile == srgb_profile(curve)
    assert icc.grey_to_rgb(grey[:-4]) is None  # its curve lies outside of the file
