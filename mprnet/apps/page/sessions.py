"""The page's visitors: their pictures, restored one after the other by one thread, and their files."""

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

# Seconds between two looks at how far a picture is.
_INTERVAL = 0.3
# Seconds after which files are removed though their visitor is still there, and between two looks for such.
_IDLE = 4 * 3600
_CLEANING = 600
_RUN = "run-"


class Sessions:
    """Visitors' runs, one each.

    Args:
        restorers: used by this object's thread alone.
        root: the folder for files, resolved: each upload in a folder there; whoever made it removes it.
        format_: of the results, a key of FORMATS.
    """

    def __init__(self, restorers: Restorers, root: Path, format_: str) -> None:
        self._restorers = restorers
        self._root = root
        self._suffix = FORMATS[format_]
        self._runs: dict[str, Run] = {}
        self._uploads: dict[str, set[Path]] = {}
        self._worker = ThreadPoolExecutor(1, "restore")
        self._closed = threading.Event()
        threading.Thread(target=self._clean, daemon=True).start()

    def restore(self, visitor: str, uploads: Sequence[Path], choice: Choice) -> Iterator[Run]:
        """Restore pictures in turn, giving one Run again and again while it grows. It takes the place of the visitor's
        last one, whose files are removed."""
        self._forget(visitor)
        run = Run(Path(tempfile.mkdtemp(prefix=_RUN, dir=self._root)))
        self._runs[visitor] = run
        try:
            jobs = self._take_in(run, uploads)
            run.total = len(jobs) + len(run.failures)
            for name, job in jobs.items():
                run.current, run.fraction = name, 0.0
                future = self._worker.submit(self._restorers.restore, job, choice, run)
                yield run
                while not wait([future], _INTERVAL).done:
                    yield run
                _note(run, name, job, future)
                if run.stopped.is_set():
                    break
            run.current = ""
            yield run
        finally:
            run.stopped.set()  # the visitor may have gone in between
            self._worker.submit(trim)  # until the next one comes, the memory is others'

    def latest(self, visitor: str) -> Run | None:
        """What became of the visitor's pictures; None if they are removed."""
        return self._runs.get(visitor)

    def cancel(self, visitor: str) -> None:
        """End the visitor's run; what is done stays."""
        if visitor in self._runs:
            self._runs[visitor].stopped.set()

    def note_uploads(self, visitor: str, uploads: Sequence[Path]) -> None:
        """Remember what the visitor has uploaded, to remove it at the end."""
        self._uploads.setdefault(visitor, set()).update(filter(self._is_upload, uploads))

    def leave(self, visitor: str) -> None:
        """End the visitor's run and remove the files."""
        self._forget(visitor)
        # Files of one name and content are stored once for all visitors.
        gone = self._uploads.pop(visitor, set()).difference(*self._uploads.values())
        for upload in gone:
            shutil.rmtree(upload.parent, ignore_errors=True)

    def close(self) -> None:
        """End all runs, and wait for it."""
        self._closed.set()
        for run in self._runs.values():
            run.stopped.set()
        self._worker.shutdown(cancel_futures=True)

    def _forget(self, visitor: str) -> None:
        run = self._runs.pop(visitor, None)
        if run is not None:
            run.stopped.set()
            # By the thread that may still be writing there.
            self._worker.submit(shutil.rmtree, run.folder, ignore_errors=True)

    def _clean(self) -> None:
        while not self._closed.wait(_CLEANING):
            self.remove_old()

    def remove_old(self) -> None:
        """Remove what nobody has touched for long: ended runs, and what Gradio has made."""
        for visitor, run in list(self._runs.items()):
            if run.stopped.is_set() and _age(run.folder) > _IDLE:
                self._forget(visitor)
        for path in self._root.iterdir():
            if not path.name.startswith(_RUN) and _age(path) > _IDLE:
                with contextlib.suppress(OSError):  # gone already
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _is_upload(self, path: Path) -> bool:
        """Whether it is where Gradio stores uploads: a visitor's program may name whatever there is on this machine."""
        folder = path.resolve().parent
        return folder.parent == self._root and not folder.name.startswith(_RUN)

    def _take_in(self, run: Run, uploads: Sequence[Path]) -> dict[str, Job]:
        """Jobs by the pictures' names. Links keep the pictures whatever becomes of the uploads."""
        inside = run.folder / "in"
        inside.mkdir()
        sources: list[Path] = []
        for upload in dict.fromkeys(uploads):
            if not self._is_upload(upload):
                run.failures.append(f"{upload.name}: has not been uploaded; choose it again.")
                continue
            folders = (inside / str(n) if n > 1 else inside for n in range(1, len(uploads) + 1))
            source = next(f / upload.name for f in folders if f / upload.name not in sources)
            try:
                source.parent.mkdir(exist_ok=True)
                os.link(upload, source)
                sources.append(source)
            except OSError as error:
                run.failures.append(f"{upload.name}: cannot be taken in ({error.strerror}); choose it again.")
        jobs = plan_jobs(sources, inside, run.folder / "out", self._suffix, compare=False)
        return {str(job.source.relative_to(inside)): job for job in jobs}


def _age(path: Path) -> float:
    """Seconds since it or, of a folder, something in it was made or linked."""
    times = [0.0]
    for each in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            times.append(each.lstat().st_ctime)
    return time.time() - max(times)


def _note(run: Run, name: str, job: Job, future: "Future[tuple[Path, Path]]") -> None:
    """Note what became of a picture."""
    error = future.exception()
    if error is None:
        run.results[name], run.previews[name] = job.result, future.result()
    elif isinstance(error, (UserError, MemoryError)):
        sentence = str(error) if isinstance(error, UserError) else "there is not enough memory for it."
        # Paths here say nothing to a visitor: sentences begin with the picture's name.
        for path in (job.source, job.result):
            sentence = sentence.replace(str(path), name)
        run.failures.append(sentence if sentence.startswith(name) else f"{name}: {sentence}")
    elif not isinstance(error, StoppedError):
        traceback.print_exception(error)
        run.failures.append(f"{name}: could not be restored, by a fault of this program; its terminal says more.")
