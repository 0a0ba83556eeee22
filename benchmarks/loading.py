"""Speed of the training data loader, and of reading the files alone, in samples per second.

    python benchmarks/loading.py --width 1280 --height 720 --patch 256

Writes pairs of generated pictures to a temporary folder as PNG, and reads them as training does: decoding, crop,
symmetry, batch. If a training step with a batch of 16 takes SECONDS, the loader must read 16 / SECONDS samples per
second.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from mprnet.data.paired import get_training_data
from mprnet.data.reading import read_pair
from mprnet.training.loading import load_batches, make_loader
from mprnet.training.order import DistributedBatchSampler


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the training data loader.")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--patch", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, a.pairs, a.width, a.height)
        data = get_training_data(folder, {"patch_size": a.patch})
        start = time.perf_counter()
        for pair in data.pairs:
            read_pair(pair)
        decoding = a.pairs / (time.perf_counter() - start)
        print(
            f"{a.pairs} pairs of {a.width}x{a.height}, patches of {a.patch}; "
            f"decoding alone, one core: {decoding:.1f} per second"
        )
        for workers in a.workers:
            sampler = DistributedBatchSampler(a.pairs, a.batch, seed=0)
            loader = make_loader(data, sampler, workers, pin_memory=False)
            start = time.perf_counter()
            count = sum(len(target) for _, target in load_batches(loader))
            print(f"{workers} workers: {count / (time.perf_counter() - start):.1f} samples per second")


if __name__ == "__main__":
    main()
