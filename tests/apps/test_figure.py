import shutil
import subprocess

import cv2
import programs
import pytest
from conftest import ROOT
from PIL import Image

SAMPLES = ROOT / "samples"


def figure(*arguments: object) -> subprocess.CompletedProcess[str]:
    return programs.run("-m", "mprnet.apps.figure", *arguments, cwd=ROOT)


def test_the_folders_of_two_methods_are_compared(tmp_path):
    inputs, targets = SAMPLES / "input", SAMPLES / "target" / "Denoising"
    methods = [f"noise={inputs / 'Denoising'}", f"rain={inputs / 'Deraining'}"]
    out = tmp_path / "figure.png"
    done = figure("compare", *methods, "--target", targets, "--crop", "coffee:10,20,30,40", "--out", out)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(out)).shape[0] > 500  # four rows
    done = figure("compare", *methods, "--images", "coffee", "--side", 50, "--out", out)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(out)).shape[0] < 400


def test_methods_without_a_picture_in_common_are_refused(tmp_path):
    pictures = sorted((SAMPLES / "input" / "Denoising").glob("*.png"))[:2]
    for picture in pictures:
        (tmp_path / picture.stem).mkdir()
        shutil.copy(picture, tmp_path / picture.stem)
    one, two = (tmp_path / picture.stem for picture in pictures)
    targets = SAMPLES / "target" / "Denoising"
    done = figure("compare", f"one={one}", f"two={two}", "--target", targets, "--out", tmp_path / "x.png")
    assert done.returncode == 1
    assert "one, two have no picture in common" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_images_of_the_stages_are_drawn(tmp_path):
    weights = ROOT / "Denoising" / "pretrained_models" / "model_denoising_lite.safetensors"
    pairs = [SAMPLES / side / "Denoising" for side in ("input", "target")]
    done = figure("stages", "--weights", weights, "--pairs", *pairs, "--images", "rocket", "--out", tmp_path / "s.png")
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "s.png")).shape[1] == 6 * 324 + 4


def test_the_curves_of_two_runs_are_drawn(tmp_path):
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "log.csv").write_text("epoch,step,loss,psnr,input_psnr\n1,10,0.5,,\n2,20,0.4,30,25\n")
    done = figure("curves", tmp_path / "one", tmp_path / "two" / "log.csv", "--out", tmp_path / "curves.pdf")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_special_characters_in_names_and_titles_are_drawn_as_text(tmp_path):
    """Matplotlib would read text between two dollar signs as a formula."""
    (tmp_path / "in").mkdir()
    picture = Image.open(next((SAMPLES / "input" / "Denoising").iterdir()))
    picture.save(tmp_path / "in" / "cost $5_{a and $6.png")
    title = ["--title", "$x^ 100% $a_{"]
    done = figure("compare", f"$a_{{ $b={tmp_path / 'in'}", *title, "--out", tmp_path / "x.svg")
    assert done.returncode == 0, done.stderr
    for run in ("$a_{", "$b^"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "log.csv").write_text("epoch,step,loss\n1,10,0.5\n2,20,0.4\n")
    done = figure("curves", tmp_path / "$a_{", tmp_path / "$b^", "--out", tmp_path / "curves.png")
    assert done.returncode == 0, done.stderr


def test_a_log_with_a_wrong_value_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,step,loss\n1,10,0.5\n2,20,x\n")
    done = figure("curves", tmp_path, "--out", tmp_path / "curves.png")
    assert done.returncode == 1
    assert "log.csv of a run: line 3 holds something that is not a number" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "a=nowhere", "--out", "x.png"], "no folder nowhere"),
        (["compare", "nowhere", "--out", "x.png"], "takes NAME=DIR, not nowhere"),
        (["compare", f"a={SAMPLES / 'input/Denoising'}", "--out", "x.bmp"], "written as .png or .pdf or .svg"),
        (["compare", f"a={SAMPLES / 'input/Denoising'}", "--images", "you", "--out", "x.png"], "no picture you"),
        (
            ["compare", f"a={SAMPLES / 'input/Denoising'}", "--crop", "1,2", "--out", "x.png"],
            "takes LEFT,TOP,WIDTH,HEIGHT",
        ),
        (
            ["compare", f"a={SAMPLES / 'input/Denoising'}", "--crop", "250,0,20,20", "--out", "x.png"],
            "256x256 pixels, and the crop 250,0,20,20 is not inside it",
        ),
        (["curves", "nowhere", "--out", "x.png"], "a run's folder holds a log.csv"),
        (["stages", "--weights", "no.pth", "--pairs", "a", "b", "--out", "x.png"], "there is no folder a"),
    ],
)
def test_wrong_arguments_are_refused(arguments, sentence):
    done = figure(*arguments)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
