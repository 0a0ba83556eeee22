"""The pictures that visitors can try at once."""

from collections.abc import Iterable
from pathlib import Path

from natsort import natsorted

from mprnet.data.kinds import is_picture

_FOR_EACH_TASK = 2


def find_examples(samples: Path | None, tasks: Iterable[str]) -> dict[str, list[str]]:
    """Return the first pictures of each task's folder in ``samples``, without tasks that have none.

    Args:
        samples: the folder that holds the tasks' folders of pictures; None, as in an installed package: no examples.
    """
    examples = {}
    if samples is not None:
        for task in tasks:
            folder = samples / task
            pictures = [str(path) for path in folder.iterdir() if is_picture(path)] if folder.is_dir() else []
            if pictures:
                examples[task] = natsorted(pictures)[:_FOR_EACH_TASK]
    return examples
