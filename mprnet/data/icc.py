"""ICC colour profiles: made from chromaticities and a curve, and asked for their curve (ICC.1:2010)."""

import struct
from collections.abc import Sequence

import numpy as np

# x and y of the white point, red, green and blue.
Chromaticities = tuple[float, float, float, float, float, float, float, float]
SRGB_CHROMATICITIES: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# From values of pixels to light: ((a x + b) ** g), and c x below d. Without a to d: x ** g.
Curve = tuple[float, ...]
SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# A gamma, or a table's deviation from a line, that differs less counts as linear light.
_GAMMA_TOLERANCE, _TABLE_TOLERANCE = 0.02, 0.005


def curve_tag(curve: Curve) -> bytes:
    """Return the tag of a parametric curve of one or five numbers."""
    return struct.pack(">4sxxxxHxx", b"para", 0 if len(curve) == 1 else 3) + _fixed(curve)


def table_tag(table: np.ndarray) -> bytes:
    """Return the tag of a curve that is given by uint16 values at equal distances."""
    return struct.pack(">4sxxxxI", b"curv", len(table)) + table.astype(">u2").tobytes()


def rgb_profile(chromaticities: Chromaticities, curves: Sequence[bytes]) -> bytes | None:
    """Return an RGB profile; None if the chromaticities span no triangle.

    Args:
        curves: tags of three curves, for red, green and blue, or of one for all.
    """
    white, *primaries = (_xyz(*chromaticities[i : i + 2]) for i in range(0, 8, 2))
    matrix = np.stack(primaries, axis=1)
    if not np.all(np.isfinite(matrix)) or not np.all(np.isfinite(white)) or abs(np.linalg.det(matrix)) < 1e-4:
        return None
    cones = _BRADFORD @ white
    if np.any(np.abs(cones) < 1e-6):
        return None
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / cones) @ _BRADFORD
    columns = adaptation @ matrix @ np.diag(np.linalg.solve(matrix, white))
    if np.abs(columns).max() > 4:
        return None
    tags = {b"wtpt": _xyz_tag(_D50), b"chad": b"sf32\0\0\0\0" + _fixed(adaptation.ravel())}
    for colour, column, curve in zip((b"r", b"g", b"b"), columns.T, [*curves] * (3 // len(curves)), strict=True):
        tags[colour + b"XYZ"], tags[colour + b"TRC"] = _xyz_tag(column), curve
    return _profile(b"RGB ", tags)


def grey_profile(curve: bytes) -> bytes:
    """Return a profile for grey pictures, with the tag of its curve."""
    return _profile(b"GRAY", {b"wtpt": _xyz_tag(_D50), b"kTRC": curve})


def grey_to_rgb(profile: bytes) -> bytes | None:
    """Return an RGB profile that shows equal channels as the grey ``profile`` shows grey; None if it has no curve."""
    curve = _tags(profile).get(b"kTRC")
    return None if curve is None else rgb_profile(SRGB_CHROMATICITIES, [curve])


def is_grey_profile(profile: bytes) -> bool:
    """True if a profile is for grey pictures."""
    return profile[16:20] == b"GRAY"


def is_linear(profile: bytes) -> bool:
    """True if the values of pixels are proportional to light, by the curves of the profile."""
    tags = _tags(profile)
    curves = [tags[name] for name in (b"kTRC", b"rTRC", b"gTRC", b"bTRC") if name in tags]
    return bool(curves) and b"A2B0" not in tags and all(_is_linear_curve(curve) for curve in curves)


def _is_linear_curve(tag: bytes) -> bool:
    kind = tag[:4]
    if kind == b"para" and len(tag) >= 16:
        function, gamma = struct.unpack_from(">Hxxi", tag, 8)
        return abs(gamma / 65536 - 1) < _GAMMA_TOLERANCE and function == 0
    if kind != b"curv" or len(tag) < 12:
        return False
    (count,) = struct.unpack_from(">I", tag, 8)
    values = np.frombuffer(tag[12 : 12 + 2 * count], ">u2").astype(np.float64)
    if len(values) != count:
        return False
    if count <= 1:
        return count == 0 or abs(values[0] / 256 - 1) < _GAMMA_TOLERANCE
    return float(np.abs(values / 65535 - np.linspace(0, 1, count)).max()) < _TABLE_TOLERANCE


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """Return the tags of a profile; those that lie outside it are left out."""
    if len(profile) < 132:
        return {}
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {}
    for place in range(132, min(132 + 12 * count, len(profile) - 11), 12):
        name, start, length = struct.unpack_from(">4sII", profile, place)
        if start + length <= len(profile):
            tags[name] = profile[start : start + length]
    return tags


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": _text_tag("Colours of the original file"), b"cprt": _text_tag("No copyright, use freely")} | tags
    body, index = b"", struct.pack(">I", len(tags))
    places: dict[bytes, int] = {}
    for name, data in tags.items():
        if data not in places:  # equal curves are stored once
            places[data] = 128 + 4 + 12 * len(tags) + len(body)
            body += data + b"\0" * (-len(data) % 4)
        index += struct.pack(">4sII", name, places[data], len(data))
    header = struct.pack(">I4xI4s4s4s", 128 + len(index) + len(body), 0x04300000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(_D50)
    return header.ljust(128, b"\0") + index + body


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x, y, 1 - x - y]) / y if y else np.full(3, np.nan)


def _xyz_tag(values: Sequence[float] | np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _text_tag(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return struct.pack(">4sxxxxII4sII", b"mluc", 1, 12, b"enUS", len(data), 28) + data


def _fixed(values: Sequence[float] | np.ndarray) -> bytes:
    """Return numbers as s15Fixed16Number."""
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))
