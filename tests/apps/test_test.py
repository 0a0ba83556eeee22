"""test.py of every task, on small copies of the benchmarks in their real layout."""

import csv
import functools
import json
import os
import shutil
import signal
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import programs
import pytest
import scipy.io
from conftest import ROOT
from PIL import ExifTags, Image

from apps.miniatures import COUNT, PAIRS, make_pair, write_benchmarks, write_image, write_weights
from mprnet import Restorer, load_model, metrics
from mprnet.data.png import encode_png
from mprnet.evaluation.paper_tables import error_reductions


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with the data sets of all tasks, and the weights of a tiny network."""
    project = tmp_path_factory.mktemp("project")
    for task in ("Deblurring", "Denoising", "Deraining"):
        write_benchmarks(task, project / task)
    write_weights(project / "tiny.safetensors")
    return project


def run(project: Path, task: str, *arguments: object, script: str = "test.py", status: int = 0, start=()) -> str:
    weights = [] if "--score_only" in arguments else ["--weights", project / "tiny.safetensors"]
    words = ["--input_dir", project / task, *weights, "--workers", 0, *arguments]
    done = programs.run(*start, ROOT / task / script, *words)
    assert start or "Traceback" not in done.stderr, (
        done.stderr
    )  # torchrun prints a traceback of its own if a process fails
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def read_results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def restore(project: Path, degraded: np.ndarray, stage: int = 3) -> np.ndarray:
    return load_restorer(project / "tiny.safetensors", stage)(degraded.astype(np.float32) / 255)


@functools.cache
def load_restorer(weights: Path, stage: int) -> Restorer:
    return Restorer(load_model(weights), "cpu", stage=stage)


def compute_scores(measure: str, result: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    if measure == "luma":
        a, b = metrics.luma(result), metrics.luma(target)
        return metrics.psnr(a, b), metrics.ssim_wang2003(a, b)
    if measure == "aligned":
        aligned = metrics.align(result, target)
        return metrics.masked_psnr(aligned), metrics.masked_ssim(aligned)
    return metrics.psnr(result, target), metrics.ssim_volume(result, target)


@pytest.mark.parametrize("task", PAIRS)
def test_scores_of_pairs_equal_a_direct_computation(project, tmp_path, task):
    output = run(project, task, "--result_dir", tmp_path, "--save_images", "--stagewise", "--table")
    assert "not an MPRNet of the paper" in output
    assert "not the whole set" in output
    for number, name in enumerate(PAIRS[task]):
        found = read_results(tmp_path / name)
        measure = "luma" if task == "Deraining" else "aligned" if name.startswith("RealBlur") else "rgb"
        assert [record["name"] for record in found["images"]] == ["0", "1", "2"]
        means = []
        for index, record in enumerate(found["images"]):
            degraded, target = make_pair(10 * number + index)
            for stage in (1, 2, 3):
                result = np.rint(255 * restore(project, degraded, stage)).astype(np.uint8)
                psnr, ssim = record["scores"][str(stage)]
                assert (psnr, ssim) == pytest.approx(compute_scores(measure, result, target), abs=1e-3), (name, stage)
            means.append(psnr)
            saved = cv2.imread(str(tmp_path / name / "images" / f"{index}.png"))[:, :, ::-1]
            assert np.abs(saved.astype(int) - result).max() <= 1
        summary = found["summary"]["stage 3"]
        assert summary["psnr"] == pytest.approx(np.mean(means))
        assert (summary["images"], summary["identical"]) == (3, 0)
        assert f"{name}, stage 3" in output
        assert f"{summary['psnr']:.2f}" in output
        with open(tmp_path / name / "results.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == 9
        assert cv2.imread(str(tmp_path / name / "page.png")).shape[1] == 4 * 320 + 20
        assert [path.name for path in (tmp_path / name).glob(".*")] == [".lock"]


def test_sidd_is_scored_in_single_precision(project, tmp_path):
    words = ["--result_dir", tmp_path, "--save_images", "--png_level", 9]
    output = run(project, "Denoising", *words, script="test_SIDD.py")
    found = read_results(tmp_path / "SIDD")
    assert [record["name"] for record in found["images"]] == ["00_00", "00_01", "01_00", "01_01"]
    for number, record in enumerate(found["images"]):
        degraded, target = make_pair(number, 32)
        expected = compute_scores("rgb", restore(project, degraded), target.astype(np.float32) / 255)
        assert record["scores"]["3"] == pytest.approx(expected, abs=1e-4)
    assert "4 of 1,280 *" in output
    saved = list((tmp_path / "SIDD" / "images").iterdir())
    assert len(saved) == 4
    for path in saved:
        assert path.read_bytes() == encode_png(cv2.imread(str(path))[:, :, ::-1], level=9)


def test_noise_is_added_to_clean_pictures(project, tmp_path):
    """In the literature's convention, noisy pictures are not clipped."""
    targets = [make_pair(index)[1] for index in range(COUNT)]
    names = ["Kodak24_25", "Kodak24_25_clipped"]
    output = run(project, "Denoising", "--result_dir", tmp_path, "--dataset", *names, "--report")
    assert f"{COUNT} of 24 *" in output
    restorer = load_restorer(project / "tiny.safetensors", 3)
    for name in names:
        found = read_results(tmp_path / name)
        assert (tmp_path / name / "report.html").exists()
        for index, target in enumerate(targets):
            noise = 25 * np.random.default_rng([0, index]).standard_normal(target.shape, dtype=np.float32)
            noisy = (target + noise) / 255
            if "clipped" in name:
                noisy = np.rint(255 * noisy.clip(0, 1)) / 255
            result = np.rint(255 * restorer(noisy.astype(np.float32), clipped=False)).astype(np.uint8)
            assert found["images"][index]["scores"]["3"] == pytest.approx(
                compute_scores("rgb", result, target), abs=1e-3
            )


def test_the_submission_for_dnd_has_the_format_of_its_server(project, tmp_path):
    output = run(project, "Denoising", "--result_dir", tmp_path, script="test_DND.py")
    assert "2 files" in output
    assert "it wants 50" in output
    (folder,) = (tmp_path / "DND").glob("submission_*")
    for number in range(2):
        content = scipy.io.loadmat(folder / f"{number + 1:04d}.mat")
        assert content["Idenoised"].shape == (1, 20)
        assert (content["israw"].item(), content["eval_version"].item()) == (0, "1.0")
        noisy = make_pair(number, 56)[0][:48]
        for box in (0, 7, 19):
            crop = noisy[box : 16 + box, 2 + box : 26 + box]
            result = content["Idenoised"][0, box]
            assert result.dtype == np.float32
            np.testing.assert_allclose(result, restore(project, crop), atol=1e-5)
    assert not (tmp_path / "DND" / folder.name.replace("submission", "images")).exists()
    before = (folder / "0001.mat").stat().st_mtime_ns
    (folder / "0002.mat").write_bytes((folder / "0002.mat").read_bytes()[:500])
    run(project, "Denoising", "--result_dir", tmp_path, "--dataset", "DND")
    assert (folder / "0001.mat").stat().st_mtime_ns == before
    assert scipy.io.loadmat(folder / "0002.mat")["Idenoised"].shape == (1, 20)


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def single_process(project, tmp_path_factory) -> Path:
    """The results that one process writes."""
    folder = tmp_path_factory.mktemp("alone")
    run(project, "Deraining", "--result_dir", folder, "--workers", 0, "--save_images", "--device", "cpu")
    return folder


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def test_two_processes_with_two_workers_each_write_the_same_files(project, single_process, tmp_path):
    words = ["--save_images", "--device", "cpu", "--result_dir", tmp_path, "--workers", 2]
    run(project, "Deraining", *words, start=TORCHRUN)
    assert read_files(tmp_path) == read_files(single_process)


def test_a_write_error_in_one_process_ends_this_set_in_all_processes(project, single_process, tmp_path):
    """All processes continue with the next set. Otherwise they would wait for each other in different sets."""
    blocked = tmp_path / "Rain100L" / "images" / "1.png"
    blocked.mkdir(parents=True)  # a folder where the second process has to write a file
    words = ["--save_images", "--device", "cpu", "--result_dir", tmp_path]
    output = run(project, "Deraining", *words, start=TORCHRUN, status=1)
    assert f"error: Rain100L: process 1 of this run: {blocked}: cannot be written" in output
    for name in set(PAIRS["Deraining"]) - {"Rain100L"}:
        assert read_results(tmp_path / name) == read_results(single_process / name)


def test_a_killed_run_continues_where_it_stopped(project, single_process, tmp_path):
    words = ["--input_dir", project / "Deraining", "--weights", project / "tiny.safetensors", "--result_dir", tmp_path]
    words += ["--save_images", "--device", "cpu", "--workers", 0]
    sixth = programs.Stop("mprnet.evaluation.benchmark._write_line", 6, signal.SIGKILL)
    assert programs.run(ROOT / "Deraining" / "test.py", *words, stop=sixth).returncode == -signal.SIGKILL
    journal = tmp_path / "Rain100H" / ".scores.0.jsonl"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("images/*.png")}
    assert before
    with open(journal, "a") as file:
        file.write('{"name": "1", "sco')  # an incomplete line, as if the process was killed while it wrote
    run(project, "Deraining", "--result_dir", tmp_path, *words[6:])
    assert read_files(tmp_path) == read_files(single_process)
    unchanged = [path for path, time in before.items() if path.stat().st_mtime_ns == time]
    assert len(unchanged) >= len(before) - 1


def test_images_are_scored_again_when_weights_settings_or_files_change(project, tmp_path):
    shutil.copytree(project / "Deblurring" / "GoPro", tmp_path / "data" / "GoPro")
    shutil.copy(project / "tiny.safetensors", tmp_path / "tiny.safetensors")
    one_set = ["--dataset", "GoPro", "--result_dir", tmp_path / "r", "--input_dir", tmp_path / "data"]
    run(project, "Deblurring", *one_set)
    first = read_results(tmp_path / "r" / "GoPro")
    write_image(tmp_path / "data" / "GoPro" / "test" / "target" / "1.png", 255 - make_pair(1)[1])
    run(project, "Deblurring", *one_set)
    second = read_results(tmp_path / "r" / "GoPro")
    same = [a["scores"] == b["scores"] for a, b in zip(first["images"], second["images"], strict=True)]
    assert same == [True, False, True]
    run(project, "Deblurring", *one_set, "--stage", 1)
    assert list(read_results(tmp_path / "r" / "GoPro")["images"][0]["scores"]) == ["1"]


def test_saved_pictures_always_belong_to_the_current_settings(project, tmp_path):
    """Run with --save_images, then without it and with other settings, then with it again."""
    one = ["--dataset", "GoPro", "--result_dir", tmp_path]
    run(project, "Deblurring", *one, "--save_images")
    run(project, "Deblurring", *one, "--stage", 1)
    run(project, "Deblurring", *one, "--stage", 1, "--save_images")
    saved = cv2.imread(str(tmp_path / "GoPro" / "images" / "0.png"))[:, :, ::-1]
    expected = np.rint(255 * restore(project, make_pair(0)[0], 1))
    assert np.abs(saved - expected).max() <= 1


def test_a_run_with_a_limit_keeps_the_scores_of_the_other_images(project, tmp_path):
    words = ["--dataset", "GoPro", "--result_dir", tmp_path]
    run(project, "Deblurring", *words, "--save_images")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "GoPro" / "images").iterdir()}
    all_results = read_results(tmp_path / "GoPro")
    assert "1 of 1,111 *" in run(project, "Deblurring", *words, "--save_images", "--limit", 1)
    assert len(read_results(tmp_path / "GoPro")["images"]) == 1
    run(project, "Deblurring", *words, "--save_images")
    assert read_results(tmp_path / "GoPro") == all_results
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "GoPro" / "images").iterdir()}


def test_results_of_another_program_and_own_pairs_are_scored(project, single_process, tmp_path):
    results_of = single_process / "Rain100L" / "images"
    shutil.copytree(results_of, tmp_path / "theirs" / "Rain100L")
    run(
        project,
        "Deraining",
        "--score_only",
        tmp_path / "theirs",
        "--dataset",
        "Rain100L",
        "--result_dir",
        tmp_path / "r",
    )
    ours, theirs = read_results(single_process / "Rain100L"), read_results(tmp_path / "r" / "Rain100L")
    assert [r["scores"] for r in ours["images"]] == [r["scores"] for r in theirs["images"]]
    (tmp_path / "theirs" / "Rain100L" / "1.png").unlink()
    words = ["--score_only", tmp_path / "theirs", "--dataset", "Rain100L", "--result_dir", tmp_path / "r"]
    assert "there is no result" in run(project, "Deraining", *words, "--limit", 2, status=1)
    (tmp_path / "theirs" / "Rain100L" / "2.png").rename(tmp_path / "2.png")
    assert "2: there is no result" not in run(project, "Deraining", *words, "--limit", 2, status=1)
    (tmp_path / "2.png").rename(tmp_path / "theirs" / "Rain100L" / "2.png")
    output = run(project, "Deraining", *words, status=1)
    assert "1: there is no result of this name" in output
    assert "2 of 100 *" in output
    own = [project / "Deraining" / "test" / "Rain100L" / side for side in ("input", "target")]
    run(project, "Deraining", "--pairs", *own, "--result_dir", tmp_path / "own")
    assert [r["scores"] for r in read_results(tmp_path / "own" / "pairs")["images"]] == [
        r["scores"] for r in ours["images"]
    ]
    run(
        project,
        "Deraining",
        "--pairs",
        own[1],
        own[1],
        "--limit",
        2,
        "--measure",
        "rgb",
        "--result_dir",
        tmp_path / "l",
    )
    assert len(read_results(tmp_path / "l" / "pairs")["images"]) == 2


def test_several_inputs_can_share_a_target(project, tmp_path):
    for side, names in (("input", ("1", "2_1", "2_2")), ("target", ("1", "2"))):
        for name in names:
            write_image(tmp_path / side / f"{name}.png", make_pair(int(name[0]))[side == "target"])
    own = ["--pairs", tmp_path / "input", tmp_path / "target", "--measure", "rgb", "--result_dir", tmp_path / "r"]
    output = run(project, "Deraining", *own, status=1)
    assert "2_1.png: has no partner" in output
    assert "--many_to_one) pairs 2 of the inputs" in output
    run(project, "Deraining", *own, "--many_to_one")
    scores = {record["name"]: record["scores"] for record in read_results(tmp_path / "r" / "pairs")["images"]}
    assert list(scores) == ["1", "2_1", "2_2"]
    assert scores["2_1"] == scores["2_2"] != scores["1"]


def test_pictures_are_rotated_as_exif_says(project, tmp_path):
    """As in training. Cameras and telephones store upright pictures rotated, and state the rotation in EXIF."""
    degraded, target = make_pair(0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name in ("upright", "turned", "target"):
        (tmp_path / name).mkdir()
    options = {"quality": 100, "subsampling": 0}
    Image.fromarray(degraded).save(tmp_path / "upright" / "a.jpg", **options)
    Image.fromarray(np.rot90(degraded)).save(tmp_path / "turned" / "a.jpg", exif=exif, **options)
    write_image(tmp_path / "target" / "a.png", target)
    scores = []
    for name in ("upright", "turned"):
        own = [tmp_path / name, tmp_path / "target", "--result_dir", tmp_path / f"{name}_scores"]
        run(project, "Denoising", "--pairs", *own)
        scores.append(read_results(tmp_path / f"{name}_scores" / "pairs")["images"][0]["scores"]["3"])
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


def test_identical_images_are_reported_and_not_in_the_mean(project, tmp_path):
    targets = project / "Deraining" / "test" / "Rain100L" / "target"
    shutil.copytree(targets, tmp_path / "r")
    write_image(tmp_path / "r" / "0.png", make_pair(20)[0])
    words = ["--score_only", tmp_path / "r", "--dataset", "Rain100L", "--result_dir", tmp_path / "out"]
    output = run(project, "Deraining", *words)
    assert "Rain100L: 2 images are identical to their targets" in output
    found = read_results(tmp_path / "out" / "Rain100L")
    assert found["images"][1]["scores"]["3"][0] is None
    summary = found["summary"]["stage 3"]
    assert summary["identical"] == 2
    assert summary["psnr"] == found["images"][0]["scores"]["3"][0]


def test_bad_images_are_reported_and_the_others_are_scored(project, tmp_path):
    data = tmp_path / "GoPro" / "test"
    for index in range(8):
        for side, rgb in zip(("input", "target"), make_pair(index), strict=True):
            write_image(data / side / f"{index}.png", rgb)
    write_image(data / "target" / "0.png", make_pair(0)[1][:30])
    (data / "target" / "1.png").unlink()
    (data / "target" / "lonely.png").write_bytes((data / "target" / "2.png").read_bytes())
    cv2.imwrite(str(data / "target" / "2.png"), make_pair(2)[1].astype(np.uint16) * 257)
    cv2.imwrite(str(data / "target" / "3.png"), make_pair(3)[1][:, :, 0])
    (data / "input" / "4.png").write_text("oops")
    words = ["--input_dir", tmp_path, "--dataset", "GoPro", "--result_dir", tmp_path / "r"]
    output = run(project, "Deblurring", *words, status=1)
    for sentence in (
        "0.png are of different sizes, 44x44 and 44x30",
        "1.png: has no partner",
        "lonely.png: has no partner",
        "2.png has 16 bits a channel",
        "note: the target is grey: 3",
        "4.png: not a picture, or of a kind",
    ):
        assert sentence in output
    found = read_results(tmp_path / "r" / "GoPro")
    assert found["summary"]["stage 3"]["images"] == 4
    grey = np.repeat(make_pair(3)[1][:, :, :1], 3, axis=2)
    expected = metrics.psnr(np.rint(255 * restore(project, make_pair(3)[0])).astype(np.uint8), grey)
    (record,) = [r for r in found["images"] if r["name"] == "3"]
    assert record["scores"]["3"][0] == pytest.approx(expected, abs=1e-3)


def test_scores_are_computed_without_torch_distributed(project, tmp_path):
    words = ["--input_dir", project / "Deraining", "--weights", project / "tiny.safetensors", "--workers", 0]
    words += ["--dataset", "Rain100L", "--limit", 1, "--result_dir", tmp_path]
    done = programs.run(ROOT / "Deraining" / "test.py", *words, stop=programs.WithoutDistributed())
    assert done.returncode == 0, done.stderr
    assert "1 of 100 *" in done.stdout


def test_pictures_that_are_too_small_for_ssim_keep_their_psnr(project, tmp_path):
    """One of three pictures has fewer rows than the window of the luma SSIM."""
    for index, rows in enumerate((44, 10, 44)):
        for side, rgb in zip(("input", "target"), make_pair(index), strict=True):
            write_image(tmp_path / side / f"{index}.png", rgb[:rows])
    words = ["--pairs", tmp_path / "input", tmp_path / "target", "--result_dir", tmp_path / "r", "--report"]
    output = run(project, "Deraining", *words)
    assert "note: smaller than 11x11 pixels, so there is no SSIM: 1\n" in output
    assert "pairs: 1 of 3 images are smaller than 11x11 pixels, so there is no SSIM: its mean is over the" in output
    found = read_results(tmp_path / "r" / "pairs")
    scores = [record["scores"]["3"] for record in found["images"]]
    assert scores[1][1] is None
    summary = found["summary"]["stage 3"]
    assert summary["psnr"] == pytest.approx(np.mean([psnr for psnr, _ in scores]))
    assert summary["ssim"] == pytest.approx((scores[0][1] + scores[2][1]) / 2)
    assert (summary["images"], summary["without_ssim"]) == (3, 1)
    with open(tmp_path / "r" / "pairs" / "results.csv", newline="") as file:
        assert [row["ssim"] == "" for row in csv.DictReader(file)] == [False, True, False]
    assert "1 of 3 images are smaller" in (tmp_path / "r" / "pairs" / "report.html").read_text()


@pytest.mark.parametrize(
    ("task", "arguments", "sentence"),
    [
        ("Deblurring", ["--input_dir", "nowhere"], "none of the data sets"),
        ("Deblurring", ["--dataset", "HIDE", "--input_dir", "nowhere"], "HIDE is not there"),
        ("Deblurring", ["--pairs", "nowhere", "nowhere"], "no folder nowhere"),
        ("Deblurring", ["--score_only", "nowhere", "--dataset", "GoPro"], "no folder nowhere"),
        ("Deblurring", ["--weights", "nowhere.pth"], "no file of weights"),
        ("Denoising", ["--score_only", "x", "--dataset", "DND"], "only DND's server has the targets"),
        ("Denoising", ["--dataset", "SIDD", "--result_dir", "/dev/null/x"], "nothing can be written"),
    ],
)
def test_bad_arguments_are_refused(project, tmp_path, task, arguments, sentence):
    output = run(project, task, "--result_dir", tmp_path, *arguments, status=1)
    assert sentence in output


def test_a_set_that_is_missing_is_named_once(project):
    """Also if it has several benchmarks."""
    output = run(project, "Denoising", "--dataset", "CBSD68", "Kodak24", "--input_dir", "nowhere", status=1)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert [line.split(" is not there: expected ")[0] for line in lines] == ["error: CBSD68", "error: Kodak24"]


def test_the_error_reductions_equal_those_of_the_paper():
    """They are computed from the averages of the paper. The expected values are printed in its Table 2."""
    output = run(ROOT, "Deraining", "--table", "--input_dir", "nowhere")
    brackets = {
        "DerainNet": "22.48 (69.3%) / 0.796 (61.3%)",
        "SEMI": "22.88 (67.8%) / 0.744 (69.1%)",
        "DIDMDN": "24.58 (60.9%) / 0.770 (65.7%)",
        "UMRL": "28.02 (41.9%) / 0.880 (34.2%)",
        "RESCAN": "28.59 (37.9%) / 0.857 (44.8%)",
        "PreNet": "29.42 (31.7%) / 0.897 (23.3%)",
        "MSPFN": "30.75 (20.4%) / 0.903 (18.6%)",
        "MPRNet": "32.73 (0.0%) / 0.921 (0.0%)",
    }
    rows = {line.split()[0]: line for line in output.splitlines() if line.split()}
    for method, cell in brackets.items():
        assert rows[method].endswith(cell)
    assert error_reductions((90.0, 1.0), (33.0, 0.93))[1] == -np.inf


def test_check_reads_every_kind_of_benchmark(project, tmp_path):
    output = run(project, "Deblurring", "--check", status=0)
    assert "3 pairs; 1,111 are published" in output
    output = run(project, "Denoising", "--check")
    assert "4 blocks; 1,280 are published" in output
    assert "40 boxes; 1,000 are published" in output
    assert output.count(f"CBSD68: {project}") == 1
    assert "3 pictures; 68 are published" in output
    output = run(project, "Deraining", "--check", "--input_dir", tmp_path, status=1)
    assert "expected: " in output
    assert "Test2800/{input,target}, 2,800 pictures each" in output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--stage", 1, "--stagewise"],
        ["--measure", "rgb"],
        ["--many_to_one"],
        ["--pairs", "a", "b", "--check"],
        ["--limit", 0],
        ["--png_level", 9],
    ],
)
def test_options_that_would_be_ignored_are_refused(project, arguments):
    run(project, "Deblurring", *arguments, status=2)


def test_unusual_file_names_and_a_picture_that_is_too_large(project, tmp_path):
    data = tmp_path / "GoPro" / "test"
    for number, name in enumerate(("a\u2028b", 'c,d "e"', os.fsdecode(b"\xff"))):
        for side, rgb in zip(("input", "target"), make_pair(number), strict=True):
            write_image(data / side / "x.png", rgb)
            (data / side / "x.png").rename(data / side / f"{name}.png")
    for side in ("input", "target"):
        header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
        (data / side / "large.png").write_bytes(header + zlib.crc32(header[12:]).to_bytes(4, "big"))
    output = run(project, "Deblurring", "--input_dir", tmp_path, "--result_dir", tmp_path / "r", status=1)
    assert "large.png: " in output
    assert read_results(tmp_path / "r" / "GoPro")["summary"]["stage 3"]["images"] == 3


def test_a_lack_of_memory_names_the_images(project, tmp_path):
    for folder in (tmp_path / "input", tmp_path / "target"):
        for name in ("a", "b"):
            write_image(folder / f"{name}.png", np.zeros((16, 16, 3), np.uint8))
    pairs = ["--pairs", tmp_path / "input", tmp_path / "target"]
    output = run(project, "Denoising", *pairs, "--memory", "0.01", "--result_dir", tmp_path / "out", status=1)
    for name in ("a", "b"):
        assert f"error: {name}: 0 MiB are free on cpu of the 10 MiB allowed" in output


class Vanishes(NamedTuple):
    """A folder that another program removes while images are scored."""

    folder: Path

    def prepare(self) -> None:
        from mprnet.evaluation.scoring import Scorers

        submit = Scorers.submit

        def remove_and_submit(*arguments):
            shutil.rmtree(self.folder)
            return submit(*arguments)

        Scorers.submit = remove_and_submit


def test_results_that_vanish_meanwhile_end_in_a_sentence(project, tmp_path):
    write_image(tmp_path / "a" / "x.png", np.zeros((16, 16, 3), np.uint8))
    words = ["--pairs", tmp_path / "a", tmp_path / "a", "--weights", project / "tiny.safetensors", "--workers", 0]
    stop = Vanishes(tmp_path / "out" / "pairs")
    done = programs.run(ROOT / "Denoising" / "test.py", *words, "--result_dir", tmp_path / "out", stop=stop)
    assert done.returncode == 1
    assert f"error: {stop.folder}: the scores of x have been removed meanwhile; start again." in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_the_program(project, tmp_path):
    words = ["--input_dir", project / "Deraining", "--weights", project / "tiny.safetensors", "--result_dir", tmp_path]
    second = programs.Stop("mprnet.evaluation.benchmark._write_line", 2, signal.SIGINT)
    run = programs.run(ROOT / "Deraining" / "test.py", *words, stop=second)
    assert run.returncode == 130
    assert "Traceback" not in run.stderr
