"""Ordinary data sets, as the loop takes them."""

import random
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from mprnet import UserError
from mprnet.data.pairs import Pair
from mprnet.training.samples import TrainingSamples, ValidationPairs
from training.runs import Grey, Noise

Item = namedtuple("Item", ["degraded", "target", "path"])


class Own(Dataset):
    """As people write them: an index in, two tensors out, with draws from whatever generator they like."""

    def __init__(self, item=None) -> None:
        self.item = item

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int):
        if self.item is not None:
            return self.item
        levels = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item(), float(index)])
        image = levels.repeat(2).expand(3, 8, 8)
        return image, image


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)


def levels(samples: TrainingSamples, epoch: int, index: int) -> list[float]:
    return samples[epoch, index][0][0, 0, :4].tolist()


def test_what_is_drawn_is_a_function_of_seed_epoch_and_index():
    samples = TrainingSamples(Own(), seed=5)
    first = levels(samples, 1, 2)
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    assert levels(samples, 1, 2) == levels(TrainingSamples(Own(), seed=5), 1, 2) == first
    assert first[3] == 2.0
    for other in (levels(samples, 2, 2), levels(samples, 1, 1), levels(TrainingSamples(Own(), seed=6), 1, 2)):
        assert all(a != b for a, b in zip(first[:3], other[:3], strict=True))


def test_the_programs_own_draws_go_on_as_if_nothing_had_been_drawn():
    def draw() -> list[float]:
        return [random.random(), np.random.rand(), torch.rand(()).item()]

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    TrainingSamples(Own(), seed=5)[1, 0]
    ValidationPairs(Own())[0]
    assert draw() == expected


def test_data_sets_addressed_by_epoch_are_asked_for_it():
    samples = TrainingSamples(Noise(), seed=5)
    assert all(torch.equal(a, b) for a, b in zip(samples[3, 4], Noise()[3, 4], strict=True))
    assert len(samples) == 10


def test_pytorchs_combinations_of_data_sets_work():
    samples = TrainingSamples(ConcatDataset([Own(), Subset(Own(), [2])]), seed=5)
    assert len(samples) == 4
    assert levels(samples, 1, 3)[3] == 2.0


def test_names_come_from_the_pairs_if_there_are_any(tmp_path):
    assert TrainingSamples(Own(), 0).names == ["sample 0", "sample 1", "sample 2"]
    data = Own()
    data.pairs = [Pair(name, tmp_path, tmp_path) for name in "abc"]
    assert TrainingSamples(data, 0).names == ["a", "b", "c"]


def test_validation_shows_the_same_pictures_every_time_and_names_them():
    pairs = ValidationPairs(Own())
    assert len(pairs) == 3
    assert torch.equal(pairs[1][0], pairs[1][0])
    assert [name for _, _, name in pairs] == ["0", "1", "2"]
    assert ValidationPairs(Grey())[0][2] == "grey"
    image = torch.zeros(3, 5, 7)
    assert ValidationPairs([Item(image, image, 4)])[0][2] == "0"
    assert ValidationPairs([Item(image.double(), image.half(), "x")])[0][1].dtype == torch.float32


@pytest.mark.parametrize("kind", [TrainingSamples, ValidationPairs])
def test_what_is_no_data_set_gets_a_sentence(kind):
    arguments = [0] if kind is TrainingSamples else []
    for data, sentence in [
        (Stream(), "a Stream"),
        (None, "a NoneType"),
        ([], "a data set without items"),
        ({1}, "a set"),
    ]:
        with pytest.raises(UserError, match=f"get_(training|validation)_data of data_RGB.py returns {sentence}"):
            kind(data, *arguments)


IMAGE = torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (IMAGE, "is a Tensor: it has to be a tuple"),
        ((IMAGE,), "is a tuple: it has to be a tuple"),
        ({"degraded": IMAGE}, "is a dict"),
        ((IMAGE, IMAGE.numpy()), "target is a ndarray, but a tensor"),
        ((IMAGE[0], IMAGE), r"degraded has the shape \(8, 8\)"),
        ((IMAGE, torch.zeros(1, 8, 8)), r"target has the shape \(1, 8, 8\)"),
        ((IMAGE, torch.zeros(3, 0, 8)), r"target has the shape \(3, 0, 8\)"),
        ((IMAGE, IMAGE.byte()), "target holds torch.uint8 up to 0, but floats"),
        ((IMAGE + 200, IMAGE), "degraded holds torch.float32 up to 200"),
        ((IMAGE, torch.zeros(3, 8, 16)), "different sizes, 8x8 and 16x8"),
    ],
)
def test_items_that_cannot_be_trained_on_get_a_sentence(item, sentence):
    with pytest.raises(UserError, match=f"item 1 of the training data.*{sentence}"):
        TrainingSamples(Own(item), 0)[1, 1]
    with pytest.raises(UserError, match=f"item 1 of the validation data.*{sentence}"):
        ValidationPairs(Own(item))[1]


def test_sides_that_the_network_cannot_take_get_a_sentence():
    image = torch.zeros(3, 8, 12)
    with pytest.raises(UserError, match="is 12x8: crop it to multiples of 8"):
        TrainingSamples(Own((image, image)), 0)[1, 0]
    assert ValidationPairs(Own((image, image)))[0][0].shape == (3, 8, 12)
    image = torch.full((3, 8, 8), float("nan"))
    with pytest.raises(UserError, match="no numbers"):
        ValidationPairs(Own((IMAGE, image)))[0]
    assert TrainingSamples(Own((IMAGE, image)), 0)[1, 0][1].isnan().all()  # such a step is skipped, and counted


def files(folder, contents: dict[str, bytes]):
    """A data set of pairs whose files have these contents."""
    folder.mkdir()
    data = Own((IMAGE, IMAGE))
    data.pairs = []
    for name, content in contents.items():
        for side in ("input", "target"):
            (folder / f"{name}_{side}").write_bytes(content + side.encode())
        data.pairs.append(Pair(name, folder / f"{name}_input", folder / f"{name}_target"))
    return ValidationPairs(data)


def test_fingerprints_tell_pictures_apart_and_not_where_they_are(tmp_path):
    one = files(tmp_path / "1", {"a": b"x", "b": b"y"}).fingerprint()
    assert files(tmp_path / "2", {"a": b"x", "b": b"y"}).fingerprint() == one
    others = [{"a": b"x"}, {"a": b"x", "c": b"y"}, {"a": b"x", "b": b"z"}, {"a": b"x", "b": b"y" * 10}]
    found = [files(tmp_path / f"other{n}", other).fingerprint() for n, other in enumerate(others)]
    assert len({one, *found}) == 5
    for pair in (data := files(tmp_path / "3", {"a": b"x"})).data.pairs:
        pair.target.write_bytes(b"another target")
    assert data.fingerprint() != found[0]


def test_fingerprints_of_other_data_sets_look_at_the_first_item():
    one = ValidationPairs(Grey()).fingerprint()
    assert ValidationPairs(Grey()).fingerprint() == one
    assert len({one, ValidationPairs(Grey(0.3)).fingerprint(), ValidationPairs(Grey(side=24)).fingerprint()}) == 3
    item = Grey()[0]
    assert ValidationPairs([item, item]).fingerprint() != one
