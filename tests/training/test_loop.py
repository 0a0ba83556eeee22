import csv

import torch
from torch.utils.data import Dataset

from mprnet import MPRNet
from mprnet.inference.distributed import World
from mprnet.training.keys import defaults
from mprnet.training.loop import Trainer


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


def test_a_thousand_steps_with_a_poisoned_batch(tmp_path):
    settings = defaults()
    settings.OPTIM.BATCH_SIZE = 4
    settings.OPTIM.NUM_EPOCHS = 40
    settings.TRAINING.VAL_AFTER_EVERY = 40
    model = MPRNet(4, 2, 3, num_cab=1, reduction=2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    validation = [(torch.full((3, 16, 16), 0.4), torch.full((3, 16, 16), 0.5), "grey")]
    names = [str(index) for index in range(100)]
    world = World(0, 1, torch.device("cpu"))
    trainer = Trainer(model, Poisoned(), names, validation, settings, tmp_path, {}, world)
    trainer.run()
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["step"] == "1000"
    assert {row["skipped_steps"] for row in rows} == {"1"}
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert "1 steps skipped (loss or gradient not finite or too large)" in (tmp_path / "log.txt").read_text()
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
