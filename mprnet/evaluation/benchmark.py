"""Restoring and scoring a set of images: interrupted at any moment, it goes on where it was."""

import json
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from mprnet.data.png import write_png
from mprnet.errors import UserError
from mprnet.evaluation.scoring import Scorers, Scores
from mprnet.evaluation.sources import Sample, Source
from mprnet.files import make_folder, write_atomically
from mprnet.inference.distributed import World

# From an image's number and content to its restored images by stage, (H, W, 3) float32 in [0, 1] or uint8.
Restore = Callable[[int, Sample], dict[int, np.ndarray]]
Record = dict[str, Any]
RESULTS = "results.json"
_JOURNALS = ".scores.*.jsonl"
_WAITING = 4  # images per scoring process that may wait for it, so that memory stays bounded


@dataclass(frozen=True)
class Plan:
    """What is to be done with a set's images.

    Attributes:
        key: all that scores depend on but the images: scores found in ``folder`` count if they have the same.
        folder: where scores and pictures go.
        save_images: keep the results, as ``folder``/images/NAME.png.
    """

    key: dict[str, Any]
    measure: str
    folder: Path
    save_images: bool
    restore: Restore


def evaluate(source: Source, numbers: Sequence[int], plan: Plan, scorers: Scorers, world: World) -> list[Record]:
    """Restore and score images, this process's part of those whose scores are not in ``plan.folder`` yet.

    An image that cannot be read or scored costs a sentence, and is tried again the next time.

    Returns:
        In each process, a record for each of ``numbers``, in that order: ``name``, ``stamp``, and either ``scores``
        (stage to [PSNR or None for infinity, SSIM]) with ``notes``, or ``problem``.
    """
    with world.fail_together():  # nobody changes the files before all have read them
        make_folder(plan.folder)
        known = _known(plan)
        todo = [n for n in numbers if not _is_done(known.get(source.names[n]), source, n, plan)]
    path = _journal(plan.folder, world.rank)
    with world.fail_together():
        if world.is_main:
            write_atomically(path, "".join(map(_line, [{"key": plan.key}, *known.values()])).encode())
            for other in set(plan.folder.glob(_JOURNALS)) - {path}:
                other.unlink()
    with world.fail_together():
        if not world.is_main:
            write_atomically(path, _line({"key": plan.key}).encode())
        with open(path, "a", encoding="utf-8") as journal:
            mine = todo[world.rank :: world.size]
            _work(source, mine, plan, scorers, journal, show=world.is_main)
    done = _known(plan)
    world.barrier()  # the caller may clear the files away
    return [done[source.names[n]] for n in numbers]


def write_results(plan: Plan, records: Sequence[Record], summary: dict[str, Any]) -> None:
    """Write results.json and results.csv, and clear away what was kept for the case of an interruption."""
    content = {"settings": plan.key, "summary": summary, "images": list(records)}
    known = _known(plan)
    write_atomically(plan.folder / RESULTS, (json.dumps(content, indent=1) + "\n").encode())
    lines = ["name,stage,psnr,ssim"]
    for record in records:
        for stage, (psnr, ssim) in record.get("scores", {}).items():
            name = '"' + record["name"].replace('"', '""') + '"'
            lines.append(f"{name},{stage},{'inf' if psnr is None else f'{psnr:.6f}'},{ssim:.6f}")
    write_atomically(plan.folder / "results.csv", ("\n".join(lines) + "\n").encode(errors="surrogateescape"))
    # Scores of images that were not asked for this time (--limit) are kept for the next.
    names = {record["name"] for record in records}
    rest = [record for record in known.values() if record["name"] not in names]
    kept = _journal(plan.folder, "rest")
    if rest:
        write_atomically(kept, "".join(map(_line, [{"key": plan.key}, *rest])).encode())
    for path in set(plan.folder.glob(_JOURNALS)) - ({kept} if rest else set()):
        path.unlink()


def eight_bit(image: np.ndarray) -> np.ndarray:
    """Rounded to uint8, as results are written before they are scored."""
    return image if image.dtype == np.uint8 else np.rint(255 * image).astype(np.uint8)


def image_path(plan: Plan, name: str) -> Path:
    """Where a saved result is."""
    return plan.folder / "images" / f"{name}.png"


def _work(source: Source, numbers: Sequence[int], plan: Plan, scorers: Scorers, journal: TextIO, show: bool) -> None:
    waiting: deque[tuple[Record, dict[int, Future[Scores]]]] = deque()

    def finish(most: int) -> None:
        while len(waiting) > most or (waiting and all(future.done() for future in waiting[0][1].values())):
            record, futures = waiting.popleft()
            try:
                record["scores"] = {str(stage): _plain(future.result()) for stage, future in futures.items()}
            except ValueError as error:
                record["problem"] = f"{record['name']}: {error}"
            _write_line(journal, record)

    for number in tqdm(numbers, plan.folder.name, unit="image", leave=False, disable=not show):
        record: Record = {"name": source.names[number], "stamp": source.stamp(number)}
        try:
            sample = source.read(number)
            images = plan.restore(number, sample)
        except UserError as error:
            _write_line(journal, record | {"problem": str(error)})
            continue
        if sample.notes:
            record["notes"] = list(sample.notes)
        if sample.target.dtype == np.uint8:
            images = {stage: eight_bit(image) for stage, image in images.items()}
        if plan.save_images:
            write_png(image_path(plan, record["name"]), eight_bit(images[max(images)]))
            record["saved"] = True
        futures = {stage: scorers.submit(plan.measure, image, sample.target) for stage, image in images.items()}
        waiting.append((record, futures))
        finish(most=_WAITING * max(1, scorers.workers))
    finish(most=0)


def _plain(scores: Scores) -> list[float | None]:
    """For JSON, which knows no infinity."""
    psnr, ssim = scores
    return [None if np.isinf(psnr) else psnr, ssim]


def _known(plan: Plan) -> dict[str, Record]:
    """What earlier runs of the same key wrote, finished or not, by name."""
    found: dict[str, Record] = {}
    for path in [plan.folder / RESULTS, *sorted(plan.folder.glob(_JOURNALS))]:
        try:
            text = path.read_text(encoding="utf-8")
            if path.name == RESULTS:
                content = json.loads(text)
                key, records = content["settings"], content["images"]
            else:
                head, *records = _lines(text)
                key = head["key"]
            if key == plan.key:
                found |= {record["name"]: record for record in records}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not there, cut off at its very beginning, or somebody else's
    return found


def _lines(text: str) -> list[Record]:
    """All lines but one that was cut off while it was written."""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def _is_done(record: Record | None, source: Source, number: int, plan: Plan) -> bool:
    if record is None or "scores" not in record or record["stamp"] != source.stamp(number):
        return False
    # A picture of that name may be an earlier run's, of other settings.
    return not plan.save_images or ("saved" in record and image_path(plan, record["name"]).exists())


def _write_line(journal: TextIO, record: Record) -> None:
    journal.write(_line(record))
    journal.flush()


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"  # ASCII: names of files may hold anything


def _journal(folder: Path, rank: int | str) -> Path:
    return folder / f".scores.{rank}.jsonl"
