from mprnet.data.folders import find_first, resolve_folder


def test_the_first_folder_with_an_entry_is_found(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert find_first([first, second]) is None
    second.mkdir()
    assert find_first([first, second]) == second
    first.mkdir()
    assert find_first([first, second]) == first
    assert find_first([first, second], ["input", "target"]) is None
    (second / "target").mkdir()
    assert find_first([first, second], ["input", "target"]) == second


def test_a_folder_that_is_elsewhere_is_resolved(tmp_path):
    wanted, elsewhere = tmp_path / "GoPro" / "train", tmp_path / "sets"
    assert resolve_folder(wanted, "") == wanted
    assert resolve_folder(wanted, elsewhere) == wanted  # the error message names what the settings say
    (elsewhere / "train").mkdir(parents=True)
    assert resolve_folder(str(wanted), str(elsewhere)) == elsewhere / "train"
    (elsewhere / "GoPro" / "train").mkdir(parents=True)
    assert resolve_folder(wanted, elsewhere) == elsewhere / "GoPro" / "train"
    wanted.mkdir(parents=True)
    assert resolve_folder(wanted, elsewhere) == wanted
