"""Damaged pictures as uploads, and malformed requests, to a page that runs in a process of its own."""

import atexit
import base64
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psutil
import torch
from apps.test_page import LOGIN, restore_on_page
from conftest import ROOT

from fuzz.damage import damage
from fuzz.pictures import sound_files
from mprnet import MPRNet, save_weights

_MEMORY = 2 * 2**30
_SECONDS = 20
_SUFFIXES = [".png", ".jpg", ".tif", ".webp", ".gif", ".heic", ".dng", ".avif"]


class Server(NamedTuple):
    """A running page.

    Attributes:
        address: http://HOST:PORT.
        errors: the file with what it writes to stderr.
        memory: how many bytes it used at first.
    """

    address: str
    process: subprocess.Popen[bytes]
    errors: Path
    memory: int


@cache
def server() -> Server:
    """Start the page, with a small network whose results are its inputs."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-page-"))
    model = MPRNet(n_feat=4, scale_unetfeats=2, scale_orsnetfeats=2, num_cab=1, reduction=2)
    with torch.no_grad():
        for layer in (model.tail, model.sam12.conv2, model.sam23.conv2):
            layer.weight.zero_()
    save_weights(model, folder / "identity.pth")
    command = [sys.executable, ROOT / "demo.py", "--web", "--port", "0", "--task", "Denoising", "--device", "cpu"]
    command += ["--weights", folder / "identity.pth", "--max_megapixels", "2"]
    output, errors = folder / "output", folder / "errors"
    process = subprocess.Popen(
        command,
        stdout=output.open("wb"),
        stderr=errors.open("wb"),
        env=os.environ | {"MPRNET_AUTH": ":".join(LOGIN), "TMPDIR": str(folder)},
    )
    atexit.register(process.terminate)
    while not (found := re.search(r"http://127[^\s;]+", output.read_text())):
        if process.poll() is not None:
            raise SystemExit(errors.read_text())
        time.sleep(0.2)
    restore_on_page(found[0], "a.png", sound_files()[0])  # what is loaded once is loaded now
    return Server(found[0], process, errors, psutil.Process(process.pid).memory_info().rss)


def run(seed: int) -> str:
    """Send an upload or a request, and look at the page afterwards."""
    running = server()
    if seed < 0:
        return "started"
    rng = np.random.default_rng(seed)
    written = running.errors.stat().st_size
    outcome = upload(rng, running) if seed % 2 else request(rng, running)
    assert running.process.poll() is None, "the page has ended"
    said = running.errors.read_bytes()[written:].decode(errors="replace")
    assert "Traceback" not in said, said
    if psutil.Process(running.process.pid).memory_info().rss > running.memory + _MEMORY:
        return "memory"
    return outcome


def upload(rng: np.random.Generator, running: Server) -> str:
    """Upload a damaged picture and restore it."""
    name = f"picture{_SUFFIXES[rng.integers(len(_SUFFIXES))]}"
    answer = restore_on_page(running.address, name, damage(rng, sound_files()))
    return "restored" if "1 of 1 pictures restored" in answer else "refused"


@cache
def sound_requests() -> list[bytes]:
    """Return requests as a browser sends them."""
    host = urlsplit(server().address).netloc
    login = base64.b64encode(":".join(LOGIN).encode()).decode()
    head = f"HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {login}\r\nConnection: close\r\n"
    body = b'{"data": [[{"path": "/tmp/a.png", "meta": {"_type": "gradio.FileData"}}], "Denoising"], "fn_index": 5, '
    body += b'"session_hash": "abc"}'
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc\r\n--x--\r\n'
    json_head = f"{head}Content-Type: application/json\r\n"
    return [
        *(f"GET {path} {head}\r\n".encode() for path in ("/", "/config", "/gradio_api/file=/tmp/a", "/assets/a.js")),
        f"GET /gradio_api/heartbeat/abc {head}\r\n".encode(),
        f"POST /gradio_api/queue/join {json_head}Content-Length: {len(body)}\r\n\r\n".encode() + body,
        f"POST /gradio_api/run/predict {json_head}Content-Length: {len(body)}\r\n\r\n".encode() + body,
        f"POST /gradio_api/upload {head}Content-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {len(part)}\r\n\r\n".encode()
        + part,
    ]


def request(rng: np.random.Generator, running: Server) -> str:
    """Send a damaged request. Return the hundreds of the status."""
    data = damage(rng, sound_requests())
    host, port = urlsplit(running.address).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=_SECONDS - 5) as connection:
        connection.settimeout(1)  # an answer without end, as of a heartbeat, or none, as to half a request, is allowed
        try:
            connection.sendall(data)
            answer = connection.recv(2**16)
        except OSError:  # closed by the page, or no answer
            return "no answer"
    found = re.match(rb"HTTP/1\.[01] (\d)\d\d", answer)
    status = found[1].decode() if found else "?"
    assert status != "5", answer
    return f"status {status}xx"
