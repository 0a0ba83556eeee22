import cv2
import numpy as np
import pytest

from mprnet import UserError
from mprnet.evaluation.figures import ComparisonRow, Crop, draw_comparison, find_crop
from mprnet.training.curves import draw_curves


def picture(seed: int = 0, height: int = 90, width: int = 120) -> np.ndarray:
    """A flat image with details in one part, 30x30 pixels from (60, 20) on."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[20:50, 60:90] = np.random.default_rng(seed).integers(0, 256, (30, 30, 1))
    return image


def test_the_crop_is_where_details_differ():
    target = picture()
    blurred, noisy = target.copy(), target.copy()
    blurred[20:50, 60:90] = 128
    noisy[:, :30] += np.random.default_rng(1).integers(
        0, 9, (90, 30, 3), np.uint8
    )  # noise in a flat part, which must not attract the crop
    crop = find_crop([blurred, noisy], target, 30)
    assert (abs(crop.left - 60), abs(crop.top - 20)) <= (3, 3)
    assert (crop.width, crop.height) == (30, 30)
    assert find_crop([target], target, 500) == Crop(*find_crop([target], target, 90).__dict__.values())


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_comparison_is_drawn(tmp_path, suffix):
    rows = [
        ComparisonRow("a", {"input": picture(1), "ours": picture(2)}, picture(3)),
        ComparisonRow("b", {"input": picture(1), "ours": picture(2)}, crops=[Crop(0, 0, 20, 20), Crop(60, 20, 30, 30)]),
    ]
    path = tmp_path / f"figure{suffix}"
    draw_comparison(path, rows, "title")
    assert path.stat().st_size > 3000
    if suffix == ".png":
        drawn = cv2.imread(str(path))[:, :, ::-1].reshape(-1, 3)
        for colour in ([255, 212, 0], [0, 200, 255]):  # the frames of both crops
            assert (drawn == colour).all(axis=1).sum() > 50


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (ComparisonRow("a", {"x": picture(), "y": picture(height=80)}), "a: x has 120x90 pixels, but y has 120x80"),
        (ComparisonRow("a", {"x": picture()}, picture(width=100)), "the target has 100x90"),
        (ComparisonRow("a", {"x": picture()}, crops=[Crop(100, 0, 30, 5)]), "is not inside it"),
        (ComparisonRow("a", {"x": picture()}, crops=[Crop(0, 0, 5, 5)] * 5), "at most 4 crops"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(row, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        draw_comparison(tmp_path / "figure.png", [row])


def test_the_curves_of_two_runs_are_drawn_in_one_figure(tmp_path):
    one = [{"epoch": e, "loss": 1 / e, "psnr": 20 + e, "input_psnr": 20} for e in (1, 2, 3)]
    other = [{"epoch": 1, "loss": 1.0}]  # no validation yet
    draw_curves(tmp_path / "one.svg", {"restored": one})
    draw_curves(tmp_path / "both.svg", {"one": one, "other": other})
    lines = [(tmp_path / name).read_text().count("line2d_") for name in ("one.svg", "both.svg")]
    assert lines[1] >= lines[0] + 2  # one more curve of the loss, and one more line in the legend
