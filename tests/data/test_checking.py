import cv2
import numpy as np
import pytest

from mprnet import UserError
from mprnet.data.checking import check_pairs, find_displacement, thumbnail_correlation
from mprnet.data.pairs import find_pair_folders, match_pairs
from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.noise import gaussian_noise


def test_thumbnails_of_pairs_correlate_and_those_of_other_pictures_do_not():
    """The correlation stays high under noise, blur and streaks, and is low for other pictures and flipped ones."""
    rng = np.random.default_rng(0)
    clean = [dead_leaves(7, index, 128) for index in range(12)]
    for image in clean:
        streaks = cv2.blur((rng.random(image.shape[:2]) > 0.98).astype(np.uint8) * 255, (1, 9))
        rainy = cv2.add(image, np.repeat(streaks[:, :, None], 3, 2))
        for degraded in (gaussian_noise(rng, image, 50), cv2.blur(image, (21, 1)), rainy):
            assert thumbnail_correlation(degraded, image) > 0.8
    others = [thumbnail_correlation(clean[i], clean[(i + 1) % 12]) < 0.5 for i in range(12)]
    flips = [thumbnail_correlation(image, image[::-1]) < 0.5 for image in clean]
    assert sum(others) >= 11
    assert sum(flips) >= 9


@pytest.mark.parametrize("shift", [(0, 0), (5, 0), (0, -3), (-4, 7), (20, 12)])
@pytest.mark.parametrize("sigma", [0, 25])
def test_find_displacement_under_noise(shift, sigma):
    big = dead_leaves(2, 0, 160)
    dx, dy = shift
    degraded = gaussian_noise(np.random.default_rng(0), big[24:136, 24:136], sigma)
    target = big[24 - dy : 136 - dy, 24 - dx : 136 - dx]
    assert find_displacement(degraded, target) == shift


def test_blur_and_noise_are_not_taken_for_a_displacement():
    rng = np.random.default_rng(0)
    for index in range(6):
        clean = dead_leaves(3, index, 96)
        flat = np.full_like(clean, 90)
        assert find_displacement(cv2.GaussianBlur(clean, (0, 0), 3), clean) == (0, 0)
        assert find_displacement(cv2.blur(clean, (9, 1)), clean) == (0, 0)
        assert find_displacement(gaussian_noise(rng, flat, 30), flat) == (0, 0)
        assert find_displacement(clean[:8], clean[:8]) == (0, 0)


@pytest.fixture
def folder(tmp_path):
    for index in range(5):
        clean = dead_leaves(9, index, 64)
        noisy = gaussian_noise(np.random.default_rng(index), clean, 25)
        for side, image in (("input", noisy), ("target", clean)):
            (tmp_path / side).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / side / f"{index}.png"), image[:, :, ::-1])
    return tmp_path


def test_good_pairs_have_no_problems(folder):
    findings = check_pairs(match_pairs(*find_pair_folders(folder)).pairs, "test")
    assert (len(findings.pairs), findings.problems, dict(findings.sizes)) == (5, [], {(64, 64): 5})
    assert len(findings.digests) == 5


def test_every_problem_is_reported(folder):
    def read(name):
        return cv2.imread(str(folder / name))

    (folder / "input" / "0.png").write_text("no picture")
    cv2.imwrite(str(folder / "target" / "1.png"), np.zeros((32, 64, 3), np.uint8))
    big = dead_leaves(2, 0, 160)
    cv2.imwrite(str(folder / "input" / "2.png"), big[:, 6:])
    cv2.imwrite(str(folder / "target" / "2.png"), big[:, :-6])
    cv2.imwrite(str(folder / "input" / "3.png"), read("target/3.png"))
    (folder / "input" / "lonely.png").write_bytes((folder / "input" / "4.png").read_bytes())
    cv2.imwrite(str(folder / "input" / "6.tif"), read("input/4.png"))
    (folder / "target" / "6.png").write_bytes((folder / "target" / "4.png").read_bytes())
    matching = match_pairs(*find_pair_folders(folder))
    assert [path.name for path in matching.orphans] == ["lonely.png"]
    problems = "\n".join(check_pairs(matching.pairs, "test").problems)
    for sentence in (
        "0.png: not a picture, or of a kind",
        "different sizes, 64x64 and 64x32",
        "2.png lies +6 pixels to the right of",
        "3.png hold the same picture",
        "6.tif holds the same picture as the input 4",
    ):
        assert sentence in problems
    assert problems.count("\n") == 4


def test_the_error_for_missing_folders_shows_the_expected_folders(tmp_path):
    with pytest.raises(UserError, match="pairs are expected as"):
        find_pair_folders(tmp_path / "nowhere")


def write_pair(folder, name, degraded, target):
    for side, image in (("input", degraded), ("target", target)):
        (folder / side).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / side / f"{name}.png"), image)


def check(folder, **options):
    return check_pairs(match_pairs(*find_pair_folders(folder)).pairs, "test", **options)


def test_unusual_pairs_without_problems_are_not_reported(tmp_path):
    """Wide pictures, two inputs with the same target, the same bytes in another shape, flat pictures."""
    scene, other = (dead_leaves(9, index, 64)[:48] for index in (0, 1))
    noisy = [gaussian_noise(np.random.default_rng(index), scene, 20) for index in range(2)]
    write_pair(tmp_path, "a", noisy[0], scene)
    write_pair(tmp_path, "b", noisy[1], scene)
    write_pair(tmp_path, "flat", np.full_like(scene, 40), np.full_like(scene, 200))
    turned = np.ascontiguousarray(noisy[0]).reshape(64, 48, 3)
    write_pair(tmp_path, "turned", turned, cv2.blur(turned, (3, 3)))
    findings = check(tmp_path)
    assert findings.problems == []
    assert dict(findings.sizes) == {(64, 48): 3, (48, 64): 1}
    assert len(findings.digests) == 4
    write_pair(tmp_path, "other", noisy[0][::-1], other)
    (problem,) = check(tmp_path).problems
    assert "other.png do not look like one scene" in problem


def test_displacement_is_a_problem_only_if_pairs_should_be_aligned(tmp_path):
    big = dead_leaves(2, 0, 160)
    write_pair(tmp_path, "a", big[24:136, 24:136], big[24:136, 17:129])
    assert "lies +7 pixels to the right" in check(tmp_path).problems[0]
    assert check(tmp_path, aligned=False).problems == []
