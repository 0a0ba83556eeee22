import pytest

from mprnet.training.order import DistributedBatchSampler


def batches(epoch: int, rank: int = 0, size: int = 1, seed: int = 7, length: int = 10, start: int = 0) -> list[list]:
    sampler = DistributedBatchSampler(length, 4, seed, rank, size)
    sampler.epoch, sampler.start_step = epoch, start
    assert len(sampler) == -(-length // 4) - start
    return list(sampler)


def indices(epoch: int, **others: int) -> list[int]:
    return [index for batch in batches(epoch, **others) for _, index in batch]


def test_an_epoch_holds_every_sample_once_in_an_order_of_its_own():
    first, second = indices(1), indices(2)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert list(range(10)) not in (first, second)
    assert indices(1) == first
    assert indices(1, seed=8) != first


def test_steps_hold_a_batch_each_and_the_last_what_is_left():
    assert [len(batch) for batch in batches(1)] == [4, 4, 2]
    assert {epoch for batch in batches(3) for epoch, _ in batch} == {3}


@pytest.mark.parametrize("start", [0, 1, 2])
def test_it_goes_on_within_an_epoch(start):
    assert batches(2, start=start) == batches(2)[start:]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_share_every_batch(size):
    """Sample k of a batch is that of process k modulo the number of processes."""
    for step, whole in enumerate(batches(1)):
        parts = [batches(1, rank, size)[step] for rank in range(size)]
        for rank, part in enumerate(parts):
            assert part == (whole[rank::size] or whole[:1])
        shares = [DistributedBatchSampler(10, 4, 7, rank, size).count_samples(step) for rank in range(size)]
        assert [mine for mine, _ in shares] == [len(whole[rank::size]) for rank in range(size)]
        assert {total for _, total in shares} == {len(whole)}


def test_together_names_the_batch_of_all_processes():
    sampler = DistributedBatchSampler(10, 4, 7, 1, 2)
    for epoch in (1, 2):
        sampler.epoch = epoch
        assert [sampler.global_batch(step) for step in range(3)] == [[i for _, i in batch] for batch in batches(epoch)]


def test_seed_and_epoch_do_not_make_up_for_one_another():
    assert indices(2, seed=7) != indices(1, seed=8)
