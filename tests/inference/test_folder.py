"""Errors of single pictures, and finding and planning what to restore."""

import os
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mprnet import Restorer, UserError
from mprnet.data import kinds
from mprnet.inference import folder, jobs
from mprnet.inference.folder import restore_all
from mprnet.inference.jobs import Job, describe_others, find_photos, find_unfinished, plan_jobs
from mprnet.inference.outcomes import Report


def write_pictures(source: Path, count: int) -> list[Job]:
    """Write pictures whose first pixel is their number, and return their jobs."""
    source.mkdir()
    for number in range(count):
        Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(source / f"{number}.png")
    photos = find_photos(source, False, skip=source.parent / "out").photos
    return plan_jobs(photos, source, source.parent / "out", ".png", compare=False)


def restore(tmp_path: Path, tiny, errors: dict[int, Exception], count: int = 4, verbose: bool = False) -> Report:
    """Restore pictures with a network that raises these errors, by the number of the picture."""

    class Failing(Restorer):
        def start(self, images):
            if (error := errors.get(int(images[0][0, 0, 0]))) is not None:
                raise error
            return lambda: images

    return restore_all(write_pictures(tmp_path / "in", count), Failing(tiny, "cpu"), verbose)


def results(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").iterdir())


ERRORS = [RecursionError("too\ndeep"), ValueError(), OSError(5, "no luck"), KeyError("x"), RuntimeError("y" * 5000)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["read_photo", "Restorer", "write_photo"])
def test_an_error_of_any_type_is_that_of_one_picture(tmp_path, tiny, monkeypatch, capsys, error, place):
    if place != "Restorer":
        original = getattr(folder, place)

        def fail_once(path, *arguments):
            if path.name == "1.png":
                raise error
            return original(path, *arguments)

        monkeypatch.setattr(folder, place, fail_once)
    report = restore(tmp_path, tiny, {1: error} if place == "Restorer" else {})
    assert (report.done, len(report.failures), report.stopped) == (3, 1, "")
    assert results(tmp_path) == ["0.png", "2.png", "3.png"]
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    lines = [line for line in printed.replace("\r", "\n").splitlines() if "error: " in line]
    assert lines[0].startswith(f"error: {tmp_path}/in/1.png: cannot be restored ({type(error).__name__}")
    assert len(lines[0]) < 600


def test_the_traceback_of_an_unknown_error_is_printed_if_asked_for(tmp_path, tiny, capsys):
    restore(tmp_path, tiny, {1: KeyError("x"), 2: UserError("known")}, verbose=True)
    printed = capsys.readouterr().err
    assert printed.count("Traceback") == 1
    assert "in start" in printed


def test_only_pictures_of_one_size_and_dtype_are_restored_together(tmp_path, tiny, monkeypatch):
    """Colour of 8 bits is restored as bytes; grey and 16 bits as floats. Batches are for GPUs."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, size, np.uint8) for size in [(9, 9, 3)] * 3 + [(9, 9)] * 2 + [(8, 9, 3)] * 2]
    (tmp_path / "in").mkdir()
    for number, array in enumerate(pixels):
        Image.fromarray(array).save(tmp_path / "in" / f"{number}.png")
    photos = find_photos(tmp_path / "in", False, skip=tmp_path / "out").photos
    restorer, counts = Restorer(tiny, "cpu"), []
    monkeypatch.setattr(restorer, "batch_size", lambda height, width: 2)
    monkeypatch.setattr(restorer, "_run", lambda batch, grid: counts.append(len(batch)) or [batch])
    jobs = plan_jobs(photos, tmp_path / "in", tmp_path / "out", ".png", compare=False)
    assert restore_all(jobs, restorer).done == 7
    assert counts == [2, 1, 2, 2]
    for number, array in enumerate(pixels):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / f"{number}.png")), array)


@pytest.mark.parametrize(("in_time", "waiting"), [(True, [1, 1, 1, 0]), (False, [1, 1, 2, 3, 3, 3, 3, 2, 1, 0])])
def test_more_pictures_are_read_ahead_if_the_network_waits_up_to_a_limit(tmp_path, tiny, in_time, waiting):
    taken: list[Job] = []

    class Read(Future):
        def done(self):
            return in_time

    def submit(function, job, restorer):
        read = Read()
        read.set_result(job)
        return read

    def take():
        for job in plan:
            taken.append(job)
            yield job

    plan = write_pictures(tmp_path / "in", len(waiting))
    outcomes = SimpleNamespace(bar=SimpleNamespace(set_description=lambda name: None))
    pictures = folder._read_ahead(take(), Restorer(tiny, "cpu"), SimpleNamespace(submit=submit), 3, outcomes)
    assert [len(taken) - number for number, _ in enumerate(pictures, start=1)] == waiting


def test_a_full_batch_does_not_wait_for_the_next_picture(tmp_path, tiny, monkeypatch):
    started: list[int] = []
    read = folder._read_ahead

    def note(*arguments):
        for number, picture in enumerate(read(*arguments)):
            assert len(started) == number // 3
            yield picture

    class Noting(Restorer):
        def batch_size(self, height, width):
            return 3

        def start(self, images):
            started.append(len(images))
            return lambda: images

    monkeypatch.setattr(folder, "_read_ahead", note)
    assert restore_all(write_pictures(tmp_path / "in", 7), Noting(tiny, "cpu")).done == 7
    assert started == [3, 3, 1]


def test_a_picture_that_changes_while_it_is_restored_fails(tmp_path, tiny):
    """Its result would be newer, so --skip_existing would skip it. A picture that is removed has its result."""
    (changed, removed, _) = plan = write_pictures(tmp_path / "in", 3)

    class Changing(Restorer):
        def start(self, images):
            if images[0][0, 0, 0] == 0:
                Image.fromarray(np.full((9, 9, 3), 200, np.uint8)).save(changed.source)
            if images[0][0, 0, 0] == 1:
                removed.source.unlink()
            return lambda: images

    report = restore_all(plan, Changing(tiny, "cpu"))
    assert [str(each) for each in report.failures] == [
        f"{changed.source}: has changed while it was restored; restore it again."
    ]
    assert (report.done, results(tmp_path)) == (2, ["1.png", "2.png"])


def test_an_interrupt_ends_the_run(tmp_path, tiny, monkeypatch):
    interrupted: Future[None] = Future()
    interrupted.set_exception(KeyboardInterrupt())
    monkeypatch.setattr(folder.ThreadPoolExecutor, "submit", lambda *arguments: interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path, tiny, {})


DEVICE_ERRORS = ["CUDA error: an illegal access", "cuDNN error: X", "CUBLAS_STATUS_X", "HIP error: x", "MPS backend: x"]


@pytest.mark.parametrize("message", DEVICE_ERRORS)
def test_the_run_stops_after_three_equal_errors_of_the_device(tmp_path, tiny, message):
    report = restore(tmp_path, tiny, {number: RuntimeError(message) for number in range(2, 9)}, count=9)
    assert (report.done, len(report.failures)) == (2, 3)
    assert results(tmp_path) == ["0.png", "1.png"]
    assert "failed 3 times in a row with the same error (RuntimeError" in report.stopped
    assert "--skip_existing" in report.stopped


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="PyTorch has it from 2.8 on")
def test_the_run_stops_after_errors_of_the_type_for_devices(tmp_path, tiny):
    report = restore(tmp_path, tiny, {number: torch.AcceleratorError("x") for number in range(4)})
    assert (report.done, len(report.failures)) == (0, 3)
    assert "AcceleratorError: x" in report.stopped


@pytest.mark.parametrize(
    "errors",
    [
        [RuntimeError("CUDA error: x"), RuntimeError("CUDA error: x"), None, RuntimeError("CUDA error: x")],
        [RuntimeError("CUDA error: x"), RuntimeError("CUDA error: x"), RuntimeError("CUDA error: y")],
        [RuntimeError("CUDA error: out of memory")] * 4,
        [UserError("CUDA error: x")] * 4,
        [RuntimeError("the relationSHIP of shapes")] * 4,
        [ValueError("CUDA error: x")] * 4,
    ],
)
def test_other_errors_do_not_stop_the_run(tmp_path, tiny, errors):
    report = restore(tmp_path, tiny, {n: error for n, error in enumerate(errors) if error}, count=5)
    assert report.stopped == ""
    assert report.done + len(report.failures) == 5


def test_files_of_other_kinds_are_found_and_described(tmp_path, monkeypatch):
    write_pictures(tmp_path / "in", 1)
    (tmp_path / "in" / "sub").mkdir()
    for name in ("b10.HEIC", "b9.heif", "notes.txt", "sub/c.txt", ".DS_Store", "sub/.hidden", "raw.CR2"):
        (tmp_path / "in" / name).write_text("")
    monkeypatch.setattr(kinds, "is_installed", lambda extra: False)
    others = find_photos(tmp_path / "in", True, skip=tmp_path / "out").others
    assert describe_others(others, tmp_path / "in") == (
        "5 files of other kinds left out: b9.heif, b10.HEIC, notes.txt and 2 more; "
        f"to read HEIC, HEIF: {kinds.install_hint('heif')}; to read CR2: {kinds.install_hint('raw')}"
    )
    monkeypatch.setattr(kinds, "is_installed", lambda extra: True)
    found = find_photos(tmp_path / "in", False, skip=tmp_path / "out")
    assert [path.name for path in found.photos] == ["0.png", "b9.heif", "b10.HEIC", "raw.CR2"]
    assert describe_others(found.others, tmp_path / "in") == "1 file of other kinds left out: notes.txt"


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"holds no pictures \(1 file of .*: notes.txt\); pictures end"):
        find_photos(tmp_path, False, skip=tmp_path / "out")


@pytest.mark.parametrize("compare", [False, True])
def test_names_that_the_system_refuses_are_planned(tmp_path, compare):
    """The results have names of more than 255 characters, which some functions of Python raise errors for."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ("x" * 251 + ".png")).write_bytes(b"")
    photos = find_photos(tmp_path / "in", False, skip=tmp_path).photos
    for root in (tmp_path / "in", photos[0]):
        planned = plan_jobs(photos, root, tmp_path / "out", ".webp", compare)
        assert len(planned[0].result.name) == 256
        assert find_unfinished(planned) == planned
    circle = tmp_path / "circle.png"
    circle.symlink_to(circle)
    assert plan_jobs([circle], tmp_path, tmp_path, ".png", compare)[0].result == circle


def test_a_file_in_a_folder_that_cannot_be_listed_is_planned(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setattr(jobs.Path, "iterdir", refuse)
    assert len(plan_jobs([tmp_path / "a.png"], tmp_path / "a.png", tmp_path / "out", ".png", False)) == 1
    with pytest.raises(UserError, match="would overwrite"):
        plan_jobs([tmp_path / "a.png"], tmp_path / "a.png", tmp_path, ".png", False)


HOUR = 3600


@pytest.mark.parametrize(
    ("source_offset", "result_offset", "is_replaced", "is_finished"),
    [
        (-2 * HOUR, -HOUR, False, True),
        (-HOUR, -2 * HOUR, False, False),
        (HOUR, 0, False, True),  # a camera whose clock is ahead
        (10**8, 0, False, True),
        (HOUR, 0, True, False),
        (-HOUR, 10**8, False, True),  # the clock was ahead when the result was written
        (-HOUR, 10**8, True, False),
        (HOUR, 10**8, False, True),
    ],
)
def test_dates_in_the_future_say_nothing(tmp_path, source_offset, result_offset, is_replaced, is_finished):
    """The offsets are of the times of change; those of status change are right."""
    (job,) = write_pictures(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()

    def write(path: Path, offset: int) -> None:
        path.write_bytes(b"x")
        os.utime(path, (time.time() + offset,) * 2)

    for path, offset in ((job.source, source_offset), (job.result, result_offset)):
        write(path, offset)
    if is_replaced:
        before = job.result.stat().st_ctime_ns
        while job.source.stat().st_ctime_ns <= before:  # the clock of a file system has ticks
            write(job.source, source_offset)
    assert (find_unfinished([job]) == []) == is_finished


def test_a_result_of_the_same_moment_is_finished(tmp_path):
    """Some file systems count whole seconds."""
    (job,) = write_pictures(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    job.result.write_bytes(b"x")
    for path in (job.source, job.result):
        os.utime(path, (10**9, 10**9))
    assert find_unfinished([job]) == []


def test_a_result_with_only_dates_in_the_future_is_made_again(tmp_path, monkeypatch):
    (job,) = write_pictures(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    job.result.write_bytes(b"x")
    assert find_unfinished([job]) == []
    for back, is_finished in ((30, True), (HOUR, False)):  # a file server's clock may be a little ahead
        monkeypatch.setattr(jobs.time, "time_ns", lambda back=back: int((time.time() - back) * 10**9))
        assert (find_unfinished([job]) == []) == is_finished


@pytest.mark.parametrize("compare", [False, True])
def test_limits_of_a_format_are_told_before_the_work(tmp_path, tiny, compare):
    class Forbidden(Restorer):
        def start(self, images):
            raise AssertionError("the network was run")

    (tmp_path / "in").mkdir()
    width = 8188 if compare else 16384  # both halves and the gap between them have 16384
    Image.fromarray(np.zeros((1, width, 3), np.uint8)).save(tmp_path / "in" / "wide.png")
    plan = plan_jobs([tmp_path / "in" / "wide.png"], tmp_path / "in", tmp_path / "out", ".webp", compare)
    (failure,) = restore_all(plan, Forbidden(tiny, "cpu")).failures
    assert "pixels are too many for this format" in str(failure)


def test_what_is_left_out_is_said_in_one_line(tmp_path, tiny, capsys):
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = bytes(70000)
    exif[0x8769] = exif.get_ifd(0x8769)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "in" / "a.png", exif=exif.tobytes())
    plan = plan_jobs([tmp_path / "in" / "a.png"], tmp_path / "in", tmp_path / "out", ".jpg", compare=False)
    assert restore_all(plan, Restorer(tiny, "cpu")).done == 1
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "note: " in line]
    assert lines == [f"note: {tmp_path}/in/a.png: the result is without its EXIF data as a whole."]
