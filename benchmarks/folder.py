"""How near `demo.py` comes to the speed at which the cores can decode and encode pictures.

    pip install -e ".[bench]"
    python benchmarks/folder.py                        # 100 PNGs of 6 megapixels
    python benchmarks/folder.py --pictures 12 --repeats 5 --format jpg

The network takes no time: it returns its input. So only files and conversions are left. The limit is that of plain
threads, each of which reads one picture after the other and writes it again. It is measured with as many threads as
there are cores, and with twice as many; the faster counts. Both are measured by turns, so that the machine is in the
same state for both, and medians are compared. Seconds of the cores are compared, too: they depend less on other
programs.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from arguments import parse_count
from photographs import load_photographs

from mprnet import MPRNet, Restorer
from mprnet.data.photo_reading import read_photo
from mprnet.data.photo_writing import write_photo
from mprnet.data.photos import Photo
from mprnet.inference.folder import restore_all
from mprnet.inference.jobs import Job
from mprnet.processors import available_processors


def write_pictures(folder: Path, count: int, width: int, height: int, suffix: str) -> list[Path]:
    """Write photographs with the noise of a camera; there are six different ones."""
    rng = np.random.default_rng(0)
    paths: list[Path] = []
    for photograph in load_photographs().values():
        if len(paths) < count:
            large = cv2.resize(photograph.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
            noisy = large + rng.normal(0, 1.5, large.shape)
            paths.append(folder / f"{len(paths)}{suffix}")
            write_photo(paths[-1], Photo(noisy.round().clip(0, 255).astype(np.uint8)))
    while len(paths) < count:
        paths.append(Path(shutil.copy(paths[len(paths) % 6], folder / f"{len(paths)}{suffix}")))
    return paths


def copy_all(jobs: list[Job], threads: int) -> None:
    """Decode and encode the pictures in plain threads."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda job: write_photo(job.result, read_photo(job.source)), jobs))


def make_restorer() -> Restorer:
    """Return a Restorer whose network returns its input."""
    restorer = Restorer(MPRNet(4, 2, 2, 1, reduction=2), "cpu", tile="none")
    restorer._run = lambda batch, grid: [batch]  # type: ignore[assignment]
    return restorer


def measure(run: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of a run, and its seconds of cores."""
    start, cores = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - cores


def main() -> None:
    parser = argparse.ArgumentParser(description=Path(__file__).stem)
    parser.add_argument("--pictures", type=parse_count, default=100)
    parser.add_argument("--width", type=parse_count, default=3000)
    parser.add_argument("--height", type=parse_count, default=2000)
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="of the pictures; results are PNGs")
    parser.add_argument("--repeats", type=parse_count, default=3)
    a = parser.parse_args()
    cores = available_processors()
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "in").mkdir()
        paths = write_pictures(Path(name) / "in", a.pictures, a.width, a.height, f".{a.format}")
        jobs = [Job(path, Path(name) / "out" / f"{path.stem}.png") for path in paths]
        restorer = make_restorer()
        runs: dict[str, Callable[[], object]] = {
            f"{threads} plain threads": lambda threads=threads: copy_all(jobs, threads)
            for threads in (cores, 2 * cores)
        }
        runs["demo.py"] = lambda: restore_all(jobs, restorer, total=len(jobs))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in range(a.repeats):
            for name, run in runs.items():
                times[name].append(measure(run))
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    *plain, ours = medians.values()
    for name, (seconds, of_cores) in medians.items():
        print(f"{name:18} {a.pictures / seconds:6.2f} pictures/s, {of_cores / a.pictures:.3f} s of a core for each")
    print(f"share of the limit: {min(row[0] for row in plain) / ours[0]:.0%}")
    print(f"share of the limit by seconds of cores: {min(row[1] for row in plain) / ours[1]:.0%}")


if __name__ == "__main__":
    main()
