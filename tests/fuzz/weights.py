"""Damages files of weights in many ways, and checks that loading them ends with one sentence.

    python tests/fuzz/weights.py --count 500 --seed 0

Every file is loaded in a process of its own, whose address space is limited. A traceback, a message of several lines,
more than 20 s or more than 2 GiB is a finding. The file number N of a run with seed S is that of --seed S+N --count 1.
"""

import argparse
import functools
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

from mprnet import MPRNet, UserError, load_model
from mprnet.model.local_pooling import training_patch
from mprnet.model.weights import full_metadata

SECONDS, MEMORY = 20, 2**31
# A file is loaded with this much more address space than the process has, so that an allocation above MEMORY shows.
_ADDRESS_SPACE = 2**32
_NUMBERS = [-1, 0, 1, 3, 4, 255, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, 2**64]
_ODD_VALUES = [*_NUMBERS, 1e308, 0.5, True, None, "", "4", [], [[]], {}, [4], "x" * 100_000]


def damaged_weights(seed: int) -> tuple[bytes, str]:
    """Return the content of a damaged file of weights, and the suffix of its name. A seed always gives the same file.

    It is made from the small sound files of ``sound_weights``. A few of them stay sound.
    """
    rng = random.Random(seed)
    kind, damage = rng.choice(_WAYS)
    data, suffix = sound_weights()[kind]
    return damage(data, rng), suffix


@functools.cache
def sound_weights() -> dict[str, tuple[bytes, str]]:
    """Return sound files of a tiny network, each with its suffix, by format: safetensors, zip and legacy."""
    torch.manual_seed(0)
    model = MPRNet(4, 2, 3, num_cab=1, reduction=2)
    metadata = full_metadata(model, {"training_patch": "64", "task": "Denoising"})
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    files = {"safetensors": (safetensors.torch.save(tensors, metadata), ".safetensors")}
    for name, zipped in (("zip", True), ("legacy", False)):
        file = io.BytesIO()
        content = {"state_dict": tensors, "metadata": metadata}
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        files[name] = (file.getvalue(), ".pth")
    return files


def flip_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change up to 20 bytes, most of them at the beginning or the end, where the structure of a file is."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        area = rng.choice((64, 4096, len(data)))
        place = rng.randrange(min(area, len(data)))
        changed[place if rng.random() < 0.7 else -1 - place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Leave out the end, the beginning, or a part."""
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    return rng.choice((data[:end], data[start:], data[:start] + data[end:], data[: rng.randrange(20)]))


def splice(data: bytes, rng: random.Random) -> bytes:
    """Join the beginning of a file with the end of another, or repeat a part."""
    other, _ = sound_weights()[rng.choice(list(sound_weights()))]
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    joined = data[:end] + other[rng.randrange(len(other)) :]
    return rng.choice((joined, data[:end] + data[start:], data + other, other + data))


def change_header(data: bytes, rng: random.Random) -> bytes:
    """Change what the header of a safetensors file says about a tensor, its metadata, or its own length."""
    length = struct.unpack("<Q", data[:8])[0]
    header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
    key = rng.choice([key for key in header if key != "__metadata__"])
    match rng.randrange(8):
        case 0:
            header[key]["shape"] = [rng.choice(_NUMBERS) for _ in range(rng.randrange(6))]
        case 1:
            header[key]["shape"] = [2**40, 0, 3, 3]
            header[key]["data_offsets"] = [0, 0]
        case 2:
            header[key]["data_offsets"] = [rng.choice(_NUMBERS), rng.choice(_NUMBERS)]
        case 3:
            header[key]["dtype"] = rng.choice(("F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F4", "C64", "x", 3))
        case 4:
            header[key] = rng.choice(_ODD_VALUES)
        case 5:
            header["__metadata__"] = rng.choice((None, 3, {"config": 3}, {"training_patch": "9" * 5000}))
        case 6:
            del header[key]
        case 7:
            header["\n".join(("\x1b[31m", key, "long " * rng.choice((1, 10_000))))] = header.pop(key)
    text = json.dumps(header).encode()
    if rng.random() < 0.1:
        text = text.replace(b"{", b"{" + b'"__metadata__": {},', 1)  # a key comes twice
    if rng.random() < 0.1:
        text = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    claimed = len(text) if rng.random() < 0.9 else rng.choice((0, 2**31, 2**63, len(text) - 1))
    return struct.pack("<Q", claimed) + text + numbers


def change_config(data: bytes, rng: random.Random) -> bytes:
    """Change the configuration that a safetensors file stores."""
    length = struct.unpack("<Q", data[:8])[0]
    header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
    config = json.loads(header["__metadata__"]["config"])
    config[rng.choice([*config, "subnetworks", "sam", "unknown"])] = rng.choice(_ODD_VALUES)
    text = json.dumps(config)
    nested = "[" * 100_000 + "]" * 100_000
    header["__metadata__"]["config"] = rng.choice(
        (text, text, text, text, nested, text.replace("{", '{"n_feat": ' + "9" * 5000 + ", ", 1), text[:-1], "NaN")
    )
    text = json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + numbers


def change_numbers(pickled: bytes, rng: random.Random) -> bytes:
    """Change small integers in a pickle: sizes, strides, offsets and lengths of tensors are such."""
    places = [place for place, byte in enumerate(pickled[:-2]) if byte == ord("K")]
    changed = pickled
    for place in sorted(rng.sample(places, rng.choice((1, 1, 2, 8))), reverse=True):
        number = rng.choice((*_NUMBERS[:-5], -(2**31), rng.randrange(256)))
        changed = changed[:place] + b"J" + struct.pack("<i", number) + changed[place + 2 :]
    return changed


def change_legacy(data: bytes, rng: random.Random) -> bytes:
    """Change integers in the pickles of a legacy file; its numbers follow them."""
    end = data.rindex(b"q\x00.") if b"q\x00." in data else len(data) // 2
    return change_numbers(data[:end], rng) + data[end:]


def change_zip(data: bytes, rng: random.Random) -> bytes:
    """Write the members of a zip archive again, one of them changed, with sound checksums."""
    compression = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    output = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(output, "w", compression) as written:
        names = archive.namelist()
        changed = rng.choice([name for name in names if name.endswith("data.pkl")] * len(names) + names)
        for name in names:
            content = archive.read(name)
            if name == changed:
                ways = (change_numbers,) * 3 if name.endswith(".pkl") else (cut, lambda *_: b"\0" * 10**7)
                content = rng.choice((*ways, flip_bytes))(content, rng) if content else b"0"
            if name != changed or rng.random() < 0.9:  # or leave it out
                written.writestr(name, content)
    return output.getvalue()


# The records of a zip archive, and where in them are compression, lengths, counts and places.
_RECORDS = {
    b"PK\x03\x04": (8, 14, 18, 22, 26),
    b"PK\x01\x02": (10, 16, 20, 24, 28, 42),
    b"PK\x05\x06": (8, 10, 12, 16),
}


def change_directory(data: bytes, rng: random.Random) -> bytes:
    """Change the lengths and places that the records of a zip archive claim."""
    changed = bytearray(data)
    signature, fields = rng.choice(list(_RECORDS.items()))
    places = [place for place in range(len(data)) if data.startswith(signature, place)]
    place = rng.choice(places) + rng.choice(fields)
    changed[place : place + 4] = struct.pack("<I", rng.choice((0, 1, 2**16, 2**30, 2**32 - 1, rng.randrange(2**20))))
    return bytes(changed)


_Damage = Callable[[bytes, random.Random], bytes]
_WAYS: list[tuple[str, _Damage]] = [
    *((kind, damage) for kind in ("safetensors", "zip", "legacy") for damage in (flip_bytes, cut, splice)),
    *(("safetensors", damage) for damage in (change_header, change_header, change_config)),
    *(("zip", damage) for damage in (change_zip, change_zip, change_directory)),
    *(("legacy", damage) for damage in (change_legacy, change_legacy)),
]


def load(path: Path) -> str:
    """Load a file as the programs do. Return the sentence that refuses it; an empty text if it is sound.

    Raises:
        AssertionError: the refusal is not one short line.
    """
    try:
        training_patch(load_model(path))
    except UserError as error:
        sentence = str(error)
        assert len(sentence) < 1000, f"a sentence of {len(sentence)} characters: {sentence[:200]}"
        assert sentence.isprintable(), f"not one line: {sentence!r}"
        return sentence
    return ""


def run(count: int, seed: int) -> list[str]:
    """Load ``count`` damaged files, each in a process of its own, and return the findings, one text each."""
    torch.set_num_threads(1)  # a forked process has no other threads
    sound_weights()
    outcomes: Counter[str] = Counter()
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(seed, seed + count):
            data, suffix = damaged_weights(number)
            path = Path(folder, f"w{suffix}")
            path.write_bytes(data)
            outcome = _load_in_process(path)
            outcomes["refused" if outcome is None else outcome or "loaded"] += 1
            if outcome:
                findings.append(f"seed {number}: {outcome}")
                print(findings[-1], flush=True)
    print(f"{count} files: {outcomes['loaded']} loaded, {outcomes['refused']} refused, {len(findings)} findings")
    return findings


def _load_in_process(path: Path) -> str | None:
    """Return the finding, an empty text if the file was loaded, or None if it was refused as it should be."""
    read_end, write_end = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _report(path, write_end)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - start
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)} after {seconds:.0f} s"
    if os.WEXITSTATUS(status) > 1:
        return said or f"exit status {os.WEXITSTATUS(status)}"
    if peak > MEMORY:
        return f"a peak of {peak / 2**30:.1f} GiB"
    return None if os.WEXITSTATUS(status) else ""


def _report(path: Path, write_end: int) -> None:
    """Load the file in this process and end it: status 0 if it is sound, 1 if it is refused, 2 with a traceback."""
    signal.alarm(SECONDS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESS_SPACE,) * 2)
    try:
        status = int(bool(load(path)))
    except BaseException:
        os.write(write_end, traceback.format_exc()[-3000:].encode(errors="replace"))
        status = 2
    os._exit(status)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="how many files; default: 500")
    parser.add_argument("--seed", type=int, default=0, help="of the first file; default: 0")
    a = parser.parse_args()
    sys.exit(bool(run(a.count, a.seed)))
