"""Quality of the bundled weights on photographs that were not used for training, compared with classical methods.

    pip install -e ".[bench]"
    python benchmarks/quality.py                                    # the three tasks' bundled weights
    python benchmarks/quality.py --task Deblurring --weights FILE   # others

The inputs are the centres (at most 384x384 pixels) of six photographs from scikit-image and scikit-learn, degraded with
fixed seeds: by the degradations of training, by others (degrading.py), and with JPEG compression of quality 85. Prints
PSNR of RGB and SSIM of Y, of results rounded to 8 bits. Classical methods (classical.py) use the best of several
settings. With --save, writes contact sheets to docs/.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from classical import BLIND_DEBLURRERS, DEBLURRERS, DENOISERS, DERAINERS, Method
from degrading import OTHER_CAMERA, falling_rain, handheld_shake
from photographs import load_crops

from mprnet import Restorer, load_model
from mprnet.data.synthetic import exposure
from mprnet.data.synthetic.camera import compress_jpeg, noisy_photograph
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.data.synthetic.rain import add_streaks
from mprnet.data.synthetic.streaks import random_streaks
from mprnet.evaluation.figures import ComparisonRow, draw_comparison
from mprnet.metrics import luma, psnr, ssim_wang2003
from mprnet.tasks import GRADES, available_weights

ROOT = Path(__file__).parents[1]
JPEG_QUALITY = 85

# Degraded, target, and what classical methods get to know: the standard deviation of the noise (white is 1) or the
# kernel of the blur.
Degraded = tuple[np.ndarray, np.ndarray, Any]


@dataclass(frozen=True)
class Condition:
    """One line of the tables.

    Attributes:
        degrade: a function (generator, clean) that returns the degraded image, the target, and what is known.
        rivals: the classical methods to compare with.
        shown: draw a contact sheet with --save.
    """

    name: str
    degrade: Callable[[np.random.Generator, np.ndarray], Degraded]
    rivals: Sequence[Method] = ()
    shown: bool = False

    def apply(self, number: int) -> dict[str, Degraded]:
        """Degrade each photograph; the results depend only on ``number`` and the name of the condition."""
        seeds = [number, *self.name.encode()]
        return {
            name: self.degrade(np.random.default_rng([*seeds, i]), c)
            for i, (name, c) in enumerate(load_crops().items())
        }


def white_noise(sigma: float, rng: np.random.Generator, clean: np.ndarray) -> Degraded:
    return gaussian_noise(rng, clean, sigma), clean, sigma / 255


def camera_noise(
    shot: float, read: float, quality: int | None, rng: np.random.Generator, clean: np.ndarray
) -> Degraded:
    noisy, target = noisy_photograph(rng, clean, OTHER_CAMERA, shot, read)
    if quality is not None:
        noisy = compress_jpeg(rng, noisy, quality)
    return noisy, target, float(np.std(noisy / 255.0 - target / 255.0))


def trained_rain(heaviness: float, rng: np.random.Generator, clean: np.ndarray) -> Degraded:
    light = random_streaks(rng, *clean.shape[:2], heaviness)
    rainy = add_streaks(clean / np.float32(255), light[:, :, None], "sum")
    return np.rint(255 * rainy).astype(np.uint8), clean, None


def other_rain(drops: int, rng: np.random.Generator, clean: np.ndarray) -> Degraded:
    return falling_rain(rng, clean, drops), clean, None


def trained_shake(length: float, rng: np.random.Generator, clean: np.ndarray) -> Degraded:
    """A shake without rotation, so that all pixels have the same kernel, which some methods need; noise of sigma 1."""
    motion = exposure.Motion.random(rng, length, frames=64, centre=np.zeros(2), turn=0.0)
    blurred = exposure.to_grey_levels(exposure.expose(exposure.to_linear(clean), motion))
    point = np.zeros((2 * int(length) + 3,) * 2 + (1,), np.float32)
    point[int(length) + 1, int(length) + 1] = 1
    return gaussian_noise(rng, blurred, 1), clean, exposure.expose(np.repeat(point, 3, axis=2), motion)[:, :, 0]


def other_shake(length: float, rng: np.random.Generator, clean: np.ndarray) -> Degraded:
    return handheld_shake(rng, clean, length), clean, None


def untouched(_: np.random.Generator, clean: np.ndarray) -> Degraded:
    return clean, clean, None


def clean_jpeg(quality: int, rng: np.random.Generator, clean: np.ndarray) -> Degraded:
    """A file without noise, which should stay as it is."""
    compressed = compress_jpeg(rng, clean, quality)
    return compressed, compressed, None


def as_jpeg(degrade: Callable[..., Degraded], *values: float) -> Callable[[np.random.Generator, np.ndarray], Degraded]:
    def apply(rng: np.random.Generator, clean: np.ndarray) -> Degraded:
        degraded, target, known = degrade(*values, rng, clean)
        return compress_jpeg(rng, degraded, JPEG_QUALITY), target, known

    return apply


CONDITIONS = {
    "Denoising": [
        Condition("clean", untouched),
        *(Condition(f"sigma {s}", partial(white_noise, s), DENOISERS, shown=s == 50) for s in (15, 25, 50)),
        Condition("sigma 25, JPEG", as_jpeg(white_noise, 25), DENOISERS, shown=True),
        Condition("another camera, little noise", partial(camera_noise, 0.002, 1e-5, None), DENOISERS),
        Condition("another camera, much noise", partial(camera_noise, 0.01, 2e-4, None), DENOISERS, shown=True),
        Condition("another camera, much noise, JPEG", partial(camera_noise, 0.01, 2e-4, JPEG_QUALITY), DENOISERS),
        Condition("clean JPEG of quality 90", partial(clean_jpeg, 90)),
    ],
    "Deraining": [
        Condition("dry", untouched),
        Condition("light", partial(trained_rain, 0.0), DERAINERS),
        Condition("heavy", partial(trained_rain, 1.0), DERAINERS, shown=True),
        Condition("other light", partial(other_rain, 250), DERAINERS),
        Condition("other heavy", partial(other_rain, 2000), DERAINERS, shown=True),
        Condition("light, JPEG", as_jpeg(trained_rain, 0.0), DERAINERS),
        Condition("heavy, JPEG", as_jpeg(trained_rain, 1.0), DERAINERS),
    ],
    "Deblurring": [
        Condition("sharp", untouched),
        *(Condition(f"{n} pixels", partial(trained_shake, n), DEBLURRERS, shown=n == 10) for n in (6, 10, 14)),
        *(Condition(f"other, {n} pixels", partial(other_shake, n), BLIND_DEBLURRERS, n == 14) for n in (6, 10, 14)),
        Condition("10 pixels, JPEG", as_jpeg(trained_shake, 10), DEBLURRERS),
    ],
}


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round a float image in [0, 1] to uint8."""
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


@cache
def make_restorer(weights: Path, stage: int) -> Restorer:
    return Restorer(load_model(weights), stage=stage)


def run_best_setting(method: Method, degraded: dict[str, Degraded]) -> tuple[dict[str, np.ndarray], Any]:
    """Return the results of the setting with the highest mean PSNR over the photographs, and the setting."""
    best: tuple[float, dict[str, np.ndarray], Any] = (-1.0, {}, None)
    for setting in method.settings:
        results = {
            name: to_uint8(method.apply(image / 255.0, setting, known)) for name, (image, _, known) in degraded.items()
        }
        score = float(np.mean([psnr(results[name], target) for name, (_, target, _) in degraded.items()]))
        if score > best[0]:
            best = (score, results, setting)
    return best[1], best[2]


@dataclass(frozen=True)
class Comparison:
    """The results of all methods under a condition.

    Attributes:
        degraded: the inputs, by photograph.
        results: by method and photograph.
        means: mean PSNR and SSIM, by method.
    """

    degraded: dict[str, Degraded]
    results: dict[str, dict[str, np.ndarray]]
    means: dict[str, tuple[float, float]]


def compare(
    condition: Condition, number: int, weights: dict[str, Path], stages: Sequence[int], rivals: bool
) -> Comparison:
    """Run all methods on all photographs, and print the PSNR of each photograph and the means of PSNR and SSIM."""
    degraded = condition.apply(number)
    results = {"degraded": {name: image for name, (image, _, _) in degraded.items()}}
    for method in condition.rivals if rivals else ():
        results[method.name], setting = run_best_setting(method, degraded)
        print(f"{method.name}: best setting {setting}")
    for grade, path in weights.items():
        for stage in stages:
            run = make_restorer(path, stage)
            results[grade if stage == 3 else f"{grade}, stage {stage}"] = {
                name: to_uint8(run(image.astype(np.float32) / 255)) for name, (image, _, _) in degraded.items()
            }
    lines = {name: [score(method[name], degraded[name][1]) for method in results.values()] for name in degraded}
    print(f"\n| {condition.name} | " + " | ".join(results) + " |\n|" + "---|" * (1 + len(results)))
    for name, scores in lines.items():
        print(f"| {name} | " + " | ".join(f"{p:.2f}" for p, _ in scores) + " |")
    means = [(float(p), float(s)) for p, s in np.mean([*lines.values()], axis=0)]
    print("| mean | " + " | ".join(f"{p:.2f}" for p, _ in means) + " |")
    print("| SSIM | " + " | ".join(f"{s:.4f}" for _, s in means) + " |\n", flush=True)
    return Comparison(degraded, results, dict(zip(results, means, strict=True)))


def print_means(comparisons: dict[str, Comparison]) -> None:
    """Print a table: a line for each condition, a column for each method; empty if a method is not used."""
    methods = list(dict.fromkeys(method for each in comparisons.values() for method in each.means))
    methods.sort(key=lambda method: method.startswith(GRADES))  # networks last; otherwise the order stays
    print("| PSNR / SSIM, means | " + " | ".join(methods) + " |\n|" + "---|" * (1 + len(methods)))
    for name, each in comparisons.items():
        cells = ("{:.2f} / {:.3f}".format(*each.means[method]) if method in each.means else "" for method in methods)
        print(f"| {name} | " + " | ".join(cells) + " |")


def score(result: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return PSNR of RGB and SSIM of Y."""
    return psnr(result, target), ssim_wang2003(luma(result), luma(target))


def draw_sheet(comparison: Comparison, title: str, path: Path) -> None:
    """Draw each photograph, and an enlarged part of it: degraded, the result of each method, and the target."""
    finals = {method: images for method, images in comparison.results.items() if ", stage" not in method}
    rows = [
        ComparisonRow(name, {method: images[name] for method, images in finals.items()}, target)
        for name, (_, target, _) in comparison.degraded.items()
    ]
    draw_comparison(path, rows, title)


def find_bundled(task: str) -> dict[str, Path]:
    """Return the bundled weights of a task, by grade."""
    available = available_weights(ROOT / task)
    return {grade: available[grade] for grade in GRADES if grade in available}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=CONDITIONS, nargs="+", default=[*CONDITIONS])
    parser.add_argument("--weights", type=Path, help="weights of one task; default: all bundled weights")
    parser.add_argument("--only", default="", metavar="TEXT", help="only conditions whose names contain this")
    parser.add_argument("--stages", action="store_true", help="also stages 1 and 2")
    parser.add_argument("--alone", action="store_true", help="without the classical methods")
    parser.add_argument("--save", action="store_true", help="write docs/quality_*.png")
    arguments = parser.parse_args()
    for task in arguments.task:
        weights = {arguments.weights.stem: arguments.weights} if arguments.weights else find_bundled(task)
        comparisons = {}
        print(f"\n## {task}\n")
        for number, condition in enumerate(CONDITIONS[task]):
            if arguments.only not in condition.name:
                continue
            stages = (1, 2, 3) if arguments.stages else (3,)
            comparisons[condition.name] = compare(condition, number, weights, stages, not arguments.alone)
            if arguments.save and condition.shown:
                name = f"quality_{task}_{condition.name}.png".lower().replace(",", "").replace(" ", "_")
                draw_sheet(comparisons[condition.name], f"{task}: {condition.name}", ROOT / "docs" / name)
        print_means(comparisons)


if __name__ == "__main__":
    main()
