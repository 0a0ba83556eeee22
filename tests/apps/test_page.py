"""The page: its functions without a browser, then the whole page with Chromium."""

import argparse
import contextlib
import importlib.util
import json
import re
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import programs
import pytest
from conftest import ROOT

from apps import odd_files
from mprnet import UserError
from mprnet.apps.page import server, sessions
from mprnet.apps.page.restoring import Choice, Restorers, Run
from mprnet.apps.page.sessions import Sessions
from mprnet.inference.folder import restore_all
from mprnet.inference.jobs import plan_jobs
from mprnet.tasks import available_weights

OPTIONS = argparse.Namespace(
    device="cpu", precision="fp32", tile="auto", memory=None, training_patch=None, compile=False
)


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
        time.sleep(0.001)
    page.cancel("visitor")
    run = last(runs)
    assert (run.total, run.results, run.failures) == (2, {}, [])  # no result of the picture that was cancelled
    assert list(last(page.restore("visitor", uploads[1:], choice)).results) == ["next.png"]


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
        server.serve(ROOT, ["Denoising"], OPTIONS)


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
    ],
)
def test_wrong_arguments_are_refused(arguments, sentence):
    if "--port" in arguments:
        pytest.importorskip("gradio")
    run = programs.run(*DEMO, "--web", *arguments)
    assert run.returncode in (1, 2)
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


def test_options_of_the_page_need_web():
    run = programs.run(*DEMO, "--port", 80)
    assert run.returncode == 2
    assert "--port goes with --web" in run.stderr


@contextlib.contextmanager
def serving(identity: Path, temporary: Path) -> Iterator[tuple[str, programs.Program]]:
    """Serve a page whose network changes nothing. Yield its address and program; check that it removes its files."""
    temporary.mkdir()
    program = programs.Program(*DEMO, "--web", "--port", 0, "--weights", identity, cwd=temporary, TMPDIR=temporary)
    try:
        program.wait_until(lambda: "open http://127.0.0.1:" in program.stdout)
        yield re.search(r"http://\S+", program.stdout)[0], program
    finally:
        program.send_signal(signal.SIGTERM)
        ended = program.wait()
    assert ended.returncode == 128 + signal.SIGTERM
    remaining = [path for path in temporary.iterdir() if not path.name.startswith("torchinductor_")]  # made by PyTorch
    assert remaining == []


@pytest.fixture(scope="module")
def served(identity, tmp_path_factory) -> Iterator[tuple[str, int]]:
    """A page's address, and the number of its process."""
    pytest.importorskip("gradio")
    with serving(identity, tmp_path_factory.mktemp("page") / "temporary") as (address, program):
        yield address, program.pid
        stderr = program.stderr
    assert "Traceback" not in stderr, stderr


def resident_memory(process: int) -> int:
    """Return how many bytes of memory a process uses."""
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1])


def restore_on_page(address: str, name: str, data: bytes) -> str:
    """Upload and restore a picture as the page's script does. Return the last message of the server, in JSON."""
    import httpx

    with httpx.Client(base_url=address, trust_env=False, timeout=120) as client:
        (path,) = client.post("/gradio_api/upload", files={"files": (name, data)}).json()
        calls = client.get("/config").json()["dependencies"]
        (call,) = [call for call in calls if len(call["inputs"]) == 6]
        file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        session = uuid.uuid4().hex
        body = {"data": [[file], "Denoising", "identity.pth", "last", False, False], "fn_index": call["id"]}
        client.post("/gradio_api/queue/join", json=body | {"session_hash": session}).raise_for_status()
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:") and json.loads(line[5:])["msg"] == "process_completed":
                    return line
    raise AssertionError("the server has closed the connection")


def test_gradio_accepts_no_other_file_of_this_machine(identity, tmp_path):
    """Gradio must not copy a file to its own folder, because a visitor could download it from there."""
    pytest.importorskip("gradio")
    import httpx

    secret = tmp_path / "secret.txt"
    secret.write_text("my secret")
    with serving(identity, tmp_path / "temporary") as (address, program):
        with httpx.Client(base_url=address, trust_env=False, timeout=120) as client:
            calls = client.get("/config").json()["dependencies"]
            for call in (call for call in calls if call["inputs"]):
                file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
                data = [[file], "Denoising", "identity.pth", "last", False, False][: len(call["inputs"])]
                body = {"data": data, "fn_index": call["id"], "session_hash": uuid.uuid4().hex}
                client.post(f"/gradio_api/{'queue/join' if call['queue'] else 'run/predict'}", json=body)
            assert client.get(f"/gradio_api/file={secret}").status_code in (403, 404)
        stderr = program.stderr
        copies = [path for path in (tmp_path / "temporary").rglob("*") if path.name == secret.name]
    assert copies == []
    assert "was not uploaded by a user" in stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc, as on Linux")
def test_twenty_visitors_at_a_time_get_their_results(served):
    address, process = served
    files = [(f"{n}.png", png(n, 300)) for n in range(19)] + [("bad.png", b"no picture")]
    used_memory = []
    with ThreadPoolExecutor(20) as visitors:
        for _ in range(2):  # in the first round, things are loaded once
            answers = list(visitors.map(lambda file: restore_on_page(address, *file), files))
            assert sum("1 of 1 pictures restored" in answer for answer in answers) == 19
            assert sum("bad.png: not a picture" in answer for answer in answers) == 1
            used_memory.append(resident_memory(process))
    assert used_memory[1] - used_memory[0] < 2**27


def test_a_picture_is_restored_in_a_browser(served, browser, identity, tmp_path):
    address, _ = served
    page = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True).new_page()
    page.set_default_timeout(120_000)  # milliseconds, because the machine can be busy
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
