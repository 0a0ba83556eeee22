"""How well the bundled denoiser does on photographs that it was not trained on, beside non-local means.

    pip install -e ".[bench]"
    python benchmarks/quality.py

Centre crops of 384x384 pixels (or what there is) of six photographs from scikit-image and scikit-learn, white Gaussian
noise with fixed seeds, clipped and rounded to 8 bits; PSNR on RGB of the results rounded to 8 bits.
"""

import argparse
from pathlib import Path

import numpy as np
import skimage.data
import sklearn.datasets
from skimage.restoration import denoise_nl_means

from mprnet import Restorer, load_model
from mprnet.data.synthetic.noise import gaussian_noise
from mprnet.metrics import psnr

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "Denoising" / "pretrained_models" / "model_denoising_lite.safetensors"
CROP = 384


def photographs() -> dict[str, np.ndarray]:
    """The six crops, (H, W, 3) uint8 each."""
    whole = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    whole |= {name: sklearn.datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    crops = {}
    for name, image in whole.items():
        height, width = (min(CROP, side) for side in image.shape[:2])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        crops[name] = np.ascontiguousarray(image[top : top + height, left : left + width, :3])
    return crops


def non_local_means(noisy: np.ndarray, sigma: float) -> np.ndarray:
    """scikit-image's, told the true sigma; 0.6 sigma is the strength its documentation recommends."""
    return denoise_nl_means(noisy, patch_size=5, patch_distance=6, h=0.6 * sigma, sigma=sigma, channel_axis=2)


def rounded(image: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=Path(__file__).stem)
    parser.add_argument("--weights", type=Path, default=BUNDLED)
    parser.add_argument("--sigma", type=int, nargs="+", default=[0, 15, 25, 50])
    parser.add_argument("--stages", action="store_true", help="stages 1 and 2 too")
    arguments = parser.parse_args()
    model = load_model(arguments.weights)
    restorers = {f"stage {s}": Restorer(model, stage=s) for s in ((1, 2, 3) if arguments.stages else (3,))}
    for sigma in arguments.sigma:
        print(f"\nsigma {sigma}\n{'':10} " + " ".join(f"{n:>9}" for n in ["noisy", "nl means", *restorers]))
        rows = []
        for index, (name, clean) in enumerate(photographs().items()):
            noisy = gaussian_noise(np.random.default_rng([sigma, index]), clean, sigma)
            scaled = noisy.astype(np.float32) / 255
            results = [noisy, rounded(non_local_means(scaled, sigma / 255)) if sigma else noisy]
            results += [rounded(restorer(scaled)) for restorer in restorers.values()]
            rows.append([psnr(result, clean) for result in results])
            print(f"{name:10} " + " ".join(f"{score:9.2f}" for score in rows[-1]))
        print(f"{'mean':10} " + " ".join(f"{score:9.2f}" for score in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
