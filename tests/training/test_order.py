import pytest

from mprnet.training.order import DistributedBatchSampler


def list_batches(
    epoch: int, rank: int = 0, size: int = 1, seed: int = 7, length: int = 10, start: int = 0
) -> list[list]:
    sampler = DistributedBatchSampler(length, 4, seed, rank, size)
    sampler.epoch, sampler.start_step = epoch, start
    assert len(sampler) == 3 - start
    return list(sampler)


def list_indices(epoch: int, **others: int) -> list[int]:
    return [index for batch in list_batches(epoch, **others) for _, index in batch]


def test_each_epoch_has_every_sample_once_in_its_own_order():
    first, second = list_indices(1), list_indices(2)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert list(range(10)) not in (first, second)
    assert list_indices(1) == first
    assert list_indices(1, seed=8) != first


def test_the_last_batch_is_smaller():
    assert [len(batch) for batch in list_batches(1)] == [4, 4, 2]
    assert {epoch for batch in list_batches(3) for epoch, _ in batch} == {3}


@pytest.mark.parametrize("start", [0, 1, 2])
def test_an_epoch_can_start_at_a_later_step(start):
    assert list_batches(2, start=start) == list_batches(2)[start:]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_batch_is_divided_among_the_processes(size):
    """Sample k of a batch belongs to process k modulo the number of processes."""
    for step, batch in enumerate(list_batches(1)):
        parts = [list_batches(1, rank, size)[step] for rank in range(size)]
        for rank, part in enumerate(parts):
            assert part == (batch[rank::size] or batch[:1])
        counts = [DistributedBatchSampler(10, 4, 7, rank, size).count_samples(step) for rank in range(size)]
        assert [own for own, _ in counts] == [len(batch[rank::size]) for rank in range(size)]
        assert {total for _, total in counts} == {len(batch)}


def test_global_batch_is_the_batch_of_all_processes():
    sampler = DistributedBatchSampler(10, 4, 7, 1, 2)
    for epoch in (1, 2):
        sampler.epoch = epoch
        expected = [[index for _, index in batch] for batch in list_batches(epoch)]
        assert [sampler.global_batch(step) for step in range(3)] == expected


def test_seed_and_epoch_are_not_just_added():
    assert list_indices(2, seed=7) != list_indices(1, seed=8)
