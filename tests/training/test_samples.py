"""Data sets of any kind, as the training loop uses them."""

import random
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from mprnet import UserError
from mprnet.data.paired import PairedPictures, WholePairs, get_training_data
from mprnet.data.pairs import Pair
from mprnet.data.png import write_png
from mprnet.data.tensors import as_float
from mprnet.training.samples import TrainingSamples, ValidationPairs
from training.runs import Grey, Noise

Item = namedtuple("Item", ["degraded", "target", "path"])


class RandomItems(Dataset):
    """A data set as users write it: the key is an index, and items are random, by three different generators.

    Args:
        item: if not None, all items are this.
    """

    def __init__(self, item=None) -> None:
        self.item = item

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int):
        if self.item is not None:
            return self.item
        levels = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item(), index / 10])
        image = levels.repeat(2).expand(3, 8, 8)
        return image, image


class WithoutGetItem(Dataset):
    """Has no ``__getitem__`` of its own. PyTorch's base class has one that only raises."""

    def __len__(self) -> int:
        return 3


class Failing(RandomItems):
    def __getitem__(self, index: int):
        if index == 0:
            raise FileNotFoundError(2, "No such file", "x.png")
        return super().__getitem__(index)


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)


def levels(samples: TrainingSamples, epoch: int, index: int) -> list[float]:
    return samples[epoch, index][0][0, 0, :4].tolist()


def test_random_numbers_depend_only_on_seed_epoch_and_index():
    samples = TrainingSamples(RandomItems(), seed=5)
    first = levels(samples, 1, 2)
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    assert levels(samples, 1, 2) == levels(TrainingSamples(RandomItems(), seed=5), 1, 2) == first
    assert first[3] == pytest.approx(0.2)
    for other in (levels(samples, 2, 2), levels(samples, 1, 1), levels(TrainingSamples(RandomItems(), seed=6), 1, 2)):
        assert all(a != b for a, b in zip(first[:3], other[:3], strict=True))


def test_the_global_random_generators_are_not_changed():
    def draw() -> list[float]:
        return [random.random(), np.random.rand(), torch.rand(()).item()]

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    TrainingSamples(RandomItems(), seed=5)[1, 0]
    ValidationPairs(RandomItems())[0]
    assert draw() == expected


def test_data_sets_addressed_by_epoch_get_the_epoch():
    samples = TrainingSamples(Noise(), seed=5)
    assert all(torch.equal(a, b) for a, b in zip(samples[3, 4], Noise()[3, 4], strict=True))
    assert len(samples) == 10


@pytest.fixture
def pictures(tmp_path) -> PairedPictures:
    """A data set of one pair."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    for side in ("input", "target"):
        write_png(tmp_path / side / "0.png", image)
    return get_training_data(tmp_path, {"patch_size": 8})


def test_crops_of_pictures_are_bytes(pictures):
    sample = TrainingSamples(pictures, 0)[1, 0]
    assert [image.dtype for image in sample] == [torch.uint8] * 2
    assert all(torch.equal(as_float(a), b) for a, b in zip(sample, pictures[1, 0], strict=True))


def test_a_subclass_makes_items_of_its_own(pictures):
    class Darker(PairedPictures):
        def __getitem__(self, key):
            degraded, target = super().__getitem__(key)
            return degraded / 2, target

    darker = Darker(pictures.pairs, 8, 0)
    assert torch.equal(TrainingSamples(darker, 0)[1, 0][0], pictures[1, 0][0] / 2)


def count_bytes(sample) -> int:
    return sum(image.numel() * image.itemsize for image in sample)


def test_the_size_of_a_sample_is_known_before_it_is_read(pictures):
    assert TrainingSamples(pictures, 0).count_bytes(8) == count_bytes(TrainingSamples(pictures, 0)[(1, 0)])
    pictures.saturation = (0.8, 1.2)  # a third of the samples are floats, so batches are
    assert TrainingSamples(pictures, 0).count_bytes(8) == 4 * 2 * 3 * 8 * 8
    other = TrainingSamples(RandomItems(), 0)
    assert other.count_bytes(8) == count_bytes(other[(1, 0)])


def test_the_size_of_the_first_pair_stands_for_all(pictures):
    pairs = ValidationPairs(WholePairs(pictures.pairs))
    assert pairs.count_bytes() == count_bytes(pairs[0][:2]) > 0
    assert ValidationPairs(Failing()).count_bytes() == 0


def test_bytes_of_other_data_sets_mean_0_to_255():
    image = torch.randint(0, 256, (3, 8, 8)).byte()
    assert torch.equal(TrainingSamples(RandomItems((image, image)), 0)[1, 0][0], image)
    assert torch.equal(ValidationPairs(RandomItems((image, image)))[0][1], image)


def test_pictures_to_validate_on_are_bytes(pictures):
    pairs = WholePairs(pictures.pairs)
    item = ValidationPairs(pairs)[0]
    assert [image.dtype for image in item[:2]] == [torch.uint8] * 2
    assert all(torch.equal(as_float(a), b) for a, b in zip(item[:2], pairs[0], strict=False))
    assert item[2] == pairs[0][2] == "0"

    class Darker(WholePairs):
        def __getitem__(self, index):
            degraded, target, name = super().__getitem__(index)
            return degraded / 2, target, name

    assert torch.equal(ValidationPairs(Darker(pictures.pairs))[0][0], pairs[0][0] / 2)


def test_concatenated_data_sets_and_subsets():
    samples = TrainingSamples(ConcatDataset([RandomItems(), Subset(RandomItems(), [2])]), seed=5)
    assert len(samples) == 4
    assert levels(samples, 1, 3)[3] == pytest.approx(0.2)


def test_names_come_from_the_pairs(tmp_path):
    assert TrainingSamples(RandomItems(), 0).names == ["sample 0", "sample 1", "sample 2"]
    data = RandomItems()
    data.pairs = [Pair(name, tmp_path, tmp_path) for name in "abc"]
    assert TrainingSamples(data, 0).names == ["a", "b", "c"]
    data.pairs = data.pairs[:2]
    assert TrainingSamples(data, 0).names == ["sample 0", "sample 1", "sample 2"]


def test_validation_items_are_the_same_every_time_and_have_names():
    pairs = ValidationPairs(RandomItems())
    assert len(pairs) == 3
    assert torch.equal(pairs[1][0], pairs[1][0])
    assert not torch.equal(pairs[1][0][:, :, :3], pairs[0][0][:, :, :3])
    assert [name for _, _, name in pairs] == ["0", "1", "2"]
    assert ValidationPairs(Grey())[0][2] == "grey"
    image = torch.zeros(3, 5, 7)
    assert ValidationPairs([Item(image, image, 4)])[0][2] == "0"
    assert ValidationPairs([Item(image.double(), image.half(), "x")])[0][1].dtype == torch.float32


@pytest.mark.parametrize("kind", [TrainingSamples, ValidationPairs])
def test_objects_that_are_not_data_sets_are_an_error(kind):
    arguments = [0] if kind is TrainingSamples else []
    for data, message in [
        (Stream(), "Stream"),
        (None, "NoneType"),
        ([], "without items"),
        ({1}, "set"),
        (WithoutGetItem(), "WithoutGetItem"),
    ]:
        with pytest.raises(UserError, match=f"get_(training|validation)_data of data_RGB.py returns .*{message}"):
            kind(data, *arguments)


IMAGE = torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (IMAGE, "is of type Tensor: it has to be a tuple"),
        ((IMAGE,), "is of type tuple: it has to be a tuple"),
        ({"degraded": IMAGE}, "is of type dict"),
        ((IMAGE, IMAGE.numpy()), "target is of type ndarray, but a tensor"),
        ((IMAGE[0], IMAGE), r"degraded has the shape \(8, 8\)"),
        ((IMAGE, torch.zeros(1, 8, 8)), r"target has the shape \(1, 8, 8\)"),
        ((IMAGE, torch.zeros(3, 0, 8)), r"target has the shape \(3, 0, 8\)"),
        ((IMAGE, IMAGE.byte()), "target holds torch.uint8 from 0 to 0, but floats"),
        ((IMAGE + 200, IMAGE), "degraded holds torch.float32 from 200 to 200"),
        ((IMAGE, IMAGE - 1), "target holds torch.float32 from -1 to -1"),
        ((IMAGE, IMAGE + 1.02), "target holds torch.float32 from 1.02"),
        ((IMAGE, torch.zeros(3, 8, 16)), "different sizes, 8x8 and 16x8"),
    ],
)
def test_items_of_the_wrong_kind_are_an_error(item, message):
    with pytest.raises(UserError, match=f"item 1 of the training data.*{message}"):
        TrainingSamples(RandomItems(item), 0)[1, 1]
    with pytest.raises(UserError, match=f"item 1 of the validation data.*{message}"):
        ValidationPairs(RandomItems(item))[1]


def test_sizes_and_values_that_the_network_cannot_use_are_an_error():
    image = torch.zeros(3, 8, 12)
    with pytest.raises(UserError, match="is 12x8: crop it to multiples of 8"):
        TrainingSamples(RandomItems((image, image)), 0)[1, 0]
    with pytest.raises(UserError, match="is 8x12: crop it to multiples of 8"):
        TrainingSamples(RandomItems((image.mT, image.mT)), 0)[1, 0]
    assert ValidationPairs(RandomItems((image, image)))[0][0].shape == (3, 8, 12)
    image = torch.full((3, 8, 8), float("nan"))
    with pytest.raises(UserError, match="not finite"):
        ValidationPairs(RandomItems((IMAGE, image)))[0]
    with pytest.raises(UserError, match="not finite"):
        ValidationPairs(RandomItems((image, IMAGE)))[0]
    # The training skips and counts such a step.
    assert TrainingSamples(RandomItems((IMAGE, image)), 0)[1, 0][1].isnan().all()


def write_pairs(folder, contents: dict[str, bytes]) -> ValidationPairs:
    """Write pairs of files with these contents, by name, and return them as validation data."""
    folder.mkdir()
    data = RandomItems((IMAGE, IMAGE))
    data.pairs = []
    for name, content in contents.items():
        for side in ("input", "target"):
            (folder / f"{name}_{side}").write_bytes(content + side.encode())
        data.pairs.append(Pair(name, folder / f"{name}_input", folder / f"{name}_target"))
    return ValidationPairs(data)


def test_fingerprints_differ_for_different_pictures_but_not_for_different_folders(tmp_path):
    one = write_pairs(tmp_path / "1", {"a": b"x", "b": b"y"}).fingerprint()
    assert write_pairs(tmp_path / "2", {"a": b"x", "b": b"y"}).fingerprint() == one
    others = [{"a": b"x"}, {"a": b"x", "c": b"y"}, {"a": b"x", "b": b"z"}, {"a": b"x", "b": b"y" * 10}]
    others += [{"a": bytes(size)} for size in (20000, 20001)]  # their excerpts are the same
    others += [{"a": bytes(100) + bytes([n]) + bytes(19899)} for n in (1, 2)]
    found = [write_pairs(tmp_path / f"other{n}", other).fingerprint() for n, other in enumerate(others)]
    assert len({one, *found}) == 9
    for pair in (data := write_pairs(tmp_path / "3", {"a": b"x"})).data.pairs:
        pair.target.write_bytes(b"another target")
    assert data.fingerprint() != found[0]


def test_missing_files_are_an_error_but_not_for_the_fingerprint():
    message = r"item 0 of the {} data cannot be read \(FileNotFoundError: .*x\.png"
    with pytest.raises(UserError, match=message.format("training")):
        TrainingSamples(Failing(), 0)[1, 0]
    with pytest.raises(UserError, match=message.format("validation")):
        ValidationPairs(Failing())[0]
    assert ValidationPairs(Failing()).fingerprint() != ValidationPairs(RandomItems()).fingerprint()


def test_an_attribute_pairs_of_another_type_is_ignored():
    data = RandomItems((IMAGE, IMAGE.requires_grad_()))
    data.pairs = [("a.png", "b.png")] * 3
    assert TrainingSamples(data, 0).names == ["sample 0", "sample 1", "sample 2"]
    assert len(ValidationPairs(data).fingerprint()) == 32


def test_names_do_not_contain_path_separators():
    image = torch.zeros(3, 8, 8)
    assert ValidationPairs([(image, image, "../a/b\\\\c:0")])[0][2] == ".._a_b__c_0"


def test_fingerprints_include_the_end_of_a_file(tmp_path):
    """Pictures that are not compressed have the same size, and often start with the same bytes."""
    found = [write_pairs(tmp_path / str(n), {"a": bytes(20000) + bytes([n])}).fingerprint() for n in range(2)]
    assert found[0] != found[1]


def test_fingerprints_of_other_data_sets_include_items():
    one = ValidationPairs(Grey()).fingerprint()
    assert ValidationPairs(Grey()).fingerprint() == one
    assert len({one, ValidationPairs(Grey(0.3)).fingerprint(), ValidationPairs(Grey(side=24)).fingerprint()}) == 3
    item = Grey()[0]
    assert ValidationPairs([item, item]).fingerprint() != one


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("by_epoch", [False, True])
def test_a_data_set_may_return_the_same_tensors_with_other_values(dtype, by_epoch):
    """Within a batch, or while a worker sends a pair, the values must not change."""

    class Kept(Dataset):
        addressed_by_epoch = by_epoch
        images = torch.zeros(2, 3, 8, 8, dtype=dtype)

        def __len__(self) -> int:
            return 2

        def __getitem__(self, key):
            self.images.fill_(key[1] if isinstance(key, tuple) else key)
            return tuple(self.images)

    for data, keys in ((TrainingSamples(Kept(), 1), [(1, 0), (1, 1)]), (ValidationPairs(Kept()), [0, 1])):
        items = [data[key] for key in keys]
        assert [[image.unique().tolist() for image in item[:2]] for item in items] == [[[0], [0]], [[1], [1]]]
