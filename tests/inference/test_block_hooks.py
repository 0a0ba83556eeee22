import threading

import pytest
import torch

from mprnet import Restorer
from mprnet.inference.block_hooks import call_in_blocks, count_blocks


@pytest.mark.parametrize("stage", [1, 2, 3, None])
def test_the_function_is_called_once_per_block(tiny, stage):
    restore = Restorer(tiny, "cpu", stage=stage)
    calls = []
    with call_in_blocks(lambda: calls.append(1)):
        restore(torch.rand(1, 3, 40, 40))
    assert len(calls) == count_blocks(tiny, stage)
    restore(torch.rand(1, 3, 40, 40))
    assert len(calls) == count_blocks(tiny, stage)


def test_an_exception_in_the_function_ends_the_pass(tiny):
    restore = Restorer(tiny, "cpu")
    image = torch.rand(1, 3, 40, 40)
    before = restore(image)
    calls = []

    def fail_at_the_third() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError), call_in_blocks(fail_at_the_third):
        restore(image)
    assert len(calls) == 3
    assert torch.equal(restore(image), before)


def test_blocks_in_other_threads_do_not_call_the_function(tiny):
    restore = Restorer(tiny, "cpu")
    calls = []
    with call_in_blocks(lambda: calls.append(1)):
        thread = threading.Thread(target=restore, args=(torch.rand(1, 3, 24, 24),))
        thread.start()
        thread.join()
    assert not calls


def test_on_tile_counts_from_zero_to_all_tiles(tiny):
    restore = Restorer(tiny, "cpu", tile=64)
    calls = []
    restore.on_tile = lambda done, total: calls.append((done, total))
    restore(torch.rand(1, 3, 100, 64))
    total = calls[0][1]
    assert total > 1
    assert calls == [(done, total) for done in range(total + 1)]
