"""Generated training pictures: speed, appearance, and statistics compared with photographs.

    pip install -e ".[bench]"
    python benchmarks/synthetic.py

Prints how many samples of each degradation one core generates per second. Writes docs/synthetic.png (pictures, and
degraded crops above their targets, weak to strong) and docs/synthetic_statistics.png (compared with six photographs
from scikit-image and scikit-learn, which are not used for training).
"""

import argparse
import time
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from photographs import load_photographs

from mprnet.data.synthetic.dead_leaves import dead_leaves
from mprnet.data.synthetic.degradations import NAMES, make_degradations
from mprnet.data.synthetic.pairs import SyntheticPairs
from mprnet.metrics import psnr

matplotlib.use("Agg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
SIZE, CROP, COLUMNS = 256, 88, 6
SIGMA = (0.0, 55.0)
PATCHES = {"noise": 80, "camera_noise": 80, "processed_noise": 80, "rain": 96, "camera_shake": 96, "motion_blur": 128}


def cut_photographs() -> np.ndarray:
    """Return overlapping tiles of the six photographs, (n, SIZE, SIZE, 3) uint8."""
    tiles = []
    for image in load_photographs().values():
        for top in range(0, image.shape[0] - SIZE + 1, SIZE // 2):
            for left in range(0, image.shape[1] - SIZE + 1, SIZE // 2):
                tiles.append(image[top : top + SIZE, left : left + SIZE])
    return np.array(tiles)


def time_degradations(pictures: np.ndarray, count: int) -> None:
    """Print the time of a complete sample: crop, symmetry, degradation, conversion to tensors."""
    for name in NAMES:
        pairs = SyntheticPairs(pictures, make_degradations(name, SIGMA), count, PATCHES[name], 0)
        pairs[0, 0]
        start = time.perf_counter()
        for index in range(count):
            pairs[1, index]
        duration = (time.perf_counter() - start) / count
        print(f"{name:13} patches of {PATCHES[name]:3}: {1000 * duration:5.1f} ms, {1 / duration:6.0f} per second")


def make_contact_sheet(pictures: np.ndarray) -> np.ndarray:
    """Return two rows of pictures and, for each degradation, a row of degraded crops, weak to strong, above targets."""
    small = [cv2.resize(picture, (CROP, CROP), interpolation=cv2.INTER_AREA) for picture in pictures[: 2 * COLUMNS]]
    rows = [np.concatenate(small[:COLUMNS], axis=1), np.concatenate(small[COLUMNS:], axis=1)]
    for name in NAMES:
        pairs = SyntheticPairs(pictures, make_degradations(name, SIGMA), 1, CROP, 1)
        samples = [[(255 * t).byte().permute(1, 2, 0).numpy() for t in pairs[2, k][:2]] for k in range(6 * COLUMNS)]
        samples.sort(key=lambda pair: -psnr(*pair))
        shown = samples[:: len(samples) // COLUMNS][:COLUMNS]
        rows += [np.concatenate([pair[side] for pair in shown], axis=1) for side in (0, 1)]
    return np.concatenate(rows)


def draw_statistics(sets: dict[str, np.ndarray], path: Path) -> None:
    """Draw the distributions of gradients and chroma, and the power spectra, of sets of tiles.

    Args:
        sets: by name, (n, SIZE, SIZE, 3) uint8.
    """
    figure, (gradients, colours, spectra) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    window = np.outer(np.hanning(SIZE), np.hanning(SIZE))
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None, :])
    rings = np.rint(frequency * SIZE).astype(int)
    for name, tiles in sets.items():
        luma = tiles @ np.array([0.299, 0.587, 0.114])
        density, edges = np.histogram(np.diff(luma, axis=2), np.arange(-200, 204, 4), density=True)
        gradients.semilogy((edges[1:] + edges[:-1]) / 2, density, label=name)
        chroma = np.hypot(0.564 * (tiles[..., 2] - luma), 0.713 * (tiles[..., 0] - luma))
        density, edges = np.histogram(chroma, np.arange(0, 124, 4), density=True)
        colours.plot((edges[1:] + edges[:-1]) / 2, density, label=name)
        power = np.mean([np.abs(np.fft.fft2((tile - tile.mean()) * window)) ** 2 for tile in luma], axis=0)
        radial = np.bincount(rings.ravel(), power.ravel()) / np.bincount(rings.ravel())
        radii = np.arange(2, SIZE // 2 + 1)
        slope = np.polyfit(np.log(radii), np.log(radial[radii]), 1)[0]
        spectra.loglog(radii / SIZE, radial[radii], label=f"{name}: slope {slope:.2f}")
        steep = np.percentile(np.abs(np.diff(luma, axis=2)), [50, 90, 99, 99.9]).round(1)
        print(f"{name}: |gradient| 50, 90, 99, 99.9 %: {steep}, mean chroma {chroma.mean():.1f}, slope {slope:.2f}")
    for axes, title in (
        (gradients, "horizontal gradient, grey levels"),
        (colours, "chroma, grey levels"),
        (spectra, "power by cycles per pixel"),
    ):
        axes.set_title(title)
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed, appearance and statistics of generated training pictures.")
    parser.add_argument("--pictures", type=int, default=96)
    parser.add_argument("--samples", type=int, default=200, help="how many samples to time")
    parser.add_argument("--out", type=Path, default=DOCS)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    start = time.perf_counter()
    pictures = np.array([dead_leaves(2, index, SIZE) for index in range(arguments.pictures)])
    print(f"clean pictures of {SIZE}: {1000 * (time.perf_counter() - start) / len(pictures):.0f} ms each")
    time_degradations(pictures, arguments.samples)
    cv2.imwrite(
        str(arguments.out / "synthetic.png"), make_contact_sheet(pictures)[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]
    )
    draw_statistics(
        {"photographs": cut_photographs(), "generated": pictures}, arguments.out / "synthetic_statistics.png"
    )


if __name__ == "__main__":
    main()
