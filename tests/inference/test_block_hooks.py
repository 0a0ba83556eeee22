import threading

import pytest
import torch

from mprnet import Restorer
from mprnet.inference.block_hooks import call_in_blocks, count_blocks


@pytest.mark.parametrize("stage", [1, 2, 3, None])
def test_every_block_is_seen_once(tiny, stage):
    restore = Restorer(tiny, "cpu", stage=stage)
    seen = []
    with call_in_blocks(lambda: seen.append(1)):
        restore(torch.rand(1, 3, 40, 40))
    assert len(seen) == count_blocks(tiny, stage)
    restore(torch.rand(1, 3, 40, 40))
    assert len(seen) == count_blocks(tiny, stage)


def test_what_is_raised_ends_the_pass(tiny):
    restore = Restorer(tiny, "cpu")
    image = torch.rand(1, 3, 40, 40)
    before = restore(image)
    seen = []

    def at_the_third() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError), call_in_blocks(at_the_third):
        restore(image)
    assert len(seen) == 3
    assert torch.equal(restore(image), before)


def test_other_threads_are_left_alone(tiny):
    restore = Restorer(tiny, "cpu")
    seen = []
    with call_in_blocks(lambda: seen.append(1)):
        thread = threading.Thread(target=restore, args=(torch.rand(1, 3, 24, 24),))
        thread.start()
        thread.join()
    assert not seen


def test_tiles_are_counted_from_none_done(tiny):
    restore = Restorer(tiny, "cpu", tile=64)
    said = []
    restore.on_tile = lambda done, total: said.append((done, total))
    restore(torch.rand(1, 3, 100, 64))
    total = said[0][1]
    assert total > 1
    assert said == [(done, total) for done in range(total + 1)]
