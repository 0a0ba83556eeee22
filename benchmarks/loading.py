"""Speed of the training data loader, with decoded and with prepared pictures, in samples per second.

    python benchmarks/loading.py --width 1280 --height 720 --patch 256

Writes pairs of generated pictures to a temporary folder as PNG, and reads them as training does: decoding, memory
maps or compressed tiles, crop, symmetry, batch. The loaders run in turns, so they can be compared on a busy machine,
too. If a training step with a batch of 16 takes SECONDS, the loader must read 16 / SECONDS samples per second.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from mprnet.data.cache import PictureCache
from mprnet.data.paired import PairedPictures, get_training_data
from mprnet.data.preparation_plan import plan_preparation, plan_tiles
from mprnet.data.preparing import prepare_pictures
from mprnet.training.loading import load_batches, make_loader, stop_workers
from mprnet.training.order import DistributedBatchSampler
from mprnet.training.samples import TrainingSamples


def write_pairs(folder: Path, count: int, width: int, height: int) -> None:
    """Write PNGs of smooth structure and noise, about as large as those of photographs (2 MB at 1280x720)."""
    for index in range(count):
        rng = np.random.default_rng(index)
        coarse = rng.uniform(0, 255, (height // 16 + 1, width // 16 + 1, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        for side, sigma in (("input", 2), ("target", 4)):
            (folder / side).mkdir(exist_ok=True)
            noisy = smooth + rng.normal(0, sigma, smooth.shape)
            cv2.imwrite(str(folder / side / f"{index}.png"), noisy.round().clip(0, 255).astype(np.uint8))


def prepare_pairs(folder: Path, count: int, width: int, height: int, patch: int) -> list[PairedPictures]:
    """Write pairs and prepare them. Return data sets of the same crops: decoded, and prepared as pixels and tiles."""
    write_pairs(folder, count, width, height)
    data_sets = [get_training_data(folder, {"patch_size": patch}) for _ in range(3)]
    print(f"{count} pairs of {width}x{height}, patches of {patch}")
    for data, form, plan in zip(data_sets[1:], ("pixels", "tiles"), (plan_preparation, plan_tiles), strict=True):
        (folder / form).mkdir()
        cache = PictureCache(folder / form, folder)
        start = time.perf_counter()
        prepare_pictures(plan(data.pairs, cache), cache)
        speed = count / (time.perf_counter() - start)
        size = sum(record.stored for record in cache.records.values()) / (6 * count * width * height)
        print(f"preparing {form}: {speed:.1f} pairs per second, {size:.2f} of the bytes of pixels")
        data.read_pair = cache.read_pair
    return data_sets


class TimedLoader:
    """A loader of batches, and the speed of each of its epochs."""

    def __init__(self, samples: TrainingSamples, batch: int, workers: int, pin_memory: bool = False) -> None:
        self.sampler = DistributedBatchSampler(len(samples), batch, seed=0)
        self.loader = make_loader(samples, self.sampler, workers, pin_memory)
        self.speeds: list[float] = []

    def run(self, epochs: int) -> None:
        """Measure several epochs together: the start of an epoch takes some milliseconds."""
        count, start = 0, time.perf_counter()
        for _ in range(epochs):
            self.sampler.epoch += 1
            count += sum(len(target) for _, target in load_batches(self.loader))
        self.speeds.append(count / (time.perf_counter() - start))


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the training data loader.")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--patch", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is printed")
    parser.add_argument("--epochs", type=int, default=20, help="of prepared pictures for each epoch of decoded ones")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data_sets = prepare_pairs(Path(name), a.pairs, a.width, a.height, a.patch)
        for workers in a.workers:
            loaders = [TimedLoader(TrainingSamples(data, 0), a.batch, workers) for data in data_sets]
            for loader in loaders:
                loader.run(1)
                loader.speeds.clear()
            for _ in range(a.repeats):
                loaders[0].run(1)
                loaders[1].run(a.epochs)
                loaders[2].run(-(-a.epochs // 10))
            for loader in loaders:
                stop_workers(loader.loader)
            slow, fast, tiled = (statistics.median(loader.speeds) for loader in loaders)
            print(
                f"{workers} workers: {slow:.1f} samples per second decoded, {fast:,.0f} prepared "
                f"({fast / slow:.1f} times as many), {tiled:.1f} as tiles ({tiled / slow:.1f} times as many)"
            )


if __name__ == "__main__":
    main()
