"""Ways to damage a file."""

import struct
import zlib

import numpy as np

# Numbers at which fields of headers break programs.
_EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def damage(rng: np.random.Generator, sound: list[bytes]) -> bytes:
    """Return one of the files, damaged in one to three ways."""
    data = sound[rng.integers(len(sound))]
    ways = [flip, cut, splice, set_field, repeat, drop]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        data = ways[rng.integers(len(ways))](rng, data, sound)
    return repair_png(data) if rng.random() < 0.7 else data


def flip(rng: np.random.Generator, data: bytes, _: list[bytes]) -> bytes:
    """Change a few bytes, most of them in the first part, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        if changed:
            place = int(len(changed) * rng.random() ** (3 if rng.random() < 0.7 else 1))
            changed[place] = rng.integers(256)
    return bytes(changed)


def cut(rng: np.random.Generator, data: bytes, _: list[bytes]) -> bytes:
    """Leave out the end."""
    return data[: int(len(data) * rng.random())]


def splice(rng: np.random.Generator, data: bytes, sound: list[bytes]) -> bytes:
    """Go on with the second part of another file."""
    other = sound[rng.integers(len(sound))]
    return data[: int(len(data) * rng.random())] + other[int(len(other) * rng.random()) :]


def set_field(rng: np.random.Generator, data: bytes, _: list[bytes]) -> bytes:
    """Set two or four bytes to an extreme number."""
    size = 2 if rng.random() < 0.5 else 4
    if len(data) < 16:
        return data
    place = int((len(data) - size) * rng.random() ** 3)
    value = _EXTREMES[rng.integers(len(_EXTREMES))] & (2 ** (8 * size) - 1)
    return data[:place] + value.to_bytes(size, "big" if rng.random() < 0.5 else "little") + data[place + size :]


def repeat(rng: np.random.Generator, data: bytes, _: list[bytes]) -> bytes:
    """Insert a part once more, or many times."""
    start, length = int(len(data) * rng.random()), int(rng.integers(1, 200))
    return data[:start] + data[start : start + length] * int(rng.choice([1, 2, 500])) + data[start:]


def drop(rng: np.random.Generator, data: bytes, _: list[bytes]) -> bytes:
    """Leave out a part."""
    start = int(len(data) * rng.random())
    return data[:start] + data[start + int(rng.integers(1, 200)) :]


def repair_png(data: bytes) -> bytes:
    """Return a PNG with right checksums, so that the damage is met behind them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    parts, place = [data[:8]], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        content = data[place + 4 : place + 8 + length]
        if place + 12 + length > len(data):
            break
        parts.append(data[place : place + 8 + length] + struct.pack(">I", zlib.crc32(content)))
        place += 12 + length
    return b"".join(parts) + data[place:]
