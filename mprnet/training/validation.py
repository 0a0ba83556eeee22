"""Validation: PSNR on pairs that are not trained on."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.inference.distributed import World
from mprnet.inference.restorer import Restorer
from mprnet.model.network import MPRNet
from mprnet.training.loading import load_batches, make_pair_loader, stop_workers
from mprnet.training.measures import MEASURES
from mprnet.training.order import rank_indices
from mprnet.training.results import Results, Sample
from mprnet.training.samples import ValidationPairs
from mprnet.training.stopping import StopSignals, WaitInterrupted

_MOST_WAITING = 32  # pairs that wait for others of their size: a bound on the memory


def is_validation_epoch(training: CfgNode, epoch: int) -> bool:
    """True if the settings (section TRAINING) want a validation in and at the end of this epoch."""
    if training.VAL_EPOCHS:
        return epoch in training.VAL_EPOCHS or 0 < training.VAL_ALL_FROM <= epoch
    return epoch % training.VAL_AFTER_EVERY == 0


def validation_steps(training: CfgNode, epoch: int, steps: int) -> set[int]:
    """Return the steps of an epoch after which to validate. The last step is not among them.

    Args:
        training: the settings' section TRAINING.
        steps: number of steps in the epoch.
    """
    times = training.VAL_TIMES if is_validation_epoch(training, epoch) else 1
    return {round(part * steps / times) for part in range(1, times)} - {0, steps}


class Validator:
    """Validates networks on the pairs of a run. The processes of ``world`` share the pairs.

    Args:
        measures: names of ``MEASURES``.
        training: the settings' section TRAINING.
        folder: gets validation.png: input, result and target of the first few pairs. With TRAINING.SAVE_IMAGES, it gets
            each result as validation/NAME.png.
        workers: number of processes that read pairs; 0: this process reads them.
    """

    def __init__(
        self,
        pairs: ValidationPairs,
        measures: Sequence[str],
        training: CfgNode,
        folder: Path,
        world: World,
        workers: int = 0,
    ) -> None:
        self._measures = [MEASURES[name] for name in measures]
        self._training = training
        self._folder = folder
        self._world = world
        self._own = rank_indices(len(pairs), world.rank, world.size)
        self._loader = make_pair_loader(pairs, self._own, workers)

    def close(self) -> None:
        """End the processes that read pairs. They stay from one validation to the next."""
        stop_workers(self._loader)

    def validate(self, model: MPRNet, signals: StopSignals) -> dict[str, float] | None:
        """Return the mean PSNRs of the degraded images and of the restored images, both clamped to [0, 1]; in dB.

        Pairs of one size are restored together, as many as ``Restorer.batch_size`` says. Each image of a batch is
        restored independently of the others. Images that do not fit in memory are restored in tiles. All processes
        have to call this. They stop together, after their current batch.

        Returns:
            Values by the columns of log.csv: ``psnr``, ``input_psnr`` and so on. If a restored image is not finite, the
            means of the restored images are NaN. None: a signal asks a process to stop.

        Raises:
            UserError: in each process, if one of them cannot read a pair, or has too little memory; or no pair can be
                read. With TRAINING.ON_BROKEN skip, pairs that cannot be read are skipped instead.
        """
        restorer = Restorer(model, str(self._world.device), "fp32")
        results = Results(self._measures, self._folder, self._training.SAVE_IMAGES, self._world.is_main)
        # None: if stderr is not a terminal
        is_hidden = None if self._world.is_main else True
        with tqdm(total=len(self._own), desc="validation", unit="image", leave=False, disable=is_hidden) as bar:
            batches = group_by_size(self._read_pairs(bar), restorer.batch_size)
            problem: UserError | None = None
            stop = failed = 0.0
            active = 1.0
            while active and not (stop or failed):
                batch: list[Sample] | None = None
                try:
                    with signals.interrupt():
                        batch = next(batches, None)
                    if batch is not None:
                        results.add(restorer, batch)
                        bar.update(len(batch))
                except WaitInterrupted:
                    pass
                except UserError as error:
                    problem = error
                # Processes can have different numbers of batches. One without a batch takes part until all are done.
                flags = signals.number is not None, problem is not None, batch is not None
                stop, failed, active = self._world.all_reduce(*flags)
        if failed:
            with self._world.fail_together():
                if problem is not None:
                    raise problem
        return None if stop else results.finish(self._world)

    def _read_pairs(self, bar: "tqdm[Any]") -> Iterator[Sample]:
        """Yield this process's pairs in order.

        Raises:
            UserError: a pair cannot be read, and is not to be skipped.
        """
        for index, item in zip(self._own, load_batches(self._loader), strict=True):
            if not isinstance(item, str):
                yield Sample(index, *item)
            elif self._training.ON_BROKEN == "skip":
                tqdm.write(f"skipped: {item}", sys.stderr)
                bar.update()
            else:
                raise UserError(item)


def group_by_size(pairs: Iterable[Sample], batch_size: Callable[[int, int], int]) -> Iterator[list[Sample]]:
    """Yield pairs of one size together.

    Args:
        batch_size: returns the largest number of pairs of a height and width.
    """
    waiting: dict[tuple[int, int], list[Sample]] = {}
    for pair in pairs:
        height, width = pair.degraded.shape[1:]
        group = waiting.setdefault((height, width), [])
        group.append(pair)
        if len(group) >= batch_size(height, width):
            yield waiting.pop((height, width))
        elif sum(map(len, waiting.values())) >= _MOST_WAITING:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()
