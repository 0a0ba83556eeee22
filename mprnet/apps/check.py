"""Reads data sets and prints what is wrong with them: train.py --check and test.py --check."""

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
from mprnet.errors import UserError, name_some
from mprnet.evaluation.protocols import Benchmark
from mprnet.evaluation.sources import BlockSource, NoisySource
from mprnet.training.datasets import (
    GetData,
    make_training_set,
    make_validation_set,
    reads_training_data,
    require_pairs,
)
from mprnet.training.samples import TrainingSamples, ValidationPairs, find_pairs

_MOST_SHOWN = 20


def check_training(settings: CfgNode, get_training_data: GetData, get_validation_data: GetData) -> int:
    """Print what is wrong with the data that ``settings`` name. Return the exit status: 1 if there are problems.

    Args:
        get_training_data, get_validation_data: the task's functions, from its data_RGB.py.

    Raises:
        UserError: there is nothing to train on.
    """
    t = settings.TRAINING
    if not reads_training_data(settings):
        print("these settings train on generated pictures: there is no data set to check.")
        return 0
    sets = [("training", t.TRAIN_DIR, t.PAIRS, partial(make_training_set, settings, get_training_data))]
    if not t.HOLD_OUT:
        sets.append(("validation", t.VAL_DIR, t.VAL_PAIRS, partial(make_validation_set, settings, get_validation_data)))
    findings: list[Findings] = []
    status = 0
    for kind, folder, expected, make in sets:
        print(f"{kind} pairs: {folder or 'none named'}")
        try:
            data = make()
        except UserError as error:
            problems = [str(error), *(_expected_tree(resolve_folder(folder, t.ELSE_IN), expected) if folder else [])]
        else:
            problems = _check_set(data, kind, expected, findings, t)
        status = max(status, _print_problems(problems))
    if t.HOLD_OUT and findings:
        try:
            training, held_out = split_by_scene(findings[0].pairs, t.HOLD_OUT, t.SCENE, t.SEED)
            print(f"held out to validate on: {len(held_out):,} pairs; {len(training):,} are left to train on")
        except UserError as error:
            status = max(status, _print_problems([str(error)]))
    common = set.intersection(*(set(each.digests) for each in findings)) if len(findings) == 2 else set()
    if common:
        names = sorted(findings[0].digests[digest] for digest in common)
        print(f"in both the training and the validation pairs; remove them from one of the two: {name_some(names)}")
        status = 1
    print("nothing wrong was found." if status == 0 else "see above for what to fix.")
    return status


def check_benchmarks(folders: Mapping[Benchmark, Path | None], datasets: Path) -> int:
    """Print what is wrong with benchmarks. Return the exit status: 1 if there are problems.

    Args:
        folders: each benchmark's folder; None if it is not there.
        datasets: the folder that should contain them.
    """
    status = 0
    for benchmark, folder in folders.items():
        print(f"{benchmark.set}: {folder or 'not there'}")
        if folder is None:
            print(f"  expected: {benchmark.describe_files(datasets)}")
            continue
        try:
            problems = _check_benchmark(benchmark, folder)
        except UserError as error:
            problems = [str(error)]
        status = max(status, _print_problems(problems))
    if all(folder is None for folder in folders.values()):
        print("none of the data sets is there.")
        return 1
    print("nothing wrong was found in the data sets that are there." if status == 0 else "see above for what to fix.")
    return status


def _check_benchmark(benchmark: Benchmark, folder: Path) -> list[str]:
    """Print the numbers of images, and return the problems."""
    if benchmark.kind == "pairs":
        matching = match_pairs(*find_pair_folders(folder))
        problems = [describe_orphans(matching)] if matching.orphans else []
        return problems + _check_pairs(
            matching.pairs, benchmark.name, benchmark.count, [], aligned=benchmark.measure != "aligned"
        )
    if benchmark.noise is not None:
        return _check_clean_pictures(NoisySource(folder, benchmark.noise), benchmark)
    if benchmark.kind == "sidd":
        count = len(BlockSource(folder).names)
        print(f"  {count:,} blocks{_compare_count(count, benchmark.count)}")
        return []
    boxes = dnd.read_boxes(folder)
    count = boxes.shape[0] * boxes.shape[1]
    print(f"  {count:,} boxes{_compare_count(count, benchmark.count)}")
    problems = []
    for number, image_boxes in enumerate(tqdm(boxes, "DND", unit="image", leave=False)):
        try:
            height, width = dnd.read_image(folder, number).shape[:2]
        except UserError as error:
            problems.append(str(error))
            continue
        if image_boxes[:, 2].max() > height or image_boxes[:, 3].max() > width:
            problems.append(f"photograph {number + 1} is {width}x{height}, too small for its boxes.")
    return problems


def _check_clean_pictures(source: NoisySource, benchmark: Benchmark) -> list[str]:
    """Print the number of pictures, and return the problems."""
    count = len(source.names)
    print(f"  {count:,} pictures{_compare_count(count, benchmark.count)}")
    problems = []
    for number in tqdm(range(count), benchmark.set, unit="picture", leave=False):
        try:
            source.read(number)
        except UserError as error:
            problems.append(str(error))
    return problems


def _compare_count(count: int, published: int) -> str:
    """Return a text to print after ``count``; empty if the published number is not known (0)."""
    if not published:
        return ""
    return ", as published" if count == published else f"; {published:,} are published"


def _print_problems(problems: list[str]) -> int:
    """Print the first problems. Return 1 if there are any, else 0."""
    for problem in problems[:_MOST_SHOWN]:
        print(f"  {problem}")
    if len(problems) > _MOST_SHOWN:
        print(f"  and {len(problems) - _MOST_SHOWN} more")
    return int(bool(problems))


def _check_set(data: Any, kind: str, expected: int, all_findings: list[Findings], training: CfgNode) -> list[str]:
    """Print the numbers and sizes of a task's data set, and return the problems. Findings go to ``all_findings``."""
    if (pairs := find_pairs(data)) is not None:
        orphans = len(getattr(data, "orphans", ()))
        problems = [f"{orphans:,} pictures have no partner: see the note."] if orphans else []
        return problems + _check_pairs(pairs, kind, expected, all_findings, training.TRAIN_PS)
    problems = []
    items: Any
    try:
        items = TrainingSamples(data, training.SEED) if kind == "training" else ValidationPairs(data)
        if training.HOLD_OUT:
            require_pairs(data)
    except UserError as error:
        return [str(error)]
    sizes: set[str] = set()
    for index in tqdm(range(len(items)), kind, unit="item", leave=False, disable=None):
        try:
            target = items[(1, index) if kind == "training" else index][1]
            sizes.add(f"{target.shape[2]}x{target.shape[1]}")
        except UserError as error:
            problems.append(str(error))
        except Exception as error:  # the data set is the user's code: it can raise anything
            problems.append(f"item {index}: {type(error).__name__}: {error}")
    if kind == "training" and len(sizes) > 1:
        problems.append(f"items have different sizes, {', '.join(sorted(sizes)[:5])}: crop them to one size.")
    print(f"  {len(items):,} items, each read once (files are compared if the data set has an attribute pairs)")
    return problems


def _check_pairs(
    pairs: Sequence[Pair],
    name: str,
    expected: int,
    all_findings: list[Findings],
    patch: int = 0,
    aligned: bool = True,
) -> list[str]:
    """Print the numbers and sizes of pairs, and return the problems. The findings go to ``all_findings``."""
    findings = check_pairs(pairs, name, aligned)
    all_findings.append(findings)
    print(f"  {len(findings.pairs):,} pairs{_compare_count(len(findings.pairs), expected)}")
    most_common = ", ".join(f"{width}x{height} ({count:,})" for (width, height), count in findings.sizes.most_common(5))
    print(f"  sizes: {most_common}{', ...' if len(findings.sizes) > 5 else ''}")
    small = sum(count for size, count in findings.sizes.items() if min(size) < patch)
    if small:
        print(f"  {small:,} are smaller than the patch, {patch}, and will be padded by reflection")
    return findings.problems


def _expected_tree(folder: Path, expected: int) -> list[str]:
    """Return lines that show the folders and files to provide."""
    count = f"{expected:,} pictures" if expected else "pictures"
    return [
        f"{folder}/",
        f"    input/     {count}, degraded: NAME.png (or .jpg, .tif, ...)",
        f"    target/    {count}, the targets: the same names",
    ]
