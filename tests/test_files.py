import errno
import os
import signal
import time
from pathlib import Path

import pytest

from mprnet import UserError, files
from mprnet.files import file_stamp, lock_folder, make_folder, write_atomically

fcntl = pytest.importorskip("fcntl")


@pytest.mark.parametrize(
    ("number", "is_locked"), [(errno.EWOULDBLOCK, True), (errno.ENOSYS, False), (errno.ENOLCK, False)]
)
def test_lock_folder_works_on_a_file_system_without_locks(tmp_path, monkeypatch, number, is_locked):
    def flock(file: object, operation: int) -> None:
        raise OSError(number, "an error of the system")

    monkeypatch.setattr(fcntl, "flock", flock)
    if is_locked:
        with pytest.raises(UserError, match="another program is at work"), lock_folder(tmp_path):
            pass
        return
    with lock_folder(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_a_stamp_changes_with_the_size_and_the_date_of_a_file(tmp_path):
    path = tmp_path / "a"
    assert file_stamp(path, tmp_path / ("x" * 300)) == ""
    stamps = set()
    for content, date in ((b"x", 1), (b"x", 2), (b"xy", 1)):
        path.write_bytes(content)
        os.utime(path, ns=(date, date))
        stamps.add(file_stamp(path))
        assert file_stamp(path, tmp_path / "missing") in stamps
    assert len(stamps) == 3


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """After a power failure, the name could belong to an empty file."""
    calls: list[str] = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *words, name=name, call=call: calls.append(name) or call(*words))
    write_atomically(tmp_path / "a", b"x")
    assert calls == ["fsync", "replace"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of processes with several threads
def test_a_lock_ends_with_its_process_and_not_with_those_that_it_has_forked(tmp_path):
    """Workers of a run that was killed live on for seconds. The run may start again meanwhile."""
    reading, writing = os.pipe()
    with lock_folder(tmp_path):
        child = os.fork()
        if not child:
            try:
                os.write(writing, b"x")
                time.sleep(600)
            finally:
                os._exit(0)
        os.read(reading, 1)  # until it runs
        with pytest.raises(UserError, match="another program is at work"), lock_folder(tmp_path):
            pass
    try:
        with lock_folder(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("enter", [make_folder, lambda folder: write_atomically(folder / "a", b"")])
def test_old_leftovers_of_killed_programs_are_removed_once(tmp_path, monkeypatch, enter):
    """Others stay: those of live programs, and files with similar names. Later calls do not search again."""

    def leave(name: str, age: float) -> Path:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
        return tmp_path / name

    old = [leave(f".{'0' * 11}{digit}.unfinished", 3700) for digit in "9af"]
    kept = [leave(".0123456789ab.unfinished", 3500), leave(".mine.unfinished", 9999), leave("a.unfinished", 9999)]
    kept += [leave(".aaaaaaaaaaaa.unfinished", -9999)]
    refused = old.pop()
    unlink = os.unlink

    def unlink_some(path):
        if Path(path) == refused:
            raise PermissionError
        unlink(path)

    monkeypatch.setattr(files.os, "unlink", unlink_some)
    enter(tmp_path)
    assert [path.exists() for path in (*old, *kept, refused)] == [False] * 2 + [True] * 5
    monkeypatch.undo()
    monkeypatch.setattr(files.os, "listdir", lambda folder: pytest.fail("searched again"))
    enter(tmp_path)


def test_a_folder_that_cannot_be_listed_can_be_written_to(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError

    monkeypatch.setattr(files.os, "listdir", refuse)
    write_atomically(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
