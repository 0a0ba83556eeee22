import contextlib

import pytest
import torch

from mprnet import UserError
from mprnet.evaluation.resuming import process_remaining
from mprnet.inference.distributed import World

CPU = torch.device("cpu")


def process_five(folder, done, process, events=None):
    """Process the images 0 to 4. Return the failures."""
    events = [] if events is None else events

    def worker(number):
        events.append(number)
        return process(number)

    prepare = lambda: events.append("prepare")  # noqa: E731
    return process_remaining(
        folder, range(5), done.__contains__, prepare, contextlib.nullcontext(worker), World(0, 1, CPU), "test"
    )


def test_only_the_remaining_images_are_processed(tmp_path):
    events = []
    failures = process_five(tmp_path / "new", {1, 3}, lambda number: "", events=events)
    assert failures == []
    assert events == ["prepare", 0, 2, 4]
    assert (tmp_path / "new").is_dir()


def test_failures_are_collected_and_the_other_images_are_processed(tmp_path):
    assert process_five(tmp_path, {0}, lambda number: f"{number} is odd" if number % 2 else "") == [
        "1 is odd",
        "3 is odd",
    ]


def test_a_user_error_ends_the_work(tmp_path):
    events = []

    def fail(number):
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        process_five(tmp_path, set(), fail, events=events)
    assert events == ["prepare", 0]
