import pytest

from mprnet import UserError
from mprnet.training.settings import defaults, load


def write(tmp_path, text: str):
    path = tmp_path / "training.yml"
    path.write_text(text)
    return path


def test_file_over_defaults_and_command_line_over_file(tmp_path):
    path = write(tmp_path, "OPTIM: {BATCH_SIZE: 4, LR_INITIAL: 2e-4}\nMODEL: {SESSION: mine}\n")
    settings = load(path, ["OPTIM.BATCH_SIZE", "8", "SYNTHETIC.SIGMA", "[5, 10]"])
    assert settings.OPTIM.BATCH_SIZE == 8
    assert settings.OPTIM.LR_INITIAL == 2e-4
    assert settings.MODEL.SESSION == "mine"
    assert settings.SYNTHETIC.SIGMA == [5.0, 10.0]
    assert settings.OPTIM.NUM_EPOCHS == defaults().OPTIM.NUM_EPOCHS
    assert str(tmp_path / "checkpoints") == settings.TRAINING.SAVE_DIR


@pytest.mark.parametrize(
    ("text", "overrides", "sentence"),
    [
        (
            "OPTIM: {BATCHSIZE: 4}",
            [],
            "no setting; the nearest one is OPTIM.BATCH_SIZE",
        ),
        ("OPTIM: {BATCH_SIZE: many}", [], "takes a int such as 16"),
        ("OPTIM: {BATCH_SIZE: 0}", [], "OPTIM.BATCH_SIZE is 0, but must be at least 1"),
        ("OPTIM: {LR_INITIAL: True}", [], "takes a float"),
        ("TRAINING: {TRAIN_PS: 100}", [], "multiple of 8"),
        ("TRAINING: {PRECISION: fp8}", [], "fp32, bf16 or fp16"),
        ("SYNTHETIC: {SIGMA: [9, 3]}", [], "low <= high"),
        ("SYNTHETIC: {SIGMA: [a, b]}", [], "takes a list"),
        ("OPTIM: {}", ["OPTIM.BATCH_SIZE"], "stands alone"),
        ("OPTIM: {}", ["BATCH_SIZE", "3"], "nearest one is OPTIM.BATCH_SIZE"),
        ("OPTIM: {}", ["OPTIM.LR_INITIAL", "[1,"], "the command line is not YAML"),
        ("OPTIM: {LR_INITIAL: .inf}", [], "finite"),
        ("SYNTHETIC: {VAL_SIGMA: .nan}", [], "finite"),
        ("TRAINING: {SEED: -1}", [], "at least 0"),
        ("MODEL: {N_FEAT: -4}", [], "at least 0"),
        ("MODEL: {SESSION: ../escape}", [], "a plain name"),
        ("OPTIM: &a {X: *a}", [], "contain themselves"),
        ("just text", [], "holds no settings"),
        ("a: [", [], "is not YAML"),
    ],
)
def test_wrong_settings_get_a_sentence(tmp_path, text, overrides, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        load(write(tmp_path, text), overrides)
    assert "\n" not in str(caught.value)


def test_a_missing_file_gets_a_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot read the settings"):
        load(tmp_path / "nowhere.yml")
