"""The page's visitors and their files. One thread restores all pictures, one after the other."""

import contextlib
import os
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from mprnet.apps.page.restoring import Choice, Restorers, Run, StoppedError
from mprnet.data.photo_writing import FORMATS
from mprnet.errors import UserError
from mprnet.inference.jobs import Job, plan_jobs
from mprnet.inference.memory import trim

# Seconds between two reports of the progress, and while other visitors' pictures are restored.
_INTERVAL, _WAITING_INTERVAL = 0.3, 1.5
# Files that were not used for so many seconds are removed, although their visitor is still there.
_IDLE = 4 * 3600
# Seconds between two searches for such files.
_CLEANING_INTERVAL = 600
# Runs that are not finished. Each needs a thread of the web server, which has 40.
_MOST_RUNS = 32
# Names of the runs' folders begin with it.
_RUN_PREFIX = "run-"


class Sessions:
    """The runs of all visitors; each visitor has at most one.

    Args:
        restorers: only this object's thread uses them.
        root: the folder for files, an absolute path without links. Each upload is in a folder of its own in it. The
            caller removes it.
        format_: format of the results, a key of FORMATS.
    """

    def __init__(self, restorers: Restorers, root: Path, format_: str) -> None:
        self._restorers = restorers
        self._root = root
        self._suffix = FORMATS[format_]
        self._runs: dict[str, Run] = {}
        self._uploads: dict[str, set[Path]] = {}
        self._kept: set[Path] = set()
        # Runs with a picture at the worker: the first one's is being restored. A run gives one picture at a time to the
        # worker, behind those of the other runs. So visitors take turns, picture by picture.
        self._turns: list[Run] = []
        self._worker = ThreadPoolExecutor(1, "restore")
        self._closed = threading.Event()
        threading.Thread(target=self._clean, daemon=True).start()

    def restore(self, visitor: str, uploads: Sequence[Path], choice: Choice) -> Iterator[Run]:
        """Restore pictures one after the other, and yield the same Run whenever there is progress.

        The visitor's last run ends, and its files are removed.

        Raises:
            UserError: too many visitors are waiting.
        """
        self._forget(visitor)
        if sum(not run.stopped.is_set() for run in self._runs.values()) >= _MOST_RUNS:
            raise UserError(f"{_MOST_RUNS} visitors are waiting already; try again in a few minutes.")
        run = Run(Path(tempfile.mkdtemp(prefix=_RUN_PREFIX, dir=self._root)))
        self._runs[visitor] = run
        try:
            jobs = self._link_uploads(run, uploads)
            run.total = len(jobs) + len(run.failures)
            for name, job in jobs.items():
                run.current, run.fraction = name, 0.0
                future = self._wait_for_turn(job, choice, run)
                try:
                    while not future.done():
                        run.ahead = self._count_ahead(run)
                        yield run
                        wait([future], _WAITING_INTERVAL if run.ahead else _INTERVAL)
                finally:
                    future.cancel()  # if it has not begun and the visitor has left
                _record_result(run, name, job, future)
                if run.stopped.is_set():
                    break
            run.current = ""
            yield run
        finally:
            run.stopped.set()  # the visitor may have left meanwhile
            self._worker.submit(trim)  # give free memory back to the system

    def _wait_for_turn(self, job: Job, choice: Choice, run: Run) -> "Future[tuple[Path, Path]]":
        """Let the worker restore a picture when the pictures that it has already are done."""
        self._turns.append(run)
        future = self._worker.submit(self._restorers.restore, job, choice, run)
        future.add_done_callback(lambda _: self._turns.remove(run))
        return future

    def _count_ahead(self, run: Run) -> int:
        turns = list(self._turns)  # the worker's thread can change it
        return turns.index(run) if run in turns else 0

    def latest(self, visitor: str) -> Run | None:
        """Return the visitor's run; None if there is none or its files are removed."""
        return self._runs.get(visitor)

    def cancel(self, visitor: str) -> None:
        """Stop the visitor's run. Its results stay."""
        if visitor in self._runs:
            self._runs[visitor].stopped.set()

    def note_uploads(self, visitor: str, uploads: Sequence[Path]) -> None:
        """Remember which files the visitor has uploaded, to remove them when the visitor leaves."""
        self._uploads.setdefault(visitor, set()).update(filter(self._is_upload, uploads))

    def leave(self, visitor: str) -> None:
        """Stop the visitor's run, and remove its files and the uploads."""
        self._forget(visitor)
        # Gradio stores files with the same name and content once for all visitors.
        unused = self._uploads.pop(visitor, set()).difference(*self._uploads.values())
        for upload in unused:
            if upload.parent not in self._kept:
                shutil.rmtree(upload.parent, ignore_errors=True)

    def keep_present_files(self) -> None:
        """Never remove the files that are there now: they belong to the page itself."""
        self._kept = set(self._root.iterdir())

    def close(self) -> None:
        """Stop all runs, and wait until they have stopped."""
        self._closed.set()
        for run in self._runs.values():
            run.stopped.set()
        self._worker.shutdown(cancel_futures=True)

    def _forget(self, visitor: str) -> None:
        run = self._runs.pop(visitor, None)
        if run is not None:
            run.stopped.set()
            # The thread of the run removes the folder, because it may still write to it.
            self._worker.submit(shutil.rmtree, run.folder, ignore_errors=True)

    def _clean(self) -> None:
        while not self._closed.wait(_CLEANING_INTERVAL):
            self.remove_old()

    def remove_old(self) -> None:
        """Remove files that were not used for a long time: those of stopped runs, and those that Gradio has made."""
        for visitor, run in list(self._runs.items()):
            if run.stopped.is_set() and _age(run.folder) > _IDLE:
                self._forget(visitor)
        for path in self._root.iterdir():
            if path not in self._kept and not path.name.startswith(_RUN_PREFIX) and _age(path) > _IDLE:
                with contextlib.suppress(OSError):  # gone already
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _is_upload(self, path: Path) -> bool:
        """True if the file is where Gradio stores uploads. A visitor's program can send any path of this machine."""
        folder = path.resolve().parent
        return folder.parent == self._root and not folder.name.startswith(_RUN_PREFIX)

    def _link_uploads(self, run: Run, uploads: Sequence[Path]) -> dict[str, Job]:
        """Return a job for each upload, by the pictures' names. Hard links keep the pictures if uploads are removed."""
        input_folder = run.folder / "in"
        input_folder.mkdir()
        sources: list[Path] = []
        for upload in dict.fromkeys(uploads):
            if not self._is_upload(upload):
                run.failures.append(f"{upload.name}: has not been uploaded; choose it again.")
                continue
            folders = (input_folder / str(n) if n > 1 else input_folder for n in range(1, len(uploads) + 1))
            source = next(f / upload.name for f in folders if f / upload.name not in sources)
            try:
                source.parent.mkdir(exist_ok=True)
                os.link(upload, source)
                sources.append(source)
            except OSError as error:
                run.failures.append(f"{upload.name}: cannot be used ({error.strerror}); choose it again.")
        jobs = plan_jobs(sources, input_folder, run.folder / "out", self._suffix, compare=False)
        return {str(job.source.relative_to(input_folder)): job for job in jobs}


def _age(path: Path) -> float:
    """Return the seconds since the file, or the newest file in the folder, was made, changed or linked."""
    times = [0.0]
    for each in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            times.append(each.lstat().st_ctime)
    return time.time() - max(times)


def _record_result(run: Run, name: str, job: Job, future: "Future[tuple[Path, Path]]") -> None:
    """Add a picture's result, or a sentence about its failure, to the run."""
    error = future.exception()
    if error is None:
        run.results[name], run.previews[name] = job.result, future.result()
    elif isinstance(error, (UserError, MemoryError)):
        sentence = str(error) if isinstance(error, UserError) else "there is not enough memory for it."
        # A visitor does not know the paths on this machine: sentences start with the picture's name.
        for path in (job.source, job.result):
            sentence = sentence.replace(str(path), name)
        run.failures.append(sentence if sentence.startswith(name) else f"{name}: {sentence}")
    elif not isinstance(error, StoppedError):
        traceback.print_exception(error)
        run.failures.append(f"{name}: could not be restored because of an error in this program; see its terminal.")
