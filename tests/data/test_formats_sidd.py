import json
from pathlib import Path

import cv2
import numpy as np
import programs
import pytest
import scipy.io
from apps.miniatures import write_photographs
from conftest import ROOT

from mprnet.data.formats.sidd import NOISY_BLOCKS, TARGET_BLOCKS
from mprnet.data.paired import find_pairs
from mprnet.data.reading import read_rgb


def write_blocks(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    blocks = {}
    for index, key in enumerate((NOISY_BLOCKS, TARGET_BLOCKS)):
        blocks[key] = np.random.default_rng(index).integers(0, 256, (2, 3, 16, 16, 3), np.uint8)
        scipy.io.savemat(folder / f"{key}.mat", {key: blocks[key]})
    return blocks


def run(folder: Path, *arguments: object) -> tuple[int, str]:
    options = {"--src_dir": folder / "Data", "--tar_dir": folder / "train", "--mat_dir": folder / "test"}
    options |= {"--val_dir": folder / "val", "--ps": 32, "--num_patches": 12}
    options |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    words = [str(word) for pair in options.items() for word in pair]
    script = ROOT / "Denoising" / "generate_patches_SIDD.py"
    process = programs.run(script, *words)
    assert "Traceback" not in process.stderr, process.stderr
    return process.returncode, process.stdout + process.stderr


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_patches_and_validation_blocks_are_written(tmp_path):
    write_photographs(tmp_path / "Data")
    blocks = write_blocks(tmp_path / "test")
    status, output = run(tmp_path)
    assert status == 0, output
    pairs = find_pairs(tmp_path / "train")
    assert len(pairs) == 3 * 2 * 12
    assert pairs[0].name == "0001_001_S6_00100_00060_3200_L_010_00"
    patches = set()
    for pair in pairs:
        noisy, target = read_rgb(pair.input), read_rgb(pair.target)
        assert noisy.shape == (32, 32, 3)
        np.testing.assert_array_equal(noisy, 255 - target)
        patches.add(noisy.tobytes())
    assert len(patches) > 60
    validation = find_pairs(tmp_path / "val")
    assert len(validation) == 6
    np.testing.assert_array_equal(read_rgb(validation[4].input), blocks[NOISY_BLOCKS][1, 1])
    np.testing.assert_array_equal(read_rgb(validation[4].target), blocks[TARGET_BLOCKS][1, 1])


def test_a_second_run_writes_only_missing_patches(tmp_path):
    write_photographs(tmp_path / "Data")
    run(tmp_path)
    files = content(tmp_path / "train")
    removed = sorted((tmp_path / "train" / "target").iterdir())[5:40]
    for path in removed:
        path.unlink()
    untouched = tmp_path / "train" / "input" / "0001_001_S6_00100_00060_3200_L_010_03.png"
    before = untouched.stat().st_mtime_ns
    assert run(tmp_path, "--num_cores", 1)[0] == 0
    assert content(tmp_path / "train") == files
    assert untouched.stat().st_mtime_ns == before


def test_folders_with_other_patches_or_pictures_are_refused(tmp_path):
    write_photographs(tmp_path / "Data", 1)
    run(tmp_path)
    files = content(tmp_path / "train")
    for change in (["--seed", 3], ["--ps", 16], ["--num_patches", 5]):
        status, output = run(tmp_path, *change)
        assert status == 1
        assert "cut otherwise" in output
    assert content(tmp_path / "train") == files
    assert json.loads(files["patches.json"]) == {"size": 32, "count": 12, "seed": 0}
    (tmp_path / "train" / "patches.json").unlink()
    assert "holds pictures already" in run(tmp_path)[1]


def test_bad_photographs_are_reported_and_the_others_are_cut(tmp_path):
    write_photographs(tmp_path / "Data")
    folders = sorted((tmp_path / "Data").iterdir())
    (folders[0] / "0001_GT_SRGB_010.PNG").write_text("oops")
    (folders[1] / "0002_GT_SRGB_011.PNG").unlink()
    cv2.imwrite(str(folders[2] / "0003_GT_SRGB_010.PNG"), np.zeros((20, 20, 3), np.uint8))
    status, output = run(tmp_path)
    assert status == 1
    assert "not a picture, or of a kind" in output
    assert "0002_NOISY_SRGB_011.PNG: has no partner" in output
    assert "different sizes" in output
    assert len(find_pairs(tmp_path / "train")) == 3 * 12


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda folder: None, "there are no photographs"),
        (lambda folder: (folder / "Data").mkdir(), "holds no pair"),
        (lambda folder: [write_photographs(folder / "Data"), (folder / "train").write_text("")], "cannot be written"),
        (
            lambda folder: write_blocks(folder / "test") and (folder / "test" / f"{TARGET_BLOCKS}.mat").unlink(),
            "no file",
        ),
        (
            lambda folder: [(folder / "test").mkdir(), (folder / "test" / f"{NOISY_BLOCKS}.mat").write_text("x")],
            "MATLAB",
        ),
        (
            lambda folder: [
                (folder / "test").mkdir(),
                scipy.io.savemat(folder / "test" / f"{NOISY_BLOCKS}.mat", {"other": np.zeros(3)}),
            ],
            "does not hold",
        ),
    ],
)
def test_bad_input_raises_a_clear_error(tmp_path, prepare, sentence):
    prepare(tmp_path)
    status, output = run(tmp_path)
    assert status == 1
    assert sentence in output
