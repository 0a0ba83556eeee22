"""Read a run's data sets and say what is wrong with them: train.py --check."""

from pathlib import Path

from yacs.config import CfgNode

from mprnet.data.checking import Findings, check_pairs
from mprnet.data.paired import located
from mprnet.errors import UserError

_SHOWN = 20


def check_training(settings: CfgNode) -> int:
    """Print what there is to say of the data that ``settings`` name; the exit status: 1 if there are problems."""
    t = settings.TRAINING
    if not t.TRAIN_DIR:
        print("these settings train on generated pictures: there is no data set to check.")
        return 0
    named = [("training", t.TRAIN_DIR, t.PAIRS)]
    named += [] if t.HOLD_OUT else [("validation", t.VAL_DIR, t.VAL_PAIRS)]
    done: list[Findings] = []
    status = 0
    for kind, folder, expected in named:
        print(f"{kind} pairs: {folder or 'none named'}")
        if not folder:
            problems = ["set TRAINING.VAL_DIR, or TRAINING.HOLD_OUT 0.05 to validate on training scenes."]
        else:
            problems = _check_folder(located(folder, t.ELSE_IN), expected, t.TRAIN_PS, t.PAIR_BY_ORDER, done)
        for problem in problems[:_SHOWN]:
            print(f"  {problem}")
        if len(problems) > _SHOWN:
            print(f"  and {len(problems) - _SHOWN} more")
        status = max(status, int(bool(problems)))
    both = set.intersection(*(set(findings.digests) for findings in done)) if len(done) == 2 else set()
    if both:
        some = ", ".join(done[0].digests[digest] for digest in list(both)[:3])
        print(
            f"{len(both)} inputs are in the training and in the validation pairs ({some}, ...): leave them out of one."
        )
        status = 1
    print("nothing wrong was found." if status == 0 else "see above for what to mend.")
    return status


def _check_folder(folder: Path, expected: int, patch: int, by_order: bool, done: list[Findings]) -> list[str]:
    """Print what is neither good nor bad, and return the problems."""
    try:
        findings = check_pairs(folder, by_order)
    except UserError as error:
        return [str(error), *_tree(folder, expected)]
    done.append(findings)
    known = "" if not expected else ", as published" if findings.pairs == expected else f"; {expected:,} are published"
    print(f"  {findings.pairs:,} pairs{known}")
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
