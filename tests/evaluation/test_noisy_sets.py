"""Benchmarks that add noise to clean pictures."""

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from mprnet import UserError
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.evaluation.paper_tables import format_paper_table
from mprnet.evaluation.protocols import load_protocols
from mprnet.evaluation.sources import AddedNoise, NoisySource

ENTRY = "{kind: noise, places: [Set], count: 2, measure: rgb, sigma: [15, 50], seed: 7}"


def test_noise_depends_on_seed_and_number_and_grows_with_sigma():
    clean = np.full((60, 60, 3), 128, np.uint8)
    noisy = AddedNoise(25, clipped=False, seed=1).add(clean, 3)
    assert noisy.dtype == np.float32
    assert (255 * noisy - 128).std() == pytest.approx(25, rel=0.03)
    assert np.array_equal(noisy, AddedNoise(25, clipped=False, seed=1).add(clean, 3))
    assert not np.array_equal(noisy, AddedNoise(25, clipped=False, seed=1).add(clean, 4))
    assert not np.array_equal(noisy, AddedNoise(25, clipped=False, seed=2).add(clean, 3))
    stronger = AddedNoise(50, clipped=False, seed=1).add(clean, 3)
    np.testing.assert_allclose(stronger * 255 - 128, 2 * (noisy * 255 - 128), atol=1e-3)


def test_clipped_noise_is_the_same_noise_as_in_a_file():
    clean = np.full((40, 40, 3), 250, np.uint8)
    free, clipped = (AddedNoise(30, clipped, 0).add(clean, 0) for clipped in (False, True))
    assert free.max() > 1.05
    assert clipped.dtype == np.uint8
    assert np.abs(clipped - np.clip(255 * free, 0, 255)).max() < 0.51


def test_a_folder_of_clean_pictures_is_a_set(tmp_path):
    pictures = {name: dead_leaves(1, index, 20) for index, name in enumerate(("b.png", "a noisy.png"))}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / name)
    source = NoisySource(tmp_path, AddedNoise(25, False, 0))
    assert source.names == ["a noisy", "b"]
    assert source.orphans == []
    sample = source.read(1)
    assert np.array_equal(sample.target, pictures["b.png"])
    assert np.array_equal(sample.degraded, source.noise.add(sample.target, 1))
    shown = sample.show_degraded()
    assert shown.dtype == np.uint8
    assert np.abs(shown - 255 * np.clip(sample.degraded, 0, 1)).max() <= 0.5


def write_protocols(path, entry: str):
    path.write_text(f"measure: rgb\nbenchmarks:\n  Set: {entry}\n  Own: {{places: [x], count: 1, measure: rgb}}\n")
    return load_protocols(path)


def test_a_set_has_a_benchmark_for_each_sigma_and_convention(tmp_path):
    protocols = write_protocols(tmp_path / "benchmarks.yml", ENTRY)
    assert [*protocols.benchmarks] == ["Set_15", "Set_50", "Set_15_clipped", "Set_50_clipped", "Own"]
    assert protocols.benchmarks["Set_50_clipped"].noise == AddedNoise(50, True, 7)
    assert [(name, b.name) for name, b in protocols.sets().items()] == [("Set", "Set_15"), ("Own", "Own")]
    assert [b.name for b in protocols.select(["Set_50", "Set", "Set_50"])][:2] == ["Set_50", "Set_15"]
    assert len(protocols.select(["Set_50", "Set"])) == 4
    assert [b.name for b in protocols.select(["Own"])] == ["Own"]
    with pytest.raises(UserError, match="sigma"):
        write_protocols(tmp_path / "benchmarks.yml", ENTRY.replace("sigma: [15, 50], ", ""))


def test_tables_of_psnr_alone_show_our_psnr_alone():
    (table,) = (t for t in load_protocols(ROOT / "Denoising" / "benchmarks.yml").tables if "CBSD68" in t.name)
    lines = format_paper_table(table, {"CBSD68_15": (34.4, 0.93), "CBSD68_50": (27.6, 0.9)}).splitlines()
    assert lines[0].split("  ")[-1] == "CBSD68_50"
    dncnn = next(line for line in lines if "DnCNN" in line)
    assert dncnn.split() == ["DnCNN", "33.90", "(5.6%)", "31.24", "(6.1%)", "27.95", "(7.2%)"]
    assert lines[-2].split() == ["ours", "34.40", "(0.0%)", "-", "27.60", "(10.9%)"]
    assert lines[-1].startswith("PSNR;")
