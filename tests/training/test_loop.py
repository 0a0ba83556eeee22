import csv
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from mprnet import MPRNet, UserError
from mprnet.inference.distributed import World
from mprnet.training import loop, state
from mprnet.training.keys import defaults
from mprnet.training.loop import Trainer
from mprnet.training.state import LATEST


class Poisoned(Dataset):
    """A hundred samples of noise, of which one holds pixels that are not a number."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, key):
        epoch, index = key
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        target = torch.rand(3, 16, 16, generator=generator)
        degraded = target + 0.1 * torch.randn(3, 16, 16, generator=generator)
        if index == 17:
            degraded[:, 3, 4] = float("nan")
        return degraded, target, index


def make_trainer(folder: Path, epochs: int, resume: bool = False) -> Trainer:
    settings = defaults()
    settings.OPTIM.BATCH_SIZE = 4
    settings.OPTIM.NUM_EPOCHS = epochs
    settings.TRAINING.VAL_AFTER_EVERY = epochs
    settings.TRAINING.RESUME = resume
    model = MPRNet(4, 2, 3, num_cab=1, reduction=2)
    validation = [(torch.full((3, 16, 16), 0.4), torch.full((3, 16, 16), 0.5), "grey")]
    names = [str(index) for index in range(100)]
    return Trainer(model, Poisoned(), names, validation, settings, folder, {}, World(0, 1, torch.device("cpu")))


def test_a_thousand_steps_with_a_poisoned_batch(tmp_path):
    trainer = make_trainer(tmp_path, epochs=40)
    model = trainer.stepper.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer.run()
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["step"] == "1000"
    assert {row["skipped_steps"] for row in rows} == {"1"}
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert "1 steps skipped (loss or gradient not finite or too large)" in (tmp_path / "log.txt").read_text()
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_second_resort_outlives_a_save_that_fails(tmp_path, monkeypatch):
    """When the latest checkpoint is damaged, the one before is all there is until another is written."""
    make_trainer(tmp_path, 1).run()
    (tmp_path / LATEST).write_bytes(b"damaged")

    def full(path: Path, content: object) -> None:
        raise UserError(f"{path}: cannot be written (No space left on device).")

    with monkeypatch.context() as patch:
        patch.setattr(state, "save_checkpoint", full)
        trainer = make_trainer(tmp_path, 2, resume=True)
        with pytest.raises(UserError, match="No space left"):
            trainer.run()
    trainer = make_trainer(tmp_path, 2, resume=True)
    trainer.run()
    assert trainer.progress.done == 2


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys):
    (tmp_path / "log.csv").mkdir()
    trainer = make_trainer(tmp_path, 2)
    trainer.run()
    assert trainer.progress.done == 2
    assert capsys.readouterr().err.count("warning: the log lacks epoch 1: loss") == 1


def test_a_validation_that_is_no_number_is_not_the_best(tmp_path, monkeypatch):
    measured = iter([float("nan"), 30.0])
    monkeypatch.setattr(loop, "validate", lambda *arguments: (20.0, next(measured)))
    monkeypatch.setattr(loop, "is_validated", lambda settings, epoch: True)
    trainer = make_trainer(tmp_path, 2)
    trainer.run()
    assert trainer.progress.best == 30.0
    assert (tmp_path / "model_best.pth").exists()
