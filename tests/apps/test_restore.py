import argparse
import io
import itertools
import operator
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import programs
import pytest
import torch
from conftest import ROOT
from PIL import Image

import mprnet.apps.restore
import mprnet.data
from apps import odd_files
from mprnet import Restorer, UserError, save_weights
from mprnet.inference.distributed import World
from mprnet.inference.folder import restore_all
from mprnet.inference.jobs import find_photos, plan_jobs
from mprnet.inference.outcomes import Report

DEMO = (ROOT / "demo.py", "--task", "Denoising", "--device", "cpu")


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    return programs.run(*DEMO, *arguments)


def write_png(path: Path, value: int = 100, size: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(path)


def check(data: bytes, expected: odd_files.Expected) -> None:
    result = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    image = Image.open(io.BytesIO(data))
    if expected.array.ndim == 3 and expected.array.shape[2] == 2:
        # OpenCV reads grey with alpha as four channels.
        assert data[25] == 4  # colour type of the PNG (Pillow reads this type with 16 bits as RGBA)
        result = result[:, :, 2:]
    elif expected.array.ndim == 3:
        result = result[:, :, [2, 1, 0, 3][: result.shape[2]]]
    assert result.dtype == expected.array.dtype
    assert result.shape == expected.array.shape
    difference = np.abs(result.astype(int) - expected.array.astype(int)).max()
    assert difference <= expected.tolerance
    assert image.info.get("icc_profile") == expected.icc
    assert image.getexif().get(274, 1) == 1
    if expected.camera:
        assert image.getexif()[271] == expected.camera
        assert image.getexif().get_ifd(0x8769)[36867] == "2020:02:02 02:02:02"


def test_a_folder_of_unusual_files(identity, tmp_path):
    source, results = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    right, wrong = odd_files.right(), odd_files.wrong()
    assert len(right) + len(wrong) >= 40
    for name, (data, _) in (right | wrong).items():
        (source / name).write_bytes(data)
    (source / "notes.txt").write_text("not a picture, and no failure")
    (source / ".hidden.png").write_text("a hidden file")
    (source / "dangling.png").symlink_to(tmp_path / "nowhere")
    (source / "circle.png").symlink_to(source / "circle.png")
    (source / "folder.png").mkdir()
    os.mkfifo(source / "pipe.png")
    with open(source / "sparse.png", "wb") as file:
        file.truncate(2**40)

    run = demo("--input_dir", source, "--result_dir", results, "--weights", identity)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert f"{len(right)} of {len(right) + len(wrong) + 4} pictures restored" in run.stdout
    errors = [line for line in run.stderr.replace("\r", "\n").splitlines() if "error: " in line]
    assert len(errors) == len(wrong) + 4
    for name, (_, sentence) in wrong.items():
        (line,) = [line for line in errors if f"/{name}:" in line]
        assert sentence in line, line

    renamed = {"same.jpg": "same_jpg", "same.jpeg": "same_jpeg", "turned16.tif": "turned16_tif", "rgb8.tif": "rgb8_tif"}
    renamed |= {"rgb16.tif": "rgb16_tif", "profile.jpg": "profile_jpg"}
    made = {path.name: path.read_bytes() for path in results.iterdir()}
    assert set(made) == {renamed.get(name, Path(name).stem) + ".png" for name in right}
    for name, (_, expected) in right.items():
        try:
            check(made[renamed.get(name, Path(name).stem) + ".png"], expected)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error

    again = demo("--input_dir", source, "--result_dir", results, "--weights", identity)
    assert again.returncode == 1
    assert {path.name: path.read_bytes() for path in results.iterdir()} == made


@pytest.mark.parametrize("format_", ["jpg", "tiff", "webp"])
def test_results_can_have_other_formats(identity, tmp_path, format_):
    right = odd_files.right()
    names = ["rgb8.png", "rgb16.png", "grey8.png", "profile.jpg", "rgba16.png", "grey_alpha8.png", "grey_alpha16.png"]
    for name in names:
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(right[name][0])
    run = demo(
        "--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity, "--format", format_
    )
    assert run.returncode == (1 if format_ == "jpg" else 0)
    suffix = {"jpg": ".jpg", "tiff": ".tif", "webp": ".webp"}[format_]
    for name in names:
        path = tmp_path / "out" / (Path(name).stem + suffix)
        expected = right[name][1]
        if format_ == "jpg" and "a" in name.replace("grey8", "").split(".")[0].removeprefix("profile"):
            assert not path.exists()
            continue
        array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        assert array.shape[:2] == expected.array.shape[:2]
        if format_ == "tiff":
            assert array.dtype == expected.array.dtype
            if name == "rgb16.png":
                assert np.array_equal(array[:, :, ::-1], expected.array)
        image = Image.open(io.BytesIO(path.read_bytes()))
        assert image.info.get("icc_profile") == expected.icc
        if expected.camera:
            assert image.getexif()[271] == expected.camera


def test_png_level_makes_smaller_files_of_the_same_pixels(identity, tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (8, 64, 3), np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(np.tile(rows, (8, 1, 1))).save(tmp_path / "in" / "a.png")
    sizes = []
    for words in ([], ["--png_level", "9"]):
        out = tmp_path / "out"
        run = demo("--input_dir", tmp_path / "in", "--result_dir", out, "--weights", identity, "--compare", *words)
        assert run.returncode == 0, run.stderr
        assert np.array_equal(np.asarray(Image.open(out / "a.png")), np.tile(rows, (8, 1, 1)))
        sizes.append([(out / name).stat().st_size for name in ("a.png", "a_compare.png")])
    assert all(2 * small < large for large, small in zip(*sizes, strict=True))


def test_recursive_keeps_subfolders_and_skips_the_results(identity, tmp_path):
    write_png(tmp_path / "a.png", 10)
    write_png(tmp_path / "deep" / "er" / "a.png", 20)
    for _ in range(2):
        run = demo("--input_dir", tmp_path, "--result_dir", tmp_path / "out", "--weights", identity, "--recursive")
        assert run.returncode == 0, run.stderr
        assert "2 of 2" in run.stdout
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert made == ["a.png", "deep/er/a.png"]


def test_links_to_folders_are_followed_once(identity, tmp_path):
    write_png(tmp_path / "elsewhere" / "b.png", 10)
    write_png(tmp_path / "in" / "a.png", 10)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "other_link").symlink_to(tmp_path / "elsewhere")
    folders = ("--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out")
    run = demo(*folders, "--weights", identity, "--recursive")
    assert "2 of 2 pictures" in run.stdout, run.stderr
    assert (tmp_path / "out" / "link" / "b.png").exists()


def test_a_files_name_gives_no_commands_to_a_terminal(identity, tmp_path):
    """A broken picture and a folder of other files, both named to clear the screen."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "\x1b[2Jbroken.png").write_bytes(b"none")
    (tmp_path / "in" / "\x1b[2Jnotes.txt").write_text("of another kind")
    run = demo("--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity)
    assert run.returncode == 1
    assert "\x1b[2J" not in run.stdout + run.stderr
    assert "\\x1b[2Jbroken.png" in run.stderr
    assert "\\x1b[2Jnotes.txt" in run.stdout


def test_a_name_that_is_too_long_fails_alone(identity, tmp_path):
    """The name of the source has 255 characters, the most that there can be; that of its result has one more."""
    long = "x" * 251
    for name in (f"{long}.jpg", "a.jpg", "b.png"):
        write_png(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("of another kind")
    (tmp_path / "in" / "lost.png").symlink_to("nowhere" * 40)
    (tmp_path / "in" / "circle.png").symlink_to(tmp_path / "in" / "circle.png")
    command = ["--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity]
    command += ["--format", "webp", "--compare", "--report"]
    for more, done in ([], "2 of 5 pictures restored:"), (["--skip_existing"], "0 of 5 pictures restored, 2 skipped:"):
        run = demo(*command, *more)
        assert run.returncode == 1
        assert "Traceback" not in run.stderr
        assert done in run.stdout
        assert "; 3 failed, see above" in run.stdout
        assert "1 file of other kinds left out: notes.txt" in run.stdout
        assert run.stderr.count(f"{long}.webp: cannot be written (File name too long)") == 1
        assert run.stderr.count("/lost.png: cannot be read") == run.stderr.count("/circle.png: cannot be read") == 1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.webp", "a_compare.webp", "b.webp", "b_compare.webp", "report.html"}


class BrokenDevice(NamedTuple):
    """Makes the network fail from the third picture on."""

    message: str

    def prepare(self) -> None:
        start = Restorer.start
        calls = itertools.count(1)

        def fail(restorer, images):
            if next(calls) > 2:
                raise RuntimeError(self.message)
            return start(restorer, images)

        Restorer.start = fail


@pytest.mark.parametrize(
    ("message", "options", "failed", "sentence"),
    [
        ("CUDA error: x", [], 7, "the device has failed 3 times in a row with the same error (RuntimeError: CUDA err"),
        ("unknown", ["--verbose"], 7, "9.png: cannot be restored (RuntimeError: unknown)."),
    ],
)
def test_unknown_errors_of_the_network_end_in_sentences(identity, tmp_path, message, options, failed, sentence):
    for number in range(1, 10):
        write_png(tmp_path / "in" / f"{number}.png")
    command = ["--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity]
    run = programs.run(*DEMO, *command, *options, stop=BrokenDevice(message))
    assert run.returncode == 1
    assert ("Traceback" in run.stderr) == ("--verbose" in options)
    assert sentence in run.stderr
    assert f"2 of 9 pictures restored: look into {tmp_path / 'out'}; {failed} failed, see above" in run.stdout
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_results_that_are_not_finite_are_refused(tiny, tmp_path):
    with torch.no_grad():
        for parameter in tiny.parameters():
            parameter.mul_(1e12)
    save_weights(tiny, tmp_path / "huge.pth")
    write_png(tmp_path / "in" / "a.png")
    run = demo("--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", tmp_path / "huge.pth")
    assert run.returncode == 1
    assert "not finite" in run.stderr
    assert not list((tmp_path / "out").iterdir())


def test_one_picture_is_restored_with_a_comparison(identity, tmp_path):
    write_png(tmp_path / "in" / "a.png", 30)
    run = demo("--input_dir", tmp_path / "in" / "a.png", "--result_dir", tmp_path, "--weights", identity, "--compare")
    assert run.returncode == 0, run.stderr
    beside = cv2.imread(str(tmp_path / "a_compare.png"))
    assert beside.shape == (9, 9 + 8 + 9, 3)
    assert (beside[:, :9] == 30).all()
    assert (beside[:, -9:] == 30).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--input_dir", "{}/nowhere"], "no file or folder"),
        (["--input_dir", "{}/empty"], "holds no pictures; pictures end in "),
        (["--input_dir", "{}/nested"], "only folders (one, two): name one of them, or add --recursive"),
        (["--input_dir", "{}/in", "--result_dir", "{}/in"], "would overwrite"),
        (["--input_dir", "{}/in", "--device", "cuda:77"], "no device cuda:77"),
        (["--input_dir", "{}/in", "--weights", "{}/nothing.pth"], "no file of weights"),
        (["--input_dir", "{}/in", "--result_dir", "{}/in/a.png"], "nothing can be written there"),
        (["--input_dir", "{}/" + "n" * 300], "name too long"),
        (["--input_dir", "{}/in", "--device", "meta"], "no device meta"),
        (["--input_dir", "{}/one.jpg", "--result_dir", "{}"], "would overwrite"),
        (["--input_dir", "{}/in", "--png_level", "10"], "argument --png_level: invalid choice: 10"),
        (["--input_dir", "{}/in", "--png_level", "9", "--format", "jpg"], "--png_level goes with --format png"),
    ],
)
def test_wrong_arguments_are_refused(identity, tmp_path, arguments, sentence):
    write_png(tmp_path / "in" / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "one.jpg").write_bytes(b"")
    (tmp_path / "one.png").write_bytes(b"another picture")
    for name in ("one", "two"):
        write_png(tmp_path / "nested" / name / "a.png")
    words = [part.format(tmp_path) for part in arguments]
    if "--weights" not in words:
        words += ["--weights", str(identity)]
    if "--result_dir" not in words:
        words += ["--result_dir", str(tmp_path / "out")]
    run = demo(*words)
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    assert sentence in run.stderr
    assert (tmp_path / "in" / "a.png").stat().st_size > 0


def test_no_two_results_have_the_same_name(tmp_path):
    names = ["a.jpg", "a.png", "a_jpg.png", "A.PNG", "a.jpeg", "a_compare.png", "b.tif"]
    jobs = plan_jobs([tmp_path / name for name in names], tmp_path, tmp_path / "out", ".png", compare=True)
    results = [str(path).lower() for job in jobs for path in (job.result, job.comparison)]
    assert len(set(results)) == 2 * len(names)
    assert {job.source.name: job.result.name for job in jobs}["a.png"] == "a.png"


def test_a_result_that_would_overwrite_its_picture_is_refused(tmp_path):
    """On some systems, such as macOS, img.png and IMG.PNG are the same file."""
    write_png(tmp_path / "IMG.PNG")
    (tmp_path / "IMG.png").hardlink_to(tmp_path / "IMG.PNG")
    with pytest.raises(UserError, match="would overwrite"):
        plan_jobs([tmp_path / "IMG.PNG"], tmp_path, tmp_path, ".png", compare=False)


def test_an_interrupted_run_continues(identity, tmp_path):
    for number in range(9):
        write_png(tmp_path / "in" / f"{number}.png", number, 50)
    command = ["--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity]
    fourth = programs.Stop("mprnet.inference.restorer.Restorer.start", 4, signal.SIGINT)
    run = programs.run(*DEMO, *command, stop=fourth)
    assert "Traceback" not in run.stderr
    assert run.returncode == 130
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(made) == 3
    assert all(cv2.imread(str(path)).shape == (50, 50, 3) for path in made)
    again = demo(*command, "--skip_existing")
    assert again.returncode == 0, again.stderr
    assert "6 of 9 pictures restored, 3 skipped" in again.stdout
    assert len(list((tmp_path / "out").iterdir())) == 9
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())


@pytest.mark.parametrize("is_old", [False, True])
def test_a_result_that_is_older_than_its_picture_is_made_again(identity, tmp_path, is_old):
    """The result of a.jpg is a.png. If a picture a.png is added, this name belongs to the result of a.png."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(odd_files.right()["profile.jpg"][0])
    command = ["--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity]
    demo(*command)
    write_png(tmp_path / "in" / "a.png", 77, 5)
    if is_old:  # the picture is old, but was moved here now
        os.utime(tmp_path / "in" / "a.png", (0, 0))
    run = demo(*command, "--skip_existing")
    assert "0 of 2" not in run.stdout
    assert (cv2.imread(str(tmp_path / "out" / "a.png")) == 77).all()


def test_a_missing_comparison_is_written(identity, tmp_path):
    write_png(tmp_path / "in" / "a.png")
    command = ["--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity]
    demo(*command)
    assert "1 of 1" in demo(*command, "--compare", "--skip_existing").stdout
    assert "0 of 1 pictures restored, 1 skipped" in demo(*command, "--compare", "--skip_existing").stdout


def test_two_processes_share_a_folder(identity, tmp_path):
    for number in range(5):
        write_png(tmp_path / "in" / f"{number}.png", 40 * number, 10 + number)
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG")
    write_png(tmp_path / "out" / "3.png", 255)  # as if an interrupted run had left it
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    folders = ["--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity]
    run = programs.run(*torchrun, ROOT / "demo.py", "--task", "Denoising", *folders, "--skip_existing")
    assert run.returncode != 0
    assert "6 pictures in" in run.stdout
    assert "shared by 2 processes" in run.stdout
    assert run.stdout.count("4 of 6 pictures restored, 1 skipped") == 1
    assert "broken.png" in run.stderr
    for number in range(5):
        assert (cv2.imread(str(tmp_path / "out" / f"{number}.png")) == (255 if number == 3 else 40 * number)).all()


class SearchesLate(NamedTuple):
    """A process in whose folder another picture lies when it searches for pictures."""

    source: Path

    def prepare(self) -> None:
        def find(*arguments, **named):
            write_png(self.source / "00.png", 255)
            return find_photos(*arguments, **named)

        mprnet.apps.restore.find_photos = find


def test_all_processes_have_the_same_pictures(identity, tmp_path):
    """They share them by number."""
    names = ["0.png", "1.png", "2.png", os.fsdecode(b"\xff.png")]
    for name in names:
        write_png(tmp_path / "in" / name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        meeting = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": server.getsockname()[1]}
    command = [*DEMO, tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity]
    late = [None, SearchesLate(tmp_path / "in")]
    running = [programs.Program(*command, stop=late[rank], RANK=rank, **meeting) for rank in range(2)]
    ended = [each.wait() for each in running]
    assert [each.returncode for each in ended] == [0, 0], ended
    assert "4 of 4 pictures restored" in ended[0].stdout
    assert sorted(os.listdir(tmp_path / "out")) == names
    assert not (tmp_path / "in" / "00.png").exists()


def test_a_process_whose_device_fails_leaves_the_run(monkeypatch):
    """It cannot add its counts to those of the others."""
    monkeypatch.setattr(mprnet.apps.restore, "restore_all", lambda *words: Report(stopped="the device has failed"))
    arguments = argparse.Namespace(result_dir=Path("out"), skip_existing=False, verbose=False, png_level=None)
    with pytest.raises(UserError, match="the device has failed"):
        mprnet.apps.restore._restore_jobs([], None, arguments, World(0, 2, torch.device("cpu")))


def test_pictures_are_restored_without_torch_distributed(identity, tmp_path):
    write_png(tmp_path / "in" / "a.png")
    folders = ["--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity]
    run = programs.run(*DEMO, *folders, stop=programs.WithoutDistributed())
    assert run.returncode == 0, run.stderr
    assert "1 of 1 pictures restored" in run.stdout
    several = programs.Program(*DEMO, *folders, stop=programs.WithoutDistributed(), RANK=0, WORLD_SIZE=2).wait()
    assert several.returncode == 1
    assert several.stderr.startswith("error: this PyTorch is built without torch.distributed: run one process")


def test_pictures_of_one_size_are_restored_in_batches(tiny, tmp_path, monkeypatch):
    for number in range(7):
        write_png(tmp_path / "in" / f"{number}.png", 30 * number, 20 if number < 5 else 30)
    jobs = plan_jobs(sorted((tmp_path / "in").iterdir()), tmp_path / "in", tmp_path / "out", ".png", compare=False)
    restorer = Restorer(tiny, "cpu")
    restore_all(jobs, restorer)
    alone = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    shapes = []
    run = restorer._run
    restorer._run = lambda batch, grid: shapes.append(tuple(batch.shape)) or run(batch, grid)
    monkeypatch.setattr(Restorer, "batch_size", lambda self, height, width: 3)
    report = restore_all(jobs, restorer)
    assert report.done == 7
    assert [shape[0] for shape in shapes] == [3, 2, 2]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == alone


def test_a_bad_picture_in_a_batch_fails_alone(tiny, tmp_path, monkeypatch):
    for number in range(3):
        write_png(tmp_path / "in" / f"{number}.png", 50 * number, 20)
    jobs = plan_jobs(sorted((tmp_path / "in").iterdir()), tmp_path / "in", tmp_path / "out", ".png", compare=False)
    restorer = Restorer(tiny, "cpu")
    run = restorer._run

    def fail_for_white(batch, grid):
        images = [image.clone() for image in run(batch, grid)]
        images[0][batch.mean((1, 2, 3)) > 0.3] = torch.nan
        return images

    restorer._run = fail_for_white
    monkeypatch.setattr(Restorer, "batch_size", lambda self, height, width: 3)
    report = restore_all(jobs, restorer)
    assert (report.done, len(report.failures)) == (2, 1)
    (failure,) = report.failures
    assert "2.png: the network's result is not finite" in str(failure)
    assert failure.__traceback__ is failure.__context__ is None  # they would keep the picture in memory


@pytest.mark.parametrize("place", ["photo_reading.to_plain_mode", "photos.Photo.as_float", "photos.Photo.with_image"])
def test_a_picture_that_does_not_fit_in_memory_fails_alone(tiny, tmp_path, monkeypatch, place):
    """The memory runs out outside of the network, where tiles do not help. The other pictures are restored."""
    (tmp_path / "in").mkdir()
    for number in range(3):  # grey: their means are taken in floats
        Image.fromarray(np.full((20, 20), 50 * number, np.uint8)).save(tmp_path / "in" / f"{number}.png")
    jobs = plan_jobs(sorted((tmp_path / "in").iterdir()), tmp_path / "in", tmp_path / "out", ".png", compare=False)
    original = operator.attrgetter(place)(mprnet.data)

    def run_out_of_memory(picture, *arguments):
        if np.asarray(getattr(picture, "pixels", picture)).flat[0] == 50:
            raise MemoryError
        return original(picture, *arguments)

    monkeypatch.setattr(f"mprnet.data.{place}", run_out_of_memory)
    report = restore_all(jobs, Restorer(tiny, "cpu"))
    assert report.done == 2
    (failure,) = report.failures
    assert str(failure).startswith(f"{tmp_path / 'in' / '1.png'}: there is not enough memory")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--tile", "9"], "takes auto, none or a number, 64 or more, not 9"),
        (["--tile", "some"], "not some"),
        (["--memory", "nan"], "takes a number above 0, not nan"),
        (["--memory", "1e305"], "takes a number above 0, not 1e305"),
        (["--memory", "2", "--tile", "64"], "--memory sets the limit for --tile auto"),
        (["--training_patch", "0"], "takes a number from 8 to 16384, not 0"),
        (["--training_patch", "1000000000000"], "takes a number from 8 to 16384, not 1000000000000"),
        (["--precision", "fp8"], "invalid choice"),
        (["--memory", "0.001"], "0 MiB are free on cpu of the 1 MiB allowed, and 40x40 pixels need"),
    ],
)
def test_wrong_running_options_are_refused(identity, tmp_path, option, sentence):
    write_png(tmp_path / "in" / "a.png", size=40)
    run = demo("--input_dir", tmp_path / "in", "--result_dir", tmp_path / "out", "--weights", identity, *option)
    assert run.returncode in (1, 2)
    assert "Traceback" not in run.stderr
    assert sentence in run.stderr
