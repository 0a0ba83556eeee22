"""The page: its functions without a browser, then the whole page with plain requests and with Chromium."""

import argparse
import contextlib
import http.server
import importlib.util
import json
import re
import signal
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import cv2
import numpy as np
import programs
import pytest
from conftest import ROOT

from apps import odd_files
from apps.miniatures import write_weights
from mprnet import UserError
from mprnet.apps import restore
from mprnet.apps.page import server, sessions
from mprnet.apps.page.examples import find_examples
from mprnet.apps.page.limits import read_limited
from mprnet.apps.page.look import format_status
from mprnet.apps.page.restoring import Choice, Restorers, Run
from mprnet.apps.page.sessions import Sessions
from mprnet.inference.folder import restore_all
from mprnet.inference.jobs import plan_jobs
from mprnet.tasks import available_weights

OPTIONS = argparse.Namespace(
    device="cpu",
    precision="fp32",
    tile="auto",
    memory=None,
    training_patch=None,
    compile=False,
    max_megapixels=64,
    max_minutes=120,
)
LOGIN = ("someone", "a secret: word")


@pytest.fixture
def page(tmp_path) -> Iterator[Sessions]:
    root = tmp_path / "root"
    root.mkdir()
    made = Sessions(Restorers(ROOT, OPTIONS), root, "png")
    yield made
    made.close()


@pytest.fixture
def choice(identity) -> Choice:
    return Choice("Denoising", identity, None, False, False)


def upload(root: Path, files: dict[str, bytes]) -> list[Path]:
    """Write files as Gradio stores uploads: each in its own folder."""
    paths = [root / f"upload-{uuid.uuid4().hex}" / name for name in files]
    for path, data in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    return paths


def png(value: int = 90, size: int = 24) -> bytes:
    return odd_files._png(np.full((size, size, 3), value, np.uint8))


def head(width: int, height: int) -> bytes:
    """A PNG of which there is only the head."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT", b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def last(runs: Iterator[Run]) -> Run:
    *_, run = runs
    return run


def test_the_page_restores_unusual_pictures_as_demo_does(page, choice, tmp_path):
    right, wrong = odd_files.right(), odd_files.wrong()
    assert len(right) + len(wrong) >= 30
    files = {name: data for name, (data, _) in (right | wrong).items()}
    run = last(page.restore("visitor", upload(tmp_path / "root", files), choice))
    assert set(run.results) == set(run.previews) == set(right)
    assert len(run.failures) == len(wrong)
    for name, (_, part) in wrong.items():
        (sentence,) = [sentence for sentence in run.failures if sentence.startswith(f"{name}: ")]
        assert part in sentence
        assert str(tmp_path) not in sentence

    (tmp_path / "in").mkdir()
    for name in right:
        (tmp_path / "in" / name).write_bytes(files[name])
    jobs = plan_jobs(sorted((tmp_path / "in").iterdir()), tmp_path / "in", tmp_path / "out", ".png", compare=False)
    restorer, _ = Restorers(ROOT, OPTIONS)._get(choice)
    assert not restore_all(jobs, restorer).failures
    for job in jobs:
        assert run.results[job.source.name].read_bytes() == job.result.read_bytes(), job.source.name
    for before, after in run.previews.values():
        assert cv2.imread(str(before)).shape == cv2.imread(str(after)).shape


def test_pictures_with_the_same_name_are_all_restored(page, choice, tmp_path):
    uploads = upload(tmp_path / "root", {"a.png": png(10)}) + upload(tmp_path / "root", {"a.png": png(20)})
    run = last(page.restore("visitor", [*uploads, uploads[0]], choice))
    assert list(run.results) == ["a.png", str(Path("2", "a.png"))]
    assert [path.name for path in run.results.values()] == ["a.png", "a.png"]
    assert len({path.read_bytes() for path in run.results.values()}) == 2


def test_missing_pictures_and_missing_weights_are_reported(page, choice, tmp_path):
    present, missing = upload(tmp_path / "root", {"a.png": png(), "b.png": png()})
    missing.unlink()
    run = last(page.restore("visitor", [missing, present], choice))
    assert run.failures == ["b.png: cannot be used (No such file or directory); choose it again."]
    assert list(run.results) == ["a.png"]
    lost = Choice("Denoising", tmp_path / "lost.pth", None, False, False)
    run = last(page.restore("visitor", [present], lost))
    assert run.failures == ["a.png: the weights lost.pth are not there any more; choose others."]


def test_a_run_can_be_cancelled_in_the_middle_of_a_picture(page, choice, tmp_path):
    uploads = upload(tmp_path / "root", {"large.png": png(size=1200), "next.png": png()})
    runs = page.restore("visitor", uploads, choice)
    run = next(runs)
    while not 0 < run.fraction < 1:
        assert page._turns, "it is not being restored any more"
        time.sleep(0.001)
    page.cancel("visitor")
    run = last(runs)
    assert (run.total, run.results, run.failures) == (2, {}, [])  # no result of the picture that was cancelled
    assert list(last(page.restore("visitor", uploads[1:], choice)).results) == ["next.png"]


def test_a_picture_of_too_many_pixels_is_refused_before_they_are_decoded(page, choice, tmp_path):
    uploads = upload(tmp_path / "root", {"huge.png": head(13300, 13300), "next.png": png()})
    run = last(page.restore("visitor", uploads, choice))
    sentence = "huge.png: has 177 megapixels, and this page takes at most 64; make the picture smaller, or cut it up."
    assert (run.failures, list(run.results)) == ([sentence], ["next.png"])
    with pytest.raises(UserError, match="broken or cut short"):  # so 24 megapixels are not too many
        read_limited(*upload(tmp_path, {"camera.png": head(6000, 4000)}), OPTIONS.max_megapixels)


def test_a_program_under_the_name_of_a_picture_is_not_run(page, choice, tmp_path):
    """Pillow would give EPS to Ghostscript."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9000 9000\n%%EndComments\nshowpage\n"
    run = last(page.restore("visitor", upload(tmp_path / "root", {"a.png": eps}), choice))
    assert run.failures == ["a.png: not a picture, or of a kind that cannot be read."]


def test_pixels_are_counted_again_if_the_head_does_not_state_them(tmp_path, monkeypatch):
    (path,) = upload(tmp_path, {"a.png": png(size=100)})
    monkeypatch.setattr("mprnet.apps.page.limits.read_size", lambda path: None)
    assert read_limited(path, 0.01).pixels.shape == (100, 100, 3)
    with pytest.raises(UserError, match=r"has 0\.01 megapixels, and this page takes at most 0\.009"):
        read_limited(path, 0.009)


def test_a_picture_that_takes_too_long_is_stopped(identity, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    options = argparse.Namespace(**{**vars(OPTIONS), "max_minutes": 1e-6})
    page = Sessions(Restorers(ROOT, options), root, "png")
    run = last(page.restore("visitor", upload(root, {"a.png": png()}), Choice("Denoising", identity, 1, False, False)))
    page.close()
    (sentence,) = run.failures
    assert sentence.startswith("a.png: takes longer than 1e-06 minutes, the limit of this page; choose")
    assert run.results == {}


class SlowRestorers:
    """Restorers that note the pictures, and finish one only when the test says so."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.go = threading.Semaphore(0)

    def restore(self, job, choice, run):
        self.order.append(job.source.name)
        self.go.acquire()
        return job.source, job.source


@pytest.fixture
def slow(page) -> SlowRestorers:
    page._restorers = SlowRestorers()
    yield page._restorers
    page._restorers.go.release(100)


def test_visitors_take_turns_picture_by_picture(page, slow, choice, tmp_path):
    pictures = {name: upload(tmp_path / "root", {f"{name}{n}.png": png() for n in (1, 2, 3)}) for name in "abc"}
    runs = {name: page.restore(name, pictures[name], choice) for name in "abc"}
    states = {name: next(runs[name]) for name in "abc"}
    assert [states[name].ahead for name in "abc"] == [0, 1, 2]
    assert "waits at position 3: 2 pictures of other visitors first" in format_status(states["c"])
    assert "waits at position 2: 1 picture of other visitors first" in format_status(states["b"])
    assert "waits" not in format_status(states["a"])
    with ThreadPoolExecutor(3) as threads:
        ends = [threads.submit(last, runs[name]) for name in "abc"]
        for done in range(9):
            while len(page._turns) < min(3, 9 - done) or len(slow.order) <= done:
                time.sleep(0.001)
            slow.go.release()
        assert [len(end.result().results) for end in ends] == [3, 3, 3]
    assert slow.order == [f"{name}{n}.png" for n in (1, 2, 3) for name in "abc"]


def test_a_visitor_who_cancels_gives_up_the_turn(page, slow, choice, tmp_path):
    pictures = upload(tmp_path / "root", {f"{n}.png": png() for n in range(3)})
    runs = [page.restore(str(n), [picture], choice) for n, picture in enumerate(pictures)]
    states = [next(run) for run in runs]
    runs[1].close()  # as Gradio does
    assert next(runs[2]).ahead == 1
    slow.go.release(2)
    assert list(last(runs[2]).results) == ["2.png"]
    assert slow.order == ["0.png", "2.png"]
    assert states[1].results == {}


def test_too_many_visitors_are_turned_away(page, slow, choice, tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "_MOST_RUNS", 1)
    uploads = upload(tmp_path / "root", {"a.png": png()})
    runs = page.restore("one", uploads, choice)
    next(runs)
    with pytest.raises(UserError, match="1 visitors are waiting already; try again in a few minutes"):
        next(page.restore("two", uploads, choice))
    again = page.restore("one", uploads, choice)  # replaces the own run
    next(again)
    slow.go.release(2)
    last(again)
    slow.go.release()
    assert list(last(page.restore("two", uploads, choice)).results) == ["a.png"]


def test_the_strength_needs_no_new_network(page, tmp_path):
    write_weights(tmp_path / "tiny.pth")
    choice = Choice("Denoising", tmp_path / "tiny.pth", None, False, False)
    uploads = upload(tmp_path / "root", {"a.png": png(90), "b.png": png(200)})
    pixels = {}
    for strength in (1.0, 0.0, 0.5):
        run = last(page.restore("visitor", uploads[:1], replace(choice, strength=strength)))
        pixels[strength] = cv2.imread(str(run.results["a.png"])).astype(float)
    assert np.abs(pixels[1.0] - 90).max() > 2
    assert np.all(pixels[0.0] == 90)
    assert np.abs(pixels[0.5] - (pixels[1.0] + 90) / 2).max() <= 1
    first, second = (page._restorers._get(replace(choice, strength=strength))[0] for strength in (0.3, 0.8))
    assert first is second
    run = last(page.restore("visitor", uploads, replace(choice, strength=2.0)))  # as a visitor's program can send
    assert run.failures == [f"{name}: strength is a number from 0 to 1, not 2.0." for name in ("a.png", "b.png")]


def test_examples_are_the_first_pictures_of_each_task(tmp_path):
    for name in ("One/b10.png", "One/b9.png", "One/a.txt", "One/c.jpg", "Two/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_examples(tmp_path, ["One", "Two", "Three"]) == {"One": [f"{tmp_path}/One/b{n}.png" for n in (9, 10)]}
    assert find_examples(None, ["One"]) == {}


def test_the_last_two_networks_are_cached(identity):
    restorers = Restorers(ROOT, OPTIONS)
    choices = [Choice("Denoising", identity, stage, False, False) for stage in (1, 2, 3)]
    first = [restorers._get(choice)[0] for choice in choices]
    assert restorers._get(choices[2])[0] is first[2]
    assert restorers._get(choices[1])[0] is first[1]
    assert restorers._get(choices[0])[0] is not first[0]


def test_files_are_removed_when_their_visitor_leaves_or_after_some_time(page, choice, tmp_path, monkeypatch):
    root = tmp_path / "root"
    own, shared = upload(root, {"a.png": png(), "b.png": png()})
    page.note_uploads("one", [own, shared])
    page.note_uploads("two", [shared])
    run = last(page.restore("one", [own, shared], choice))
    page.leave("one")
    page._worker.submit(bool).result()
    assert not run.folder.exists()
    assert not own.exists()
    assert shared.exists()
    run = last(page.restore("two", [shared], choice))
    page.remove_old()
    assert shared.exists()
    monkeypatch.setattr(sessions, "_IDLE", -1)
    page.remove_old()
    page._worker.submit(bool).result()
    assert list(root.iterdir()) == []


def test_files_of_the_page_itself_are_never_removed(page, tmp_path, monkeypatch):
    (own,) = upload(tmp_path / "root", {"example.png": png()})
    page.keep_present_files()
    (other,) = upload(tmp_path / "root", {"a.png": png()})
    page.note_uploads("visitor", [own, other])  # a visitor can choose an example
    page.leave("visitor")
    assert (own.exists(), other.exists()) == (True, False)
    monkeypatch.setattr(sessions, "_IDLE", -1)
    page.remove_old()
    assert own.exists()


def test_only_uploads_are_restored_and_removed(page, choice, tmp_path):
    """A visitor's program can send any path: folders of the page, other visitors' results, any file of the machine."""
    root = tmp_path / "root"
    (own,) = upload(root, {"a.png": png()})
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    link = root / "link.png"
    link.symlink_to(secret)
    (linked,) = upload(root, {"b.png": b""})
    linked.unlink()
    linked.symlink_to(secret)
    others = last(page.restore("other", [own], choice))
    result = others.results["a.png"]
    for path in (secret, link, linked, root, own.parent, others.folder, result, others.folder / "in" / "a.png"):
        run = last(page.restore("visitor", [path], choice))
        assert run.failures == [f"{path.name}: has not been uploaded; choose it again."]
        page.note_uploads("visitor", [path])
        page.leave("visitor")
    assert secret.exists()
    assert result.exists()
    assert own.exists()


def test_a_missing_gradio_is_reported(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'the page needs Gradio: pip install "mprnet\[web\]"'):
        server.serve(ROOT, ["Denoising"], OPTIONS, None)


def test_the_weights_to_choose_are_those_on_the_disk(tmp_path):
    folder = tmp_path / "Denoising" / "pretrained_models"
    folder.mkdir(parents=True)
    assert available_weights(folder.parent) == {}
    for name in ("model_denoising_plus.safetensors", "model_denoising.pth", "model_denoising_other.safetensors"):
        (folder / name).touch()
    assert list(available_weights(folder.parent)) == ["published", "plus"]


DEMO = (ROOT / "demo.py", "--task", "Denoising", "--device", "cpu")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--input_dir", "somewhere"], "--input_dir does not go with --web"),
        (["--compare"], "--compare does not go with --web"),
        (["--port", "99999"], "--port takes a number from 0 to 65535"),
        (["--host", "0.0.0.0", "--port", "0"], "--host 0.0.0.0 lets everybody in the network use the page: set a"),
        (["--max_minutes", "0"], "--max_minutes: takes a number above 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, sentence):
    if "--port" in arguments:
        pytest.importorskip("gradio")
    run = programs.run(*DEMO, "--web", *arguments)
    assert run.returncode in (1, 2)
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("option", ["--port", "--host", "--auth", "--allow_host", "--max_megapixels", "--max_minutes"])
def test_options_of_the_page_need_web(monkeypatch, capsys, option):
    monkeypatch.setattr("sys.argv", ["demo.py", "--task", "Denoising", option, "80"])
    with pytest.raises(SystemExit) as caught:
        restore.main(ROOT, ROOT / "samples")
    assert caught.value.code == 2
    assert f"{option} goes with --web" in capsys.readouterr().err


class AllAddressesArePublic(NamedTuple):
    """Lets Gradio fetch from this machine, too: it would refuse that, but fetch from others."""

    def prepare(self) -> None:
        import safehttpx

        safehttpx.is_public_ip = lambda address: True


@pytest.fixture(scope="module")
def served(identity, tmp_path_factory) -> Iterator[tuple[str, programs.Program]]:
    """The address and the program of a page whose network changes nothing. It must remove its files at its end."""
    pytest.importorskip("gradio")
    temporary = tmp_path_factory.mktemp("page") / "temporary"
    temporary.mkdir()
    options = ["--weights", identity, "--max_megapixels", 1.5, "--allow_host", "page.example"]
    environment = {"TMPDIR": temporary, "MPRNET_AUTH": ":".join(LOGIN)}
    program = programs.Program(
        *DEMO, "--web", "--port", 0, *options, cwd=temporary, stop=AllAddressesArePublic(), **environment
    )
    try:
        program.wait_until(lambda: "open http://127.0.0.1:" in program.stdout)
        yield re.search(r"http://[^\s;]+", program.stdout)[0], program
        stderr = program.stderr
    finally:
        program.send_signal(signal.SIGTERM)
        ended = program.wait()
    assert ended.returncode == 128 + signal.SIGTERM
    remaining = [path for path in temporary.iterdir() if not path.name.startswith("torchinductor_")]  # made by PyTorch
    assert remaining == []
    assert "Traceback" not in stderr, stderr


@contextlib.contextmanager
def client(address: str) -> Iterator[Any]:
    """A program that sends plain requests, with the password."""
    import httpx

    with httpx.Client(base_url=address, auth=LOGIN, trust_env=False, timeout=120) as made:
        yield made


@contextlib.contextmanager
def counting_server() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of another server, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png())

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{other.server_port}", paths
        finally:
            other.shutdown()


def resident_memory(process: int) -> int:
    """Return how many bytes of memory a process uses."""
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1])


def restore_on_page(address: str, name: str, data: bytes) -> str:
    """Upload and restore a picture as the page's script does. Return the last message of the server, in JSON."""
    with client(address) as http_client:
        (path,) = http_client.post("/gradio_api/upload", files={"files": (name, data)}).json()
        (call,) = [call for call in read_calls(http_client) if len(call["inputs"]) == 7]
        file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        session = uuid.uuid4().hex
        body = {"data": [[file], *CHOICES], "fn_index": call["id"], "session_hash": session}
        http_client.post("/gradio_api/queue/join", json=body).raise_for_status()
        with http_client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:") and json.loads(line[5:])["msg"] == "process_completed":
                    return line
    raise AssertionError("the server has closed the connection")


# As a visitor's program sends them: task, weights, stage, local pooling, ensemble, strength.
CHOICES = ["Denoising", "identity.pth", "last", False, False, 1]


def read_calls(http_client: Any) -> list[dict[str, Any]]:
    """Return the functions that the page offers to programs."""
    return http_client.get("/config").json()["dependencies"]


def test_no_url_is_fetched_and_no_other_file_is_copied(served, tmp_path):
    """Gradio would copy it to its own folder, from where a visitor could download it."""
    address, _ = served
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    with client(address) as http_client, counting_server() as (other, paths):
        assert http_client.get(f"/gradio_api/proxy={other}/proxy.png").status_code == 404
        for place in (f"{other}/file.png", secret, f"file://{secret}"):
            assert http_client.get(f"/gradio_api/file={place}").status_code == 403
        calls = [call for call in read_calls(http_client) if call["inputs"]]
        assert len(calls) >= 6
        for place in (f"{other}/a.png", str(secret), f"file://{secret}"):
            file = {"path": place, "url": place, "meta": {"_type": "gradio.FileData"}}
            for call in calls:
                for data in ([[file], *CHOICES], [file] * 7):  # no input of any function takes it
                    body = {"data": data[: len(call["inputs"])], "fn_index": call["id"], "session_hash": "x"}
                    route = "queue/join" if call["queue"] else "run/predict"
                    assert http_client.post(f"/gradio_api/{route}", json=body).status_code == 403
        assert paths == []


def test_other_sites_and_strangers_are_refused(served):
    import httpx

    address, program = served
    with client(address) as http_client:
        assert http_client.get("/").status_code == 200
        assert http_client.get("/", headers={"Host": "page.example"}).status_code == 200
        assert http_client.get("/", headers={"Host": "evil.example"}).status_code == 400
        for origin, expected in (("https://page.example", 200), ("http://evil.example", 403)):
            files = {"files": ("a.png", png())}
            answer = http_client.post("/gradio_api/upload", files=files, headers={"Origin": origin})
            assert answer.status_code == expected
        calls = [call for call in read_calls(http_client) if call["queue"]]
        body = {"data": [None, *CHOICES], "fn_index": calls[0]["id"], "session_hash": "x"}
        assert http_client.post("/gradio_api/run/predict", json=body).status_code == 404  # not past the queue
    assert httpx.get(address, trust_env=False).status_code == 401
    assert LOGIN[1] not in program.stdout + program.stderr


def test_a_picture_of_too_many_megapixels_is_refused_in_a_sentence(served):
    answer = restore_on_page(served[0], "large.png", head(2000, 1000))
    assert "large.png: has 2 megapixels, and this page takes at most 1.5; make the picture smaller" in answer


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc, as on Linux")
def test_twenty_visitors_at_a_time_get_their_results(served):
    address, program = served
    files = [(f"{n}.png", png(n, 300)) for n in range(19)] + [("bad.png", b"no picture")]
    used_memory = []
    with ThreadPoolExecutor(20) as visitors:
        for _ in range(2):  # in the first round, things are loaded once
            answers = list(visitors.map(lambda file: restore_on_page(address, *file), files))
            assert sum("1 of 1 pictures restored" in answer for answer in answers) == 19
            assert sum("bad.png: not a picture" in answer for answer in answers) == 1
            used_memory.append(resident_memory(program.pid))
    assert used_memory[1] - used_memory[0] < 2**27


def open_page(browser: Any) -> Any:
    """Return a new tab, as on a telephone, of a visitor who knows the password."""
    login = {"username": LOGIN[0], "password": LOGIN[1]}
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, http_credentials=login)
    context.set_default_timeout(120_000)  # milliseconds, because the machine can be busy
    return context.new_page()


def test_other_names_and_other_sites_are_refused_in_a_browser(served, browser):
    page = open_page(browser)
    port = urlsplit(served[0]).port
    assert page.goto(f"http://evil.example:{port}").status == 400
    with counting_server() as (other_site, _):
        page.goto(other_site)
        for request in (
            f"fetch('{served[0]}/gradio_api/upload', {{method: 'POST', mode: 'no-cors', body: new FormData()}})",
            f"fetch('{served[0]}/config', {{mode: 'no-cors'}})",
            f"document.body.appendChild(document.createElement('iframe')).src = '{served[0]}'",
        ):
            with page.expect_response(lambda response: response.url.startswith(served[0])) as answer:
                page.evaluate(f"() => {{ {request} }}")
            assert answer.value.status == 403, request


def test_an_example_is_restored_with_a_strength_in_a_browser(served, browser):
    page = open_page(browser)
    page.goto(served[0])
    accepted = page.locator("input[type=file]").first.get_attribute("accept").split(", ")
    assert {".png", ".jpg", ".tif"} <= set(accepted)
    assert not {".txt", ".pdf", ".eps"} & set(accepted)
    assert page.get_by_role("radio", name="Denoising").is_checked()
    button = page.get_by_role("button", name="Restore")
    assert button.is_disabled()
    examples = page.locator("#examples button")
    assert examples.count() == 6
    examples.nth(4).click()  # the first one of the third task
    page.wait_for_function("button => !button.disabled", arg=button.element_handle())
    page.wait_for_function("radio => radio.checked", arg=page.get_by_role("radio", name="Deraining").element_handle())
    strength = page.get_by_label("number input for Strength")
    strength.fill("0")
    strength.blur()
    page.get_by_role("radio", name="1", exact=True).check()  # the fastest
    button.click()
    page.get_by_text("1 of 1 pictures restored").wait_for()
    with page.expect_download() as download:
        page.locator("#results a[download='astronaut.png']").click()
    sample = ROOT / "samples" / "input" / "Deraining" / "astronaut.png"
    # Not the network's result, but the picture itself.
    assert np.array_equal(cv2.imread(str(download.value.path())), cv2.imread(str(sample)))
    assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert page.evaluate("indexedDB.databases()") == []
    assert page.context.cookies() == []
    page.context.close()


def test_a_picture_is_restored_in_a_browser(served, browser, identity, tmp_path):
    address, _ = served
    page = open_page(browser)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    right, wrong = odd_files.right(), odd_files.wrong()
    files = {"large.png": png(60, 1000), "rgb16.png": right["rgb16.png"][0], "cut.jpg": wrong["cut.jpg"][0]}
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    page.locator("input[type=file]").first.set_input_files([tmp_path / "in" / name for name in files])
    button = page.get_by_role("button", name="Restore")
    page.wait_for_function("button => !button.disabled", arg=button.element_handle())
    button.click()
    page.locator("progress").wait_for()
    page.get_by_text("2 of 3 pictures restored").wait_for()
    assert "cut.jpg: broken or cut short" in page.locator("#status").inner_text()

    slider = page.get_by_test_id("slider").first
    slider.scroll_into_view_if_needed()
    left = slider.evaluate("element => element.style.transform")
    box = slider.locator(".inner").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 80, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert slider.evaluate("element => element.style.transform") != left

    run = programs.run(*DEMO, "--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity)
    assert run.returncode == 1
    for name in ("large.png", "rgb16.png"):
        with page.expect_download() as download:
            page.locator(f"#results a[download='{name}']").click()
        assert Path(download.value.path()).read_bytes() == (tmp_path / "out" / name).read_bytes()

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert {urlsplit(url).hostname for url in requests if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    page.context.close()
