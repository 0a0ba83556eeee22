"""Speed of scoring: the measures compared with plain implementations, and a set of images scored by test.py.

    python benchmarks/metrics.py

The plain SSIM follows the definition: five filterings with a window of 11x11x11 (scipy.ndimage). scikit-image's
structural_similarity, which compares channels separately, is shown only for its speed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import scipy.ndimage
import skimage.metrics

from mprnet import metrics

ROOT = Path(__file__).resolve().parents[1]


def plain_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Return the SSIM of two volumes, (H, W, C) uint8, by its definition."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.multiply.outer(np.multiply.outer(taps, taps), taps)
    window /= window.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        return scipy.ndimage.correlate(values, window, mode="nearest")

    x, y = x.astype(float), y.astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 2.55**2, 7.65**2
    return float(((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of scoring.")
    parser.add_argument("--images", type=int, default=100, help="how many images of 1280x720 test.py scores")
    a = parser.parse_args()
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (46, 81, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (1280, 720), interpolation=cv2.INTER_CUBIC)
    x, y = ((smooth + rng.normal(0, s, smooth.shape)).round().clip(0, 255).astype(np.uint8) for s in (2, 6))
    small = (x[:180, :320], y[:180, :320])
    ours, plain = metrics.ssim_volume(*small), plain_ssim(*small)
    ratio = median_seconds(lambda: plain_ssim(*small), 1) / median_seconds(lambda: metrics.ssim_volume(*small), 9)
    print(f"volume SSIM, 320x180: {ratio:.0f} times as fast as the plain one, difference {abs(ours - plain):.1e}")
    theirs = median_seconds(
        lambda: skimage.metrics.structural_similarity(
            x, y, channel_axis=2, gaussian_weights=True, use_sample_covariance=False, data_range=255
        ),
        3,
    )
    own = median_seconds(lambda: metrics.ssim_volume(x, y), 5)
    print(f"volume SSIM, 1280x720: {own:.3f} s; {theirs / own:.1f} times as fast as scikit-image's of single channels")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side, image in (("input", x), ("target", y), ("result", x)):
            (folder / side).mkdir()
            for number in range(a.images):
                image[0, 0] = number % 256
                cv2.imwrite(str(folder / side / f"{number}.png"), image)
        words = ["--pairs", folder / "input", folder / "target", "--score_only", folder / "result"]
        script = ROOT / "Deblurring" / "test.py"
        start = time.perf_counter()
        subprocess.run([sys.executable, str(script), *map(str, words), "--result_dir", name], check=True)
        duration = time.perf_counter() - start
        print(f"{a.images} images of 1280x720, RGB PSNR and volume SSIM, reading included: {duration:.1f} s")


if __name__ == "__main__":
    main()
