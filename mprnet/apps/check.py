"""Read data sets and say what is wrong with them: train.py --check and test.py --check."""

from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.data.checking import Findings, check_pairs
from mprnet.data.formats import dnd
from mprnet.data.paired import located, split_by_scene
from mprnet.data.pairs import Pairing, pairing_of
from mprnet.errors import UserError
from mprnet.evaluation.protocols import Benchmark
from mprnet.evaluation.sources import BlockSource

_SHOWN = 20


def check_training(settings: CfgNode) -> int:
    """Print what there is to say of the data that ``settings`` name; the exit status: 1 if there are problems."""
    t = settings.TRAINING
    if settings.SYNTHETIC.DEGRADATION:
        print("these settings train on generated pictures: there is no data set to check.")
        return 0
    if not t.TRAIN_DIR:
        raise UserError("there is nothing to train on: set TRAINING.TRAIN_DIR.")
    named = [("training", t.TRAIN_DIR, t.PAIRS)]
    named += [] if t.HOLD_OUT else [("validation", t.VAL_DIR, t.VAL_PAIRS)]
    done: list[Findings] = []
    pairing = pairing_of(t.PAIR_BY_ORDER, t.PAIR_MANY_TO_ONE)
    status = 0
    for kind, folder, expected in named:
        print(f"{kind} pairs: {folder or 'none named'}")
        if not folder:
            problems = ["set TRAINING.VAL_DIR, or TRAINING.HOLD_OUT 0.05 to validate on training scenes."]
        else:
            problems = _check_folder(located(folder, t.ELSE_IN), expected, done, t.TRAIN_PS, pairing)
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
        return _check_folder(place, benchmark.count, [], aligned=benchmark.measure != "aligned")
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


def _check_folder(
    folder: Path,
    expected: int,
    done: list[Findings],
    patch: int = 0,
    pairing: Pairing = "name",
    aligned: bool = True,
) -> list[str]:
    """Print what is neither good nor bad, and return the problems."""
    try:
        findings = check_pairs(folder, pairing, aligned)
    except UserError as error:
        return [str(error), *_tree(folder, expected)]
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
