"""Restoring and scoring the images of a benchmark. An interrupted run continues where it stopped."""

import json
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from mprnet.data.png import write_png
from mprnet.data.tensors import to_uint8
from mprnet.errors import UserError, name_some
from mprnet.evaluation.resuming import Process, process_remaining
from mprnet.evaluation.scoring import NO_SSIM, Scorers, Scores
from mprnet.evaluation.sources import Sample, Source
from mprnet.files import write_atomically
from mprnet.inference.distributed import World

# From an image's number and content to its restored images by stage, (H, W, 3) float32 in [0, 1] or uint8.
Restore = Callable[[int, Sample], dict[int, np.ndarray]]
Record = dict[str, Any]
RESULTS = "results.json"
_JOURNALS = ".scores.*.jsonl"
_MOST_PENDING = 4  # images that wait for each scoring process: a bound on the memory


@dataclass(frozen=True)
class Plan:
    """How to restore and score the images of a benchmark.

    Attributes:
        key: all that scores depend on beside the images. Scores in ``folder`` are used again if their key is equal.
        measure: a name of ``MEASURES``.
        folder: where scores and pictures go.
        save_images: True to write the results to ``folder``/images/NAME.png.
        restore: makes the results.
        png_level: the level of compression of these pictures, as for ``encode_png``.
    """

    key: dict[str, Any]
    measure: str
    folder: Path
    save_images: bool
    restore: Restore
    png_level: int | None = None


def evaluate(source: Source, numbers: Sequence[int], plan: Plan, scorers: Scorers, world: World) -> list[Record]:
    """Restore and score images, and return their scores. Scores that are in ``plan.folder`` are used again.

    If an image cannot be read, restored or scored, its record says why, and the next run tries it again.

    Args:
        numbers: of the images in ``source``. The processes of ``world`` share them.

    Returns:
        In each process, a record for each of ``numbers``, in that order: ``name``, ``stamp``, and either ``scores``
        (stage to [PSNR or None for infinity, SSIM or None if the image is too small]) with ``notes``, or ``problem``.

    Raises:
        UserError: on every rank, if a file cannot be written on one rank, or scores have been removed meanwhile.
    """
    known = _read_records(plan)

    def is_done(number: int) -> bool:
        return _is_done(known.get(source.names[number]), source, number, plan)

    prepare = partial(_merge_journals, plan, known.values(), world)
    worker = _open_evaluator(source, plan, scorers, world)
    # The sentences about failures are in the records, too.
    process_remaining(plan.folder, numbers, is_done, prepare, worker, world, plan.folder.name)
    records = _read_records(plan)
    world.barrier()  # the caller may remove the journals
    if missing := [source.names[number] for number in numbers if source.names[number] not in records]:
        raise UserError(f"{plan.folder}: the scores of {name_some(missing)} have been removed meanwhile; start again.")
    return [records[source.names[number]] for number in numbers]


def write_results(plan: Plan, records: Sequence[Record], summary: dict[str, Any]) -> None:
    """Write results.json and results.csv, and remove the journals."""
    content = {"settings": plan.key, "summary": summary, "images": list(records)}
    known = _read_records(plan)
    write_atomically(plan.folder / RESULTS, (json.dumps(content, indent=1) + "\n").encode())
    lines = ["name,stage,psnr,ssim"]
    for record in records:
        for stage, (psnr, ssim) in record.get("scores", {}).items():
            name = '"' + record["name"].replace('"', '""') + '"'
            values = ("inf" if psnr is None else f"{psnr:.6f}", "" if ssim is None else f"{ssim:.6f}")
            lines.append(",".join([name, stage, *values]))
    write_atomically(plan.folder / "results.csv", ("\n".join(lines) + "\n").encode(errors="surrogateescape"))
    # With --limit, a run scores only some images. The scores of the others stay in a journal for later runs.
    names = {record["name"] for record in records}
    others = [record for record in known.values() if record["name"] not in names]
    others_path = _journal_path(plan.folder, "rest")
    if others:
        write_atomically(others_path, _encode_journal(plan, others))
    for path in set(plan.folder.glob(_JOURNALS)) - ({others_path} if others else set()):
        path.unlink()


def image_path(plan: Plan, name: str) -> Path:
    """Return the path of a saved result."""
    return plan.folder / "images" / f"{name}.png"


def _merge_journals(plan: Plan, records: Collection[Record], world: World) -> None:
    """Write all known records to the journal of this process, and remove the other journals."""
    path = _journal_path(plan.folder, world.rank)
    write_atomically(path, _encode_journal(plan, records))
    for other in set(plan.folder.glob(_JOURNALS)) - {path}:
        other.unlink()


@contextmanager
def _open_evaluator(source: Source, plan: Plan, scorers: Scorers, world: World) -> Iterator[Process]:
    """Open the journal of this process, and give the function that restores and scores an image."""
    path = _journal_path(plan.folder, world.rank)
    if not world.is_main:
        write_atomically(path, _encode_journal(plan, []))
    with open(path, "a", encoding="utf-8") as journal:
        evaluator = _Evaluator(source, plan, scorers, journal)
        yield evaluator.restore_and_score
        evaluator.write_scores(most_pending=0)


class _Evaluator:
    """Restores images and writes their scores to a journal. Other images are scored while one is restored."""

    def __init__(self, source: Source, plan: Plan, scorers: Scorers, journal: TextIO) -> None:
        self._source = source
        self._plan = plan
        self._scorers = scorers
        self._journal = journal
        self._pending: deque[tuple[Record, dict[int, Future[Scores]]]] = deque()

    def restore_and_score(self, number: int) -> str:
        """Restore an image and start to score it. Return why it cannot be restored, or an empty text."""
        plan = self._plan
        record: Record = {"name": self._source.names[number], "stamp": self._source.stamp(number)}
        try:
            sample = self._source.read(number)
            images = plan.restore(number, sample)
        except UserError as error:
            _write_line(self._journal, record | {"problem": str(error)})
            return str(error)
        if sample.notes:
            record["notes"] = list(sample.notes)
        if sample.target.dtype == np.uint8:
            images = {stage: to_uint8(image) for stage, image in images.items()}
        if plan.save_images:
            write_png(image_path(plan, record["name"]), to_uint8(images[max(images)]), plan.png_level)
            record["saved"] = True
        futures = {stage: self._scorers.submit(plan.measure, image, sample.target) for stage, image in images.items()}
        self._pending.append((record, futures))
        self.write_scores(most_pending=_MOST_PENDING * max(1, self._scorers.workers))
        return ""

    def write_scores(self, most_pending: int) -> None:
        """Write the scores that are computed. Wait until at most ``most_pending`` images are not scored."""
        pending = self._pending
        while len(pending) > most_pending or (pending and all(future.done() for future in pending[0][1].values())):
            record, futures = pending.popleft()
            try:
                record["scores"] = {str(stage): _to_json(future.result()) for stage, future in futures.items()}
                if any(ssim is None for _, ssim in record["scores"].values()):
                    record["notes"] = [*record.get("notes", []), NO_SSIM]
            except ValueError as error:
                record["problem"] = f"{record['name']}: {error}"
            _write_line(self._journal, record)


def _to_json(scores: Scores) -> list[float | None]:
    """Replace infinity by None: JSON has no infinity."""
    psnr, ssim = scores
    return [None if np.isinf(psnr) else psnr, ssim]


def _read_records(plan: Plan) -> dict[str, Record]:
    """Return the records of finished and interrupted runs with the same key, by the images' names."""
    found: dict[str, Record] = {}
    for path in [plan.folder / RESULTS, *sorted(plan.folder.glob(_JOURNALS))]:
        try:
            text = path.read_text(encoding="utf-8")
            if path.name == RESULTS:
                content = json.loads(text)
                key, records = content["settings"], content["images"]
            else:
                head, *records = _decode_lines(text)
                key = head["key"]
            if key == plan.key:
                found |= {record["name"]: record for record in records}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no such file, a file that ends in its first line, or a file of another program
    return found


def _is_done(record: Record | None, source: Source, number: int, plan: Plan) -> bool:
    if record is None or "scores" not in record or record["stamp"] != source.stamp(number):
        return False
    # A picture of this name can be from an earlier run with other settings: "saved" says that it belongs to the record.
    return not plan.save_images or ("saved" in record and image_path(plan, record["name"]).exists())


def _journal_path(folder: Path, rank: int | str) -> Path:
    return folder / f".scores.{rank}.jsonl"


def _encode_journal(plan: Plan, records: Collection[Record]) -> bytes:
    return "".join(map(_encode_line, [{"key": plan.key}, *records])).encode()


def _write_line(journal: TextIO, record: Record) -> None:
    journal.write(_encode_line(record))
    journal.flush()


def _encode_line(record: Record) -> str:
    return json.dumps(record) + "\n"  # ASCII, because names of files can hold any bytes


def _decode_lines(text: str) -> list[Record]:
    """Return the records of all complete lines. The last line is incomplete if a run was killed while it wrote."""
    return [json.loads(line) for line in text.split("\n")[:-1]]
