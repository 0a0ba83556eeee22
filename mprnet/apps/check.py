"""Read data sets and say what is wrong with them: train.py --check and test.py --check."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.data.checking import Findings, check_pairs
from mprnet.data.folders import resolve_folder
from mprnet.data.formats import dnd
from mprnet.data.pairs import Pair, describe_orphans, find_pair_folders, match_pairs
from mprnet.data.scenes import split_by_scene
from mprnet.errors import UserError
from mprnet.evaluation.protocols import Benchmark
from mprnet.evaluation.sources import BlockSource
from mprnet.training.datasets import GetData, pairs_of, training_set, validation_set
from mprnet.training.samples import TrainingSamples, ValidationPairs, file_pairs

_SHOWN = 20


def check_training(settings: CfgNode, get_training_data: GetData, get_validation_data: GetData) -> int:
    """Print what there is to say of the data that ``settings`` name; the exit status: 1 if there are problems.

    Args:
        get_training_data, get_validation_data: the task's, from its data_RGB.py.
    """
    t = settings.TRAINING
    if settings.SYNTHETIC.DEGRADATION:
        print("these settings train on generated pictures: there is no data set to check.")
        return 0
    if not t.TRAIN_DIR:
        raise UserError("there is nothing to train on: set TRAINING.TRAIN_DIR.")
    named = [("training", t.TRAIN_DIR, t.PAIRS, partial(training_set, settings, get_training_data))]
    if not t.HOLD_OUT:
        named.append(("validation", t.VAL_DIR, t.VAL_PAIRS, partial(validation_set, settings, get_validation_data)))
    done: list[Findings] = []
    status = 0
    for kind, folder, expected, make in named:
        print(f"{kind} pairs: {folder or 'none named'}")
        try:
            data = make()
        except UserError as error:
            problems = [str(error), *(_tree(resolve_folder(folder, t.ELSE_IN), expected) if folder else [])]
        else:
            problems = _check_set(data, kind, expected, done, t)
        status = max(status, _print_problems(problems))
    if t.HOLD_OUT and done:
        try:
            kept, held = split_by_scene(done[0].pairs, t.HOLD_OUT, t.SCENE, t.SEED)
            print(f"held out to validate on: {len(held):,} pairs; {len(kept):,} are left to train on")
        except UserError as error:
            status = max(status, _print_problems([str(error)]))
    both = set.intersection(*(set(findings.digests) for findings in done)) if len(done) == 2 else set()
    if both:
        names = sorted(done[0].digests[digest] for digest in both)
        some = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        print(f"in the training and in the validation pairs alike, to be left out of one: {some}")
        status = 1
    print("nothing wrong was found." if status == 0 else "see above for what to mend.")
    return status


def check_benchmarks(places: Mapping[Benchmark, Path | None], datasets: Path) -> int:
    """Print what there is to say of benchmarks; the exit status: 1 if there are problems.

    Args:
        places: each benchmark's folder, None if it is not there.
        datasets: where they are looked for.
    """
    status = 0
    for benchmark, place in places.items():
        print(f"{benchmark.name}: {place or 'not there'}")
        if place is None:
            print(f"  expected: {benchmark.expected(datasets)}")
            continue
        try:
            problems = _benchmark_problems(benchmark, place)
        except UserError as error:
            problems = [str(error)]
        status = max(status, _print_problems(problems))
    present = [place for place in places.values() if place is not None]
    if not present:
        print("none of the data sets is there.")
        return 1
    print("nothing wrong was found in what is there." if status == 0 else "see above for what to mend.")
    return status


def _benchmark_problems(benchmark: Benchmark, place: Path) -> list[str]:
    if benchmark.kind == "pairs":
        matching = match_pairs(*find_pair_folders(place))
        problems = [describe_orphans(matching)] if matching.orphans else []
        return problems + _check_pairs(
            matching.pairs, benchmark.name, benchmark.count, [], aligned=benchmark.measure != "aligned"
        )
    if benchmark.kind == "sidd":
        count = len(BlockSource(place).names)
        print(f"  {count:,} blocks{_beside(count, benchmark.count)}")
        return []
    boxes = dnd.read_boxes(place)
    count = boxes.shape[0] * boxes.shape[1]
    print(f"  {count:,} boxes{_beside(count, benchmark.count)}")
    problems = []
    for number, own in enumerate(tqdm(boxes, "DND", unit="image", leave=False)):
        try:
            height, width = dnd.read_image(place, number).shape[:2]
        except UserError as error:
            problems.append(str(error))
            continue
        if own[:, 2].max() > height or own[:, 3].max() > width:
            problems.append(f"photograph {number + 1} is {width}x{height}, too small for its boxes.")
    return problems


def _beside(count: int, published: int) -> str:
    if not published:
        return ""
    return ", as published" if count == published else f"; {published:,} are published"


def _print_problems(problems: list[str]) -> int:
    for problem in problems[:_SHOWN]:
        print(f"  {problem}")
    if len(problems) > _SHOWN:
        print(f"  and {len(problems) - _SHOWN} more")
    return int(bool(problems))


def _check_set(data: Any, kind: str, expected: int, done: list[Findings], training: CfgNode) -> list[str]:
    """Print what is neither good nor bad of a task's data set, and return the problems."""
    if (pairs := file_pairs(data)) is not None:
        orphans = len(getattr(data, "orphans", ()))
        problems = [f"{orphans:,} pictures have no partner: see the note."] if orphans else []
        return problems + _check_pairs(pairs, kind, expected, done, training.TRAIN_PS)
    problems = []
    items: Any
    try:
        items = TrainingSamples(data, training.SEED) if kind == "training" else ValidationPairs(data)
        if training.HOLD_OUT:
            pairs_of(data)
    except UserError as error:
        return [str(error)]
    sizes: set[str] = set()
    for index in tqdm(range(len(items)), kind, unit="item", leave=False):
        try:
            target = items[(1, index) if kind == "training" else index][1]
            sizes.add(f"{target.shape[2]}x{target.shape[1]}")
        except UserError as error:
            problems.append(str(error))
        except Exception as error:  # the data set is the task's own: it may raise anything
            problems.append(f"item {index}: {type(error).__name__}: {error}")
    if kind == "training" and len(sizes) > 1:
        problems.append(f"items are of several sizes, {', '.join(sorted(sizes)[:5])}: crop them alike.")
    print(f"  {len(items):,} items, each read once (files are compared if the data set has an attribute pairs)")
    return problems


def _check_pairs(
    pairs: Sequence[Pair], name: str, expected: int, done: list[Findings], patch: int = 0, aligned: bool = True
) -> list[str]:
    """Print what is neither good nor bad, and return the problems."""
    findings = check_pairs(pairs, name, aligned)
    done.append(findings)
    print(f"  {len(findings.pairs):,} pairs{_beside(len(findings.pairs), expected)}")
    common = ", ".join(f"{width}x{height} ({count:,})" for (width, height), count in findings.sizes.most_common(5))
    print(f"  sizes: {common}{', ...' if len(findings.sizes) > 5 else ''}")
    small = sum(count for size, count in findings.sizes.items() if min(size) < patch)
    if small:
        print(f"  {small:,} are smaller than the patch, {patch}, and will be padded by reflection")
    return findings.problems


def _tree(folder: Path, expected: int) -> list[str]:
    count = f"{expected:,} pictures" if expected else "pictures"
    return [
        f"{folder}/",
        f"    input/     {count}, degraded: NAME.png (or .jpg, .tif, ...)",
        f"    target/    {count}, what they should become: the same names",
    ]
