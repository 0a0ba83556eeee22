"""Work on numbered images that can be interrupted: a later run does the rest, and several processes share it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tqdm import tqdm

from mprnet.files import make_folder
from mprnet.inference.distributed import World

# Does the work on one image, by its number. Returns an empty text, or a sentence that says why the image failed.
Process = Callable[[int], str]


def process_remaining(
    folder: Path,
    numbers: Sequence[int],
    is_done: Callable[[int], bool],
    prepare: Callable[[], None],
    worker: AbstractContextManager[Process],
    world: World,
    label: str,
) -> list[str]:
    """Process the images that no earlier run has finished. The processes of ``world`` share them.

    Every process reads the files before any process writes one. So all of them know the same images as remaining, and
    each process takes its part of them.

    Args:
        folder: where results go. It is made if it does not exist.
        numbers: of all images.
        is_done: True if the files in ``folder`` hold the result of this image. Every process calls it.
        prepare: called on rank 0, before any process starts to work.
        worker: gives the function that processes one image. It is open while this process works.
        label: what the progress bar says.

    Returns:
        Sentences about the images that failed in this process.

    Raises:
        UserError: on every rank, if one of the functions raised it on one rank.
    """
    with world.fail_together():  # no process writes before all have read the files
        make_folder(folder)
        remaining = [number for number in numbers if not is_done(number)]
    with world.fail_together():
        if world.is_main:
            prepare()
    failures: list[str] = []
    own = remaining[world.rank :: world.size]
    with world.fail_together(), worker as process:
        for number in tqdm(own, label, unit="image", leave=False, disable=not world.is_main):
            if failure := process(number):
                failures.append(failure)
    return failures
