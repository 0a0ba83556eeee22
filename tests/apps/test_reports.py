import base64
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import programs
import pytest
from conftest import ROOT

from mprnet.data.png import write_png
from mprnet.metrics import psnr

ODD = '<b onclick="x()">&amp; {{ 7 * 7 }}.png'


def run(script: str, *arguments: object) -> str:
    done = programs.run(ROOT / script, *arguments, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return done.stdout


def add_noise(clean: np.ndarray, sigma: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.rint(np.clip(clean + sigma * rng.standard_normal(clean.shape), 0, 255)).astype(np.uint8)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Three pictures with an increasing amount of noise, and their targets."""
    folder = tmp_path_factory.mktemp("pairs")
    clean = np.tile(np.linspace(0, 255, 40, dtype=np.uint8)[:, None, None], (1, 56, 3))
    for name, sigma in (("little.png", 5), (ODD, 30), ("much.png", 60)):
        for side, image in (("input", add_noise(clean, sigma)), ("target", clean)):
            (folder / side).mkdir(exist_ok=True)
            write_png(folder / side / name, image)
    return folder


@pytest.fixture(scope="module")
def scored(pairs, tmp_path_factory) -> Path:
    """The report that test.py writes."""
    results = tmp_path_factory.mktemp("results")
    folders = ["--pairs", pairs / "input", pairs / "target", "--result_dir", results]
    output = run("Denoising/test.py", *folders, "--grade", "lite", "--workers", 0, "--stagewise", "--report")
    path = results / "pairs" / "report.html"
    assert f"look into {path}" in output
    return path


def read_images(text: str) -> list[np.ndarray]:
    """Return all pictures in an HTML file, RGB."""
    data = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(d), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1] for d in data]


def test_a_report_needs_no_other_file(scored):
    text = scored.read_text()
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["'](?!data:image/jpeg|#)|@import|url\(""", text)
    assert len(read_images(text)) == 3 * 6  # input, stages 1 and 2, result, target, error


def test_a_report_shows_the_worst_images_first(scored, pairs):
    text = scored.read_text()
    rows = re.findall(r"<h2 id=.*?>(.*?)</h2>", text)
    assert [rows[0], rows[2]] == ["much", "little"]
    first = read_images(text)[:6]
    assert psnr(first[0], cv2.imread(str(pairs / "input" / "much.png"))[:, :, ::-1]) > 30  # not equal, because of JPEG
    assert psnr(first[4], cv2.imread(str(pairs / "target" / "much.png"))[:, :, ::-1]) > 40
    assert psnr(first[3], first[4]) > psnr(first[0], first[4]) + 5


def test_html_in_file_names_is_shown_as_text(scored):
    text = scored.read_text()
    assert "<b onclick" not in text
    assert "&lt;b onclick=&#34;x()&#34;&gt;&amp;amp; {{ 7 * 7 }}" in text


def test_a_report_says_how_the_results_were_made(scored):
    text = scored.read_text()
    weights = ROOT / "Denoising" / "pretrained_models" / "model_denoising_lite.safetensors"
    assert subprocess.run(["sha256sum", weights], capture_output=True, check=True).stdout.split()[0].decode() in text
    assert "fp32" in text


def test_the_report_of_a_folder(pairs, tmp_path):
    shutil.copytree(pairs / "input", tmp_path / "in")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    folders = ["--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out"]
    options = ["--task", "Denoising", "--grade", "lite", "--strength", 0, "--report"]
    done = programs.run(ROOT / "demo.py", *options, *folders)
    assert done.returncode == 1  # because of the broken picture
    for path in (pairs / "input").iterdir():  # the network's result is not used
        assert np.array_equal(cv2.imread(str(tmp_path / "out" / path.name)), cv2.imread(str(path)))
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<td>strength</td><td>0.0</td>" in text
    assert "3 pictures, restored" in text
    assert len(read_images(text)) == 6
    assert "model_denoising_lite.safetensors" in text


def test_a_report_in_a_browser(scored, browser):
    """There are no requests and no messages. Two images are visible, others can be chosen, and the slider moves."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(scored.as_uri())
    figure = page.locator(".figure").first
    visible = figure.locator("img:visible")
    assert [visible.nth(n).get_attribute("alt") for n in range(2)] == ["much: input", "much: result"]
    figure.locator("select[data-side=right]").select_option(label="target")
    assert [visible.nth(n).get_attribute("alt") for n in range(2)] == ["much: input", "much: target"]
    figure.locator("input[type=range]").fill("20")
    assert "20%" in figure.locator(".stack").get_attribute("style")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert messages == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page.close()
