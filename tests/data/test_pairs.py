import pytest

from mprnet import UserError
from mprnet.data.paired import split_by_scene
from mprnet.data.pairs import match_pairs, orphans_sentence


def folders(tmp_path, inputs, targets):
    for name, files in (("input", inputs), ("target", targets)):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(b"")
    return tmp_path / "input", tmp_path / "target"


@pytest.mark.parametrize(
    ("inputs", "targets", "pairs"),
    [
        (["2.png", "10.png", "1.png"], ["1.png", "10.png", "2.png"], ["1", "2", "10"]),
        (["a.jpg", "b.PNG"], ["b.png", "a.png"], ["a", "b"]),
        (["0001_NOISY_SRGB_010.PNG"], ["0001_GT_SRGB_010.PNG"], ["0001_NOISY_SRGB_010"]),
        (["rain-1.png", "rain-12.png"], ["norain-12.png", "norain-1.png"], ["rain-1", "rain-12"]),
        (["scene3_blur_2.png"], ["scene3_gt_2.png"], ["scene3_blur_2"]),
        (["rain001.png"], ["norain001.png"], ["rain001"]),
    ],
)
def test_pairs_by_name(tmp_path, inputs, targets, pairs):
    matching = match_pairs(*folders(tmp_path, inputs, targets))
    assert [pair.name for pair in matching.pairs] == pairs
    assert matching.orphans == []


def test_a_missing_picture_does_not_shift_the_others(tmp_path):
    matching = match_pairs(*folders(tmp_path, ["1.png", "2.png", "3.png"], ["1.png", "3.png", "4.png"]))
    assert [(p.input.name, p.target.name) for p in matching.pairs] == [("1.png", "1.png"), ("3.png", "3.png")]
    assert [path.name for path in matching.orphans] == ["2.png", "4.png"]
    assert "2 pictures have no partner" in orphans_sentence(matching.orphans)


def test_by_order_only_when_asked(tmp_path):
    given = folders(tmp_path, ["x1.png", "x2.png"], ["y8.png", "y9.png"])
    with pytest.raises(UserError, match="pair them by order"):
        match_pairs(*given)
    matching = match_pairs(*given, by_order=True)
    assert [(p.input.name, p.target.name) for p in matching.pairs] == [("x1.png", "y8.png"), ("x2.png", "y9.png")]
    (given[0] / "x3.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"3 pictures and .* 2"):
        match_pairs(*given, by_order=True)


@pytest.mark.parametrize(
    ("inputs", "targets", "sentence"),
    [
        ([], ["1.png"], "holds no pictures"),
        (["a.png", "a.jpg"], ["a.png"], "go by the same name"),
        (["blur_1.png", "noisy_1.png"], ["gt_1.png"], "go by the same name"),
    ],
)
def test_unclear_folders_get_a_sentence(tmp_path, inputs, targets, sentence):
    with pytest.raises(UserError, match=sentence):
        match_pairs(*folders(tmp_path, inputs, targets))
    with pytest.raises(UserError, match="there is no folder"):
        match_pairs(tmp_path / "nowhere", tmp_path / "target")


@pytest.mark.parametrize("scene", [r"(one\d)|(two\d)", r"\w{4}", r"(\w+)-"])
def test_whole_scenes_are_held_out(tmp_path, scene):
    names = [f"{word}{number}-{picture}.png" for word in ("one", "two") for number in (1, 2) for picture in range(3)]
    kept, held = split_by_scene(match_pairs(*folders(tmp_path, names, names)).pairs, 0.2, scene, 0)
    assert (len(kept), len(held)) == (9, 3)
    assert len({pair.name[:4] for pair in held}) == 1
