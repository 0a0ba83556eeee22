"""Cuts full photographs into training patches, and validation blocks into pictures: generate_patches_SIDD.py."""

import argparse
import sys
from functools import partial
from pathlib import Path

from mprnet.apps import command
from mprnet.data.formats import sidd
from mprnet.errors import UserError


def main(folder: Path) -> None:
    """Read the command line and cut.

    Args:
        folder: the task's folder; the default paths are in it.
    """
    command.run(partial(_cut, folder))


def _cut(folder: Path) -> int:
    a = _make_parser(folder / "Datasets").parse_args()
    if a.ps < 8 or a.num_patches < 1 or a.num_cores < 1 or a.seed < 0:
        raise UserError("--ps takes at least 8 pixels, --num_patches and --num_cores at least 1, --seed at least 0.")
    sources = {"photographs": a.src_dir, "validation blocks": a.mat_dir / f"{sidd.NOISY_BLOCKS}.mat"}
    missing = [f"no {kind} ({path})" for kind, path in sources.items() if not path.exists()]
    if len(missing) == 2:
        raise UserError(
            f"there are {' and '.join(missing)}: see {folder / 'Datasets' / 'README.md'}, or name their folders."
        )
    for sentence in missing:
        print(f"note: there are {sentence}.")
    problems = _cut_photographs(a) if a.src_dir.exists() else []
    if sources["validation blocks"].exists():
        try:
            count = sidd.write_validation(a.mat_dir, a.val_dir)
            print(f"{count:,} validation pairs are in {a.val_dir}")
        except UserError as error:
            problems.append(str(error))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return int(bool(problems))


def _cut_photographs(a: argparse.Namespace) -> list[str]:
    pairs, problems = sidd.find_photographs(a.src_dir)
    cutting = sidd.Cutting(a.ps, a.num_patches, a.seed)
    sidd.begin_folder(a.tar_dir, cutting)
    sentences = sidd.cut_photographs(pairs, a.tar_dir, cutting, a.num_cores)
    print(f"{(len(pairs) - len(sentences)) * a.num_patches:,} training pairs are in {a.tar_dir}")
    return problems + sentences


def _make_parser(datasets: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Cut full photographs into patches to train on, and the validation blocks into pictures. "
        "An interrupted run continues where it stopped. Nothing is deleted."
    )
    parser.add_argument(
        "--src_dir",
        type=Path,
        default=datasets / "SIDD_Medium_Srgb" / "Data",
        help="the photographs, SCENE/*NOISY*.PNG",
    )
    parser.add_argument(
        "--tar_dir", type=Path, default=datasets / "SIDD" / "train", help="where to write input/ and target/"
    )
    parser.add_argument("--ps", type=int, default=256, help="height and width of a patch; default: 256")
    parser.add_argument(
        "--num_patches", type=int, default=300, help="number of patches from each photograph; default: 300"
    )
    parser.add_argument("--num_cores", type=int, default=10, help="number of threads; default: 10")
    parser.add_argument("--seed", type=int, default=0, help="seed for the positions of the patches; default: 0")
    parser.add_argument(
        "--mat_dir", type=Path, default=datasets / "SIDD" / "test", help="the folder of the two Validation*.mat files"
    )
    parser.add_argument(
        "--val_dir", type=Path, default=datasets / "SIDD" / "val", help="where to write input/ and target/"
    )
    return parser
