import pytest
from conftest import ROOT

from mprnet import UserError, tasks
from mprnet.training.keys import get_defaults
from mprnet.training.settings import flatten, load


def write(tmp_path, text: str):
    path = tmp_path / "training.yml"
    path.write_text(text)
    return path


def test_a_file_replaces_defaults_and_the_command_line_replaces_both(tmp_path):
    path = write(tmp_path, "OPTIM: {BATCH_SIZE: 4, LR_INITIAL: 2e-4}\nMODEL: {SESSION: mine}\n")
    settings = load(path, ["OPTIM.BATCH_SIZE", "8", "SYNTHETIC.SIGMA", "[5, 10]"])
    assert settings.OPTIM.BATCH_SIZE == 8
    assert settings.OPTIM.LR_INITIAL == 2e-4
    assert settings.MODEL.SESSION == "mine"
    assert settings.SYNTHETIC.SIGMA == [5.0, 10.0]
    assert settings.OPTIM.NUM_EPOCHS == get_defaults().OPTIM.NUM_EPOCHS
    assert str(tmp_path / "checkpoints") == settings.TRAINING.SAVE_DIR


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            "OPTIM: {BATCHSIZE: 4}",
            [],
            "not a setting; the nearest one is OPTIM.BATCH_SIZE",
        ),
        ("OPTIM: {BATCH_SIZE: many}", [], "takes a value like 16"),
        ("OPTIM: {BATCH_SIZE: 0}", [], "OPTIM.BATCH_SIZE is 0, but must be at least 1"),
        ("OPTIM: {LR_INITIAL: True}", [], "takes a value like 0.0002"),
        ("TRAINING: {TRAIN_PS: 100}", [], "multiple of 8"),
        ("TRAINING: {PRECISION: fp8}", [], "fp32, bf16 or fp16"),
        ("SYNTHETIC: {SIGMA: [9, 3]}", [], "low <= high"),
        ("SYNTHETIC: {SIGMA: [a, b]}", [], "(list)"),
        ("SYNTHETIC: {DEGRADATION: snow}", [], "of noise, camera_noise, processed_noise, rain, camera_shake"),
        ("SYNTHETIC: {DEGRADATION: 'noise,'}", [], "comma-separated, or empty"),
        ("OPTIM: {}", ["OPTIM.BATCH_SIZE"], "stands alone"),
        ("OPTIM: {}", ["training_lite.yml"], "to name a file, use --config FILE"),
        ("OPTIM: {}", ["BATCH_SIZE", "3"], "nearest one is OPTIM.BATCH_SIZE"),
        ("OPTIM: {}", ["OPTIM.LR_INITIAL", "[1,"], "the command line is not YAML"),
        ("OPTIM: {LR_INITIAL: .inf}", [], "finite"),
        ("SYNTHETIC: {VAL_SIGMA: .nan}", [], "finite"),
        ("TRAINING: {SEED: -1}", [], "at least 0"),
        ("MODEL: {N_FEAT: -4}", [], "from 1 to 4096"),
        ("MODEL: {SESSION: ../escape}", [], "a plain name"),
        ("OPTIM: &a {X: *a}", [], "contain themselves"),
        ("just text", [], "holds no settings"),
        ("a: [", [], "is not YAML"),
        ("TRAINING: {SCENE: (}", [], "regular expression"),
        ("OPTIM: {LR_MIN: 1}", [], "greater than OPTIM.LR_INITIAL"),
        ("MODEL: {SUBNETWORKS: [unet, cnn]}", [], "one to three of unet and orsnet"),
        ("TRAINING: {VAL_EPOCHS: [1, b]}", [], "(list)"),
    ],
)
def test_wrong_settings_are_an_error_of_one_line(tmp_path, text, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        load(write(tmp_path, text), overrides)
    assert "\n" not in str(caught.value)


def test_two_ways_to_match_pairs_are_an_error(tmp_path):
    write(tmp_path, "TRAINING: {PAIR_MANY_TO_ONE: true}\n")
    assert load(tmp_path / "training.yml").TRAINING.PAIR_MANY_TO_ONE
    with pytest.raises(UserError, match="by order or many to one, not both"):
        load(tmp_path / "training.yml", ["TRAINING.PAIR_BY_ORDER", "True"])


def test_base_names_a_file_whose_settings_come_first(tmp_path):
    """Each file's paths are relative to itself."""
    (tmp_path / "rows").mkdir()
    write(tmp_path, "OPTIM: {BATCH_SIZE: 4, NUM_EPOCHS: 7}\nTRAINING: {TRAIN_DIR: data}\n")
    (tmp_path / "rows" / "a.yml").write_text(
        "_BASE_: ../training.yml\nOPTIM: {BATCH_SIZE: 5}\nTRAINING: {VAL_DIR: v}\n"
    )
    settings = load(tmp_path / "rows" / "a.yml")
    assert (settings.OPTIM.BATCH_SIZE, settings.OPTIM.NUM_EPOCHS) == (5, 7)
    assert str(tmp_path / "data") == settings.TRAINING.TRAIN_DIR
    assert str(tmp_path / "rows" / "v") == settings.TRAINING.VAL_DIR


@pytest.mark.parametrize(
    ("base", "message"), [("a.yml", "its own _BASE_"), ("b.yml", "cannot read"), ("3", "sets _BASE_")]
)
def test_a_wrong_base_is_an_error(tmp_path, base, message):
    (tmp_path / "a.yml").write_text(f"_BASE_: {base}\n")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "a.yml")


def test_paths_on_the_command_line_are_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    assert (
        str(tmp_path / "d")
        == load(write(tmp_path / "sub", "OPTIM: {}"), ["TRAINING.TRAIN_DIR", "d"]).TRAINING.TRAIN_DIR
    )


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*/**/training*.yml")) + sorted(ROOT.glob("*/ablations/*.yml")), ids=str
)
def test_the_projects_settings_files_are_valid(path):
    settings = load(path)
    assert path.relative_to(ROOT).parts[0] == settings.MODEL.MODE


def test_the_ablations_are_the_rows_of_table_6():
    files = sorted((ROOT / "Deblurring" / "ablations").glob("*.yml"))
    rows = {path.stem: load(path) for path in files if path.stem != "common"}
    forms = {(tuple(s.MODEL.SUBNETWORKS), s.MODEL.SAM, s.MODEL.CSFF) for s in rows.values()}
    assert len(rows) == len(forms) == len({s.MODEL.SESSION for s in rows.values()}) == 9
    assert {(s.OPTIM.NUM_ITERATIONS, s.TRAINING.TRAIN_PS) for s in rows.values()} == {(100_000, 128)}


def test_strings_on_the_command_line_are_not_parsed_as_yaml(tmp_path):
    settings = load(write(tmp_path, "OPTIM:\n"), ["TRAINING.TRAIN_DIR", "/a #1: b/train", "MODEL.SESSION", "12"])
    assert settings.TRAINING.TRAIN_DIR == "/a #1: b/train"
    assert settings.MODEL.SESSION == "12"


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot read the settings"):
        load(tmp_path / "nowhere.yml")


def test_default_values():
    """Of all settings that change the result of a training."""
    known = flatten(get_defaults())
    assert {key: value for key, value in known.items() if key.startswith(("OPTIM.", "LOSS.", "AUGMENT."))} == {
        "OPTIM.BATCH_SIZE": 16, "OPTIM.NUM_EPOCHS": 100, "OPTIM.NUM_ITERATIONS": 0, "OPTIM.LR_INITIAL": 2e-4,
        "OPTIM.LR_MIN": 1e-6, "OPTIM.OPTIMIZER": "adam", "OPTIM.BETA1": 0.9, "OPTIM.WEIGHT_DECAY": 0.0,
        "OPTIM.WARMUP_EPOCHS": 3, "OPTIM.COSINE_EXTRA_EPOCHS": 0, "OPTIM.GRAD_CLIP": 0.0, "OPTIM.ACCUMULATE": 1,
        "OPTIM.EMA": 0.0,
        "LOSS.EDGE_WEIGHT": 0.05, "LOSS.CLAMP": False,
        "AUGMENT.SATURATION": [1.0, 1.0], "AUGMENT.MIXUP_FROM_EPOCH": 0, "AUGMENT.MIXUP_ALPHA": 0.6,
    }  # fmt: skip
    assert {key.partition(".")[2]: known[key] for key in known if key.startswith("TRAINING.VAL_")} == {
        "VAL_AFTER_EVERY": 1, "VAL_TIMES": 1, "VAL_EPOCHS": [], "VAL_ALL_FROM": 0, "VAL_PS": 0, "VAL_DIR": "",
        "VAL_PAIRS": 0,
    }  # fmt: skip
    others = {"TRAIN_PS": 256, "HOLD_OUT": 0.0, "SEED": 1234, "ON_BROKEN": "stop", "PRECISION": "fp32", "RESUME": False}
    others |= {"SAVE_MINUTES": 15.0, "MAX_BAD_STEPS": 25, "COMPILE": False, "CHECKPOINTING": False, "SCENE": ".*"}
    others |= {"COMPILE_BUDGET": 0.9, "PAIR_BY_ORDER": False, "PAIR_MANY_TO_ONE": False, "INIT_WEIGHTS": ""}
    assert {name: known[f"TRAINING.{name}"] for name in others} == others
    assert {key: known[key] for key in known if key.startswith("MODEL.")} == {
        "MODEL.MODE": "", "MODEL.SESSION": "MPRNet", "MODEL.N_FEAT": -1, "MODEL.SCALE_UNETFEATS": -1,
        "MODEL.SCALE_ORSNETFEATS": -1, "MODEL.NUM_CAB": -1, "MODEL.SUBNETWORKS": ["unet", "unet", "orsnet"],
        "MODEL.SAM": True, "MODEL.CSFF": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OPTIM.EMA", "1.0"), ("OPTIM.ACCUMULATE", "0"), ("OPTIM.GRAD_CLIP", "-1.0"), ("OPTIM.NUM_EPOCHS", "0"),
        ("TRAINING.HOLD_OUT", "1.0"), ("TRAINING.VAL_AFTER_EVERY", "0"), ("TRAINING.ON_BROKEN", "ignore"),
        ("TRAINING.BEST_BY", "psnr"),
        ("AUGMENT.SATURATION", "[1.0, 1.0, 1.0]"), ("AUGMENT.MIXUP_ALPHA", "0.0"), ("TRAINING.MAX_BAD_STEPS", "0"),
    ],
)  # fmt: skip
def test_values_out_of_their_range_are_an_error(tmp_path, key, value):
    with pytest.raises(UserError, match=f"{key} is .*, but must be"):
        load(write(tmp_path, "OPTIM:\n"), [key, value])


def test_paths_are_relative_to_their_file_and_empty_paths_stay_empty(tmp_path):
    names = ["TRAIN_DIR", "VAL_DIR", "ELSE_IN", "SAVE_DIR", "INIT_WEIGHTS"]
    lines = "".join(f"  {name}: {name.lower()}\n" for name in names)
    settings = load(write(tmp_path, f"TRAINING:\n{lines}SYNTHETIC: {{BANK_DIR: bank}}\n"))
    assert [settings.TRAINING[name] for name in names] == [str(tmp_path / name.lower()) for name in names]
    assert str(tmp_path / "bank") == settings.SYNTHETIC.BANK_DIR
    settings = load(write(tmp_path, "OPTIM: {LR_INITIAL: 1e-3, LR_MIN: 1e-3}\n"))
    assert settings.TRAINING.VAL_DIR == ""
    assert settings.is_frozen()


def test_an_installed_recipe_starts_from_the_bundled_weights_and_saves_in_the_working_folder(tmp_path, monkeypatch):
    installed = tmp_path / "site" / "_tasks"
    (installed / "Deblurring").mkdir(parents=True)
    monkeypatch.setattr(tasks, "_INSTALLED", installed)
    monkeypatch.chdir(tmp_path)
    path = write(installed / "Deblurring", "TRAINING: {INIT_WEIGHTS: ../Denoising/lite.safetensors}\n")
    assert str(tmp_path / "Denoising" / "lite.safetensors") == load(path).TRAINING.INIT_WEIGHTS
    (installed / "Denoising").mkdir()
    (installed / "Denoising" / "lite.safetensors").touch()
    settings = load(path)
    assert str(installed / "Denoising" / "lite.safetensors") == settings.TRAINING.INIT_WEIGHTS
    assert str(tmp_path / "Deblurring" / "checkpoints") == settings.TRAINING.SAVE_DIR


def test_resume_takes_true_false_and_auto(tmp_path):
    (tmp_path / "a.yml").write_text("TRAINING: {RESUME: auto}")
    assert load(tmp_path / "a.yml").TRAINING.RESUME == "auto"
    assert load(tmp_path / "a.yml", ["TRAINING.RESUME", "False"]).TRAINING.RESUME is False
    assert load(tmp_path / "a.yml", ["TRAINING.RESUME", "True"]).TRAINING.RESUME is True
    with pytest.raises(UserError, match=r"TRAINING.RESUME to 'maybe', but it takes True, False or auto"):
        load(tmp_path / "a.yml", ["TRAINING.RESUME", "maybe"])
    with pytest.raises(UserError, match=r"TRAINING.SAVE_IMAGES to 'auto'"):
        load(tmp_path / "a.yml", ["TRAINING.SAVE_IMAGES", "auto"])
