import unicodedata

import pytest

from mprnet import UserError
from mprnet.data.paired import get_training_data, get_validation_data
from mprnet.data.pairs import describe_orphans, match_pairs
from mprnet.data.scenes import split_by_scene
from mprnet.evaluation.sources import PairSource, results_by_target


def make_folders(tmp_path, inputs, targets):
    for name, files in (("input", inputs), ("target", targets)):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(b"")
    return tmp_path / "input", tmp_path / "target"


def target_names(matching):
    return {pair.input.name: pair.target.name for pair in matching.pairs}


@pytest.mark.parametrize(
    ("inputs", "targets", "pairs"),
    [
        (["2.png", "10.png", "1.png"], ["1.png", "10.png", "2.png"], ["1", "2", "10"]),
        (["a.jpg", "b.PNG"], ["b.png", "a.png"], ["a", "b"]),
        (["0001_NOISY_SRGB_010.PNG"], ["0001_GT_SRGB_010.PNG"], ["0001_NOISY_SRGB_010"]),
        (["rain-1.png", "rain-12.png"], ["norain-12.png", "norain-1.png"], ["rain-1", "rain-12"]),
        (["scene3_blur_2.png"], ["scene3_gt_2.png"], ["scene3_blur_2"]),
        (["rain001.png"], ["norain001.png"], ["rain001"]),
        (["X_noisy.png"], ["X.png"], ["X_noisy"]),
        (["Lake_Blur.JPG"], ["lake_SHARP.png"], ["Lake_Blur"]),
        (["noisy_input_4.png"], ["4.png"], ["noisy_input_4"]),
    ],
)
def test_pairs_by_name(tmp_path, inputs, targets, pairs):
    matching = match_pairs(*make_folders(tmp_path, inputs, targets))
    assert [pair.name for pair in matching.pairs] == pairs
    assert matching.orphans == []


def test_a_missing_picture_does_not_change_other_pairs(tmp_path):
    matching = match_pairs(*make_folders(tmp_path, ["1.png", "2.png", "3.png"], ["1.png", "3.png", "4.png"]))
    assert [(p.input.name, p.target.name) for p in matching.pairs] == [("1.png", "1.png"), ("3.png", "3.png")]
    assert [path.name for path in matching.orphans] == ["2.png", "4.png"]
    shown = (
        f"2 pictures have no partner and are left out: {tmp_path / 'input' / '2.png'}, {tmp_path / 'target' / '4.png'}."
    )
    assert describe_orphans(matching) == shown
    assert "MANY_TO_ONE" not in describe_orphans(matching)


@pytest.mark.parametrize(
    "names",
    [
        ("\u092e\u0940\u0928\u093e", "\u092e\u094b\u0928\u093e"),  # the same letters with different vowel signs
        ("\u0995\u09bf", "\u0995\u09c0"),
        ("EV+1", "EV-1"),
        ("1.5_2", "15_2"),
        ("a b", "a_b"),
        ("1-2", "12"),
        ("Rue", "rue"),
        ("2\u00b2", "22"),
    ],
)
def test_names_that_differ_in_any_character_are_not_paired(tmp_path, names):
    first, second = names
    inputs = [f"noisy_{name}.png" for name in names]
    matching = match_pairs(*make_folders(tmp_path, inputs, [f"clean_{name}.png" for name in names]))
    assert target_names(matching) == {f"noisy_{name}.png": f"clean_{name}.png" for name in names}
    (tmp_path / "other").mkdir()
    for side, name in (("input", first), ("target", second)):
        (tmp_path / "other" / side).mkdir()
        (tmp_path / "other" / side / f"{side}_{name}.png").write_bytes(b"")
    if first.casefold() != second.casefold():
        with pytest.raises(UserError, match="no picture of"):
            match_pairs(tmp_path / "other" / "input", tmp_path / "other" / "target")


@pytest.mark.parametrize("pairing", ["name", "order", "many_to_one"])
def test_unicode_normalization_does_not_matter(tmp_path, pairing):
    names = ["caf\u00e9", "cafz", "na\u00efve", "\u00c5-1"]
    inputs = [unicodedata.normalize("NFD", name) + ".png" for name in names]
    matching = match_pairs(*make_folders(tmp_path, inputs, [f"{name}.png" for name in names]), pairing)
    assert target_names(matching) == {name: unicodedata.normalize("NFC", name) for name in inputs}


def test_side_words_inside_longer_words_are_kept(tmp_path):
    inputs = ["brain_1.png", "\u00e9blur_2.png", "blur\u0901_3.png"]  # the last: a combining mark beside it
    matching = match_pairs(
        *make_folders(tmp_path, [*inputs, "0.png"], ["1.png", "\u00e9_2.png", "\u0901_3.png", "0.png"])
    )
    assert target_names(matching) == {"0.png": "0.png"}


def test_names_of_side_words_alone_are_not_paired(tmp_path):
    matching = match_pairs(
        *make_folders(tmp_path, ["blur.png", "noisy_.png", "-rain-.png", "0.png"], ["gt.png", "-gt-.png", "0.png"])
    )
    assert target_names(matching) == {"0.png": "0.png"}
    assert len(matching.orphans) == 5


def test_the_suffix_decides_between_targets_of_the_same_name(tmp_path):
    inputs, targets = make_folders(tmp_path, ["1.JPG", "2.png", "rain-3.png"], ["1.png", "1.jpg", "2.png", "2.jpg"])
    (targets / "3.jpg").write_bytes(b"")
    (targets / "3.PNG").write_bytes(b"")
    assert target_names(match_pairs(inputs, targets)) == {"1.JPG": "1.jpg", "2.png": "2.png", "rain-3.png": "3.PNG"}
    (targets / "3.png").write_bytes(b"")
    with pytest.raises(UserError, match="have the same name"):
        match_pairs(inputs, targets)


def test_equal_names_with_suffix_are_paired_first(tmp_path):
    matching = match_pairs(*make_folders(tmp_path, ["1.png", "1.tif"], ["1.png"]))
    assert target_names(matching) == {"1.png": "1.png"}
    assert [path.name for path in matching.orphans] == ["1.tif"]


def test_pair_names_are_unique(tmp_path):
    names = ["1.png", "1.jpg", "2.png"]
    matching = match_pairs(*make_folders(tmp_path, names, names))
    assert sorted(pair.name for pair in matching.pairs) == ["1.jpg", "1.png", "2"]


MANY = ["0.png", "1.png", *(f"{i}_{k}.jpg" for i in (1, 2, 3) for k in (1, 2, 3))]
ONE = ["0.png", "1.png", "1.jpg", "2.jpg", "3.jpg"]


def test_many_to_one_pairs_several_inputs_with_one_target(tmp_path):
    matching = match_pairs(*make_folders(tmp_path, MANY, ONE), "many_to_one")
    assert target_names(matching) == {name: f"{name[0]}.jpg" if "_" in name else name for name in MANY}
    assert [pair.name for pair in matching.pairs][:4] == ["0", "1", "1_1", "1_2"]
    assert matching.orphans == []


@pytest.mark.parametrize(
    ("inputs", "targets", "pairs"),
    [
        (["1400_1.png", "1400_10.png"], ["1400.png"], {"1400_1.png": "1400.png", "1400_10.png": "1400.png"}),
        (["0005_0.8_0.04.jpg"], ["0005.jpg"], {"0005_0.8_0.04.jpg": "0005.jpg"}),
        (["rain_1_3.png", "rain_2.png"], ["norain_1.png", "norain_2.png"], None),
        (["a-b_1.png", "a-2.png"], ["a.png", "a-b.png"], {"a-b_1.png": "a-b.png", "a-2.png": "a.png"}),
        (["A_1.png", "\u00e9 2.png"], ["a.png", "e\u0301.png"], {"A_1.png": "a.png", "\u00e9 2.png": "e\u0301.png"}),
        (["A_1.png", "a_1.png"], ["A.png", "a.png"], {"A_1.png": "A.png", "a_1.png": "a.png"}),
        (["12_1.png", "3_1.png"], ["1.png", "3.png"], {"3_1.png": "3.png"}),
    ],
)
def test_many_to_one_takes_the_target_with_the_longest_prefix(tmp_path, inputs, targets, pairs):
    pairs = pairs or {"rain_1_3.png": "norain_1.png", "rain_2.png": "norain_2.png"}
    assert target_names(match_pairs(*make_folders(tmp_path, inputs, targets), "many_to_one")) == pairs


def test_messages_name_the_setting_that_would_pair_orphans(tmp_path):
    folders = make_folders(tmp_path, MANY, ONE)
    sentence = describe_orphans(match_pairs(*folders))
    assert "TRAINING.PAIR_MANY_TO_ONE" in sentence
    assert "--many_to_one" in sentence
    assert " 9 of the inputs" in sentence
    assert "TRAINING.PAIR_MANY_TO_ONE" in PairSource(*folders).advice
    for name in ("0.png", "1.png"):
        (folders[0] / name).unlink()
    with pytest.raises(UserError, match=r"TRAINING\.PAIR_MANY_TO_ONE True \(for test\.py: --many_to_one\)"):
        match_pairs(*folders)


def test_data_sets_have_a_list_of_orphans(tmp_path, capsys):
    make_folders(tmp_path, MANY, ONE)
    training = get_training_data(tmp_path, {"patch_size": 8})
    validation = get_validation_data(tmp_path, {})
    assert len(training.orphans) == len(validation.orphans) == 9 + 3
    assert capsys.readouterr().err.count("note: 12 pictures have no partner") == 2
    options = {"patch_size": 8, "many_to_one": True}
    assert get_training_data(tmp_path, options).orphans == get_validation_data(tmp_path, options).orphans == []
    with pytest.raises(UserError, match="not both"):
        get_training_data(tmp_path, {**options, "by_order": True})


def test_results_are_found_by_input_names_if_inputs_share_a_target(tmp_path):
    source = PairSource(*make_folders(tmp_path, MANY, ONE), "many_to_one")
    (tmp_path / "results").mkdir()
    for name in ("1_2.png", "3_1.png"):
        (tmp_path / "results" / name).write_bytes(b"")
    results = results_by_target(tmp_path / "results", source)
    assert {source.names[number]: path.name for number, path in results.items()} == {"1_2": "1_2.png", "3_1": "3_1.png"}


def test_pictures_are_paired_by_order_only_if_asked(tmp_path):
    folders = make_folders(tmp_path, ["x1.png", "x2.png"], ["y8.png", "y9.png"])
    with pytest.raises(UserError, match=r"pair them by order \(TRAINING\.PAIR_BY_ORDER True\)"):
        match_pairs(*folders)
    matching = match_pairs(*folders, "order")
    assert [(p.input.name, p.target.name) for p in matching.pairs] == [("x1.png", "y8.png"), ("x2.png", "y9.png")]
    (folders[0] / "x3.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"3 pictures and .* 2"):
        match_pairs(*folders, "order")


@pytest.mark.parametrize(
    ("inputs", "targets", "sentence"),
    [
        ([], ["1.png"], "holds no pictures"),
        (["a.tif", "a.jpg"], ["a.png"], "have the same name"),
        (["a.png"], ["a.tif", "a.jpg"], "have the same name"),
        (["blur_1.png", "noisy_1.png"], ["gt_1.png"], "have the same name"),
    ],
)
def test_ambiguous_or_empty_folders_raise_a_clear_error(tmp_path, inputs, targets, sentence):
    with pytest.raises(UserError, match=sentence):
        match_pairs(*make_folders(tmp_path, inputs, targets))
    with pytest.raises(UserError, match="there is no folder"):
        match_pairs(tmp_path / "nowhere", tmp_path / "target")


@pytest.mark.parametrize("scene", [r"(one\d)|(two\d)", r"\w{4}", r"(\w+)-"])
def test_whole_scenes_are_held_out(tmp_path, scene):
    names = [f"{word}{number}-{picture}.png" for word in ("one", "two") for number in (1, 2) for picture in range(3)]
    train, held_out = split_by_scene(match_pairs(*make_folders(tmp_path, names, names)).pairs, 0.2, scene, 0)
    assert (len(train), len(held_out)) == (9, 3)
    assert len({pair.name[:4] for pair in held_out}) == 1


def test_pairs_that_share_a_target_are_held_out_together(tmp_path):
    names = [f"{scene}_{shot}.png" for scene in range(10) for shot in range(3)]
    pairs = match_pairs(*make_folders(tmp_path, names, [f"{scene}.png" for scene in range(10)]), "many_to_one").pairs
    train, held_out = split_by_scene(pairs, 0.2, ".*", 0)
    assert (len(train), len(held_out)) == (24, 6)
    assert not {pair.target for pair in train} & {pair.target for pair in held_out}


def test_hidden_files_folders_and_other_types_are_left_out(tmp_path):
    folders = make_folders(tmp_path, ["1.png", "2.JPG", ".3.png", "notes.txt"], ["1.png", "2.jpeg"])
    (folders[0] / "4.png").mkdir()
    assert target_names(match_pairs(*folders)) == {"1.png": "1.png", "2.JPG": "2.jpeg"}


@pytest.mark.parametrize(
    ("inputs", "targets", "pairs"),
    [
        (["1_noise5", "2_noise5"], ["1", "2", "15", "25"], {}),
        (["1_rain2", "1rain3"], ["1_2", "1_3", "12"], {"1_rain2": "1_2", "1rain3": "1_3"}),
        (["x-rain5"], ["x5", "x-5"], {"x-rain5": "x-5"}),
        (["img1_blur5"], ["img1_gt5", "img15"], {"img1_blur5": "img1_gt5"}),
        (["1_rain", "2_noisy_3"], ["1_norain", "2_clean_3"], {"1_rain": "1_norain", "2_noisy_3": "2_clean_3"}),
    ],
)
def test_removing_a_side_word_does_not_join_the_parts_around_it(tmp_path, inputs, targets, pairs):
    folders = make_folders(tmp_path, [f"{n}.png" for n in inputs], [f"{n}.png" for n in targets])
    if pairs:
        assert target_names(match_pairs(*folders)) == {f"{a}.png": f"{b}.png" for a, b in pairs.items()}
    else:
        with pytest.raises(UserError, match="PAIR_MANY_TO_ONE"):
            match_pairs(*folders)
        assert target_names(match_pairs(*folders, "many_to_one")) == {"1_noise5.png": "1.png", "2_noise5.png": "2.png"}


@pytest.mark.parametrize(("inputs", "targets"), [(["1_gt.png"], ["1_noisy.png"]), (["1_blur.png"], ["1_noise.png"])])
def test_swapped_or_equal_sides_are_not_paired(tmp_path, inputs, targets):
    with pytest.raises(UserError, match="no picture of"):
        match_pairs(*make_folders(tmp_path, inputs, targets))


def test_pairing_by_order_refuses_other_file_types(tmp_path):
    folders = make_folders(tmp_path, ["a.png", "b.ppm", "c.png"], ["a.png", "b.png", ".DS_Store"])
    with pytest.raises(UserError, match=r"b\.ppm is of a type that cannot be read"):
        match_pairs(*folders, "order")


@pytest.mark.parametrize("many", [3, 4])
def test_messages_show_the_first_three_orphans(tmp_path, many):
    folders = make_folders(tmp_path, ["a.png", *(f"{n}.png" for n in range(many))], ["a.png"])
    sentence = describe_orphans(match_pairs(*folders))
    assert all(f"{n}.png" in sentence for n in range(3))
    assert (" and 1 more" in sentence) == (many == 4)


@pytest.mark.parametrize(
    "word", ["input", "degraded", "noisy", "noise", "blur", "blurred", "blurry", "rain", "rainy", "lq", "lr"]
)
@pytest.mark.parametrize("other", ["target", "gt", "groundtruth", "clean", "sharp", "norain", "norainy", "hq", "hr"])
def test_every_side_word_is_removed(tmp_path, word, other):
    assert target_names(match_pairs(*make_folders(tmp_path, [f"7_{word}.png"], [f"{other.upper()}-7.png"]))) == {
        f"7_{word}.png": f"{other.upper()}-7.png"
    }


def test_case_is_ignored_and_pairs_are_in_natural_order(tmp_path):
    folders = make_folders(
        tmp_path, ["STRASSE_noisy.png", "b10.png", "b9.png"], ["straße_clean.png", "b9.png", "b10.png"]
    )
    assert [pair.name for pair in match_pairs(*folders).pairs] == ["STRASSE_noisy", "b9", "b10"]
    (folders[0] / "b9.png").unlink()
    with pytest.raises(UserError, match=r"holds 2 pictures and .* 3: to be paired by order"):
        match_pairs(*folders, "order")
