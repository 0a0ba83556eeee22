import pytest
from conftest import ROOT, TASKS

from mprnet.training.recipes import describe_recipe
from mprnet.training.settings import load


def lines(task: str, file: str = "training.yml", *overrides: str) -> list[str]:
    return describe_recipe(load(ROOT / task / file, overrides), ROOT / task)


def test_each_recipe_is_recognized():
    assert lines("Deraining") == ["recipe: training.yml"]
    assert lines("Deblurring") == [
        "recipe: training.yml (the paper's)",
        "  differs from training_released.yml (the released code's): "
        "AUGMENT.SATURATION [1.0, 1.0] instead of [0.8, 1.2]",
    ]
    assert lines("Deblurring", "training_released.yml") == [
        "recipe: training_released.yml (the released code's)",
        "  differs from training.yml (the paper's): AUGMENT.SATURATION [0.8, 1.2] instead of [1.0, 1.0]",
    ]
    assert lines("Denoising", "training_released.yml")[0] == "recipe: training_released.yml (the released code's)"


def test_the_published_denoising_settings_are_neither_recipe(tmp_path):
    """The file has these keys only. The rest of the recipe is in the published train.py."""
    (tmp_path / "published.yml").write_text(
        "MODEL: {MODE: Denoising}\nOPTIM: {BATCH_SIZE: 16, NUM_EPOCHS: 80, LR_INITIAL: 2e-4, LR_MIN: 1e-6}\n"
        "TRAINING: {VAL_AFTER_EVERY: 1, TRAIN_PS: 128, VAL_PS: 256}\n"
    )
    own, paper, released = describe_recipe(load(tmp_path / "published.yml"), ROOT / "Denoising")
    assert own == "recipe: your own"
    assert paper == "  differs from training.yml (the paper's): TRAINING.TRAIN_PS 128 instead of 256"
    assert released == (
        "  differs from training_released.yml (the released code's): OPTIM.WEIGHT_DECAY 0.0 instead of 1e-08, "
        "OPTIM.COSINE_EXTRA_EPOCHS 0 instead of 40, LOSS.EDGE_WEIGHT 0.05 instead of 0.0, "
        "LOSS.CLAMP False instead of True, AUGMENT.MIXUP_FROM_EPOCH 0 instead of 6"
    )


def test_only_the_first_differences_are_shown():
    overrides = [
        word
        for key, value in {
            "BATCH_SIZE": "2", "NUM_EPOCHS": "3", "LR_INITIAL": "1", "LR_MIN": "0", "BETA1": "0.5", "EMA": "0.5",
            "GRAD_CLIP": "1", "ACCUMULATE": "2",
        }.items()
        for word in (f"OPTIM.{key}", value)
    ]  # fmt: skip
    assert lines("Deraining", "training.yml", *overrides)[1].endswith(" and 2 more")


@pytest.mark.parametrize("task", TASKS)
def test_paths_precision_and_speed_are_not_part_of_a_recipe(task):
    changes = ["TRAINING.TRAIN_DIR", "x", "TRAINING.PRECISION", "bf16", "TRAINING.COMPILE", "True", "VERBOSE", "True"]
    assert lines(task, "training.yml", *changes) == lines(task)
