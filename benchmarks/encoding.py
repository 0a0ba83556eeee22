"""Time and size of PNG encoders for photographs of 6 megapixels: Pillow, OpenCV and imagecodecs at their levels.

    pip install -e ".[bench]"
    python benchmarks/encoding.py

The photographs are small ones, enlarged, with the noise of a camera: of 8 bits at low and high sensitivity, and of 16
bits. Times are seconds of a core, so that other programs matter little: the best of three runs.
"""

import io
import time
from collections.abc import Callable

import cv2
import imagecodecs
import numpy as np
from photographs import load_photographs
from PIL import Image

from mprnet.data.png import encode_png

HEIGHT, WIDTH = 2000, 3000
Encoder = Callable[[np.ndarray], bytes]


def make_pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    china = load_photographs()["china"].astype(np.float32)
    smooth = cv2.resize(china, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)

    def noisy(sigma: float) -> np.ndarray:
        return (smooth + rng.normal(0, sigma, smooth.shape)).clip(0, 255)

    return {
        "8 bits, restored (no noise)": smooth.clip(0, 255).round().astype(np.uint8),
        "8 bits, sigma 1.5": noisy(1.5).round().astype(np.uint8),
        "8 bits, sigma 6": noisy(6).round().astype(np.uint8),
        "16 bits, sigma 0.2": (257 * noisy(0.2)).round().astype(np.uint16),
    }


def encode_with_pillow(image: np.ndarray, level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=level)
    return file.getvalue()


def filter_upwards(image: np.ndarray) -> np.ndarray:
    """Return the rows of a PNG, each pixel less the one above it: what a program's own encoder would compress."""
    rows = image.astype(image.dtype.newbyteorder(">")).view(np.uint8).reshape(len(image), -1)
    filtered = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered


def make_encoders() -> dict[str, Encoder]:
    strategy, kept = imagecodecs.PNG.STRATEGY, imagecodecs.PNG.FILTER
    encoders: dict[str, Encoder] = {"ours, the default": encode_png}
    for level in (1, 6, 9):
        encoders[f"ours, --png_level {level}"] = lambda image, level=level: encode_png(image, level=level)
    for level in (1, 6):
        encoders[f"Pillow, level {level} (8 bits only)"] = lambda image, level=level: encode_with_pillow(image, level)
    encoders["OpenCV, its default"] = lambda image: cv2.imencode(".png", image)[1].tobytes()
    for level in (1, 6):
        encoders[f"imagecodecs, level {level}"] = lambda image, level=level: imagecodecs.png_encode(image, level=level)
    encoders["imagecodecs, runs only, any filter"] = lambda image: imagecodecs.png_encode(
        image, level=1, strategy=strategy.RLE
    )
    encoders["imagecodecs, runs only, filter Sub"] = lambda image: imagecodecs.png_encode(
        image, level=1, strategy=strategy.RLE, filter=kept.SUB
    )
    for level in (1, 6):
        encoders[f"NumPy's filter Up, libdeflate {level}"] = lambda image, level=level: imagecodecs.deflate_encode(
            filter_upwards(image), level=level
        )
    return encoders


def measure(encode: Encoder, image: np.ndarray) -> tuple[float, int]:
    """Return the seconds of a core and the size in bytes."""
    times = []
    for _ in range(3):
        start = time.process_time()
        size = len(encode(image))
        times.append(time.process_time() - start)
    return min(times), size


def main() -> None:
    pictures = make_pictures()
    print("| seconds, MB | " + " | ".join(pictures) + " |\n" + "|---" * (len(pictures) + 1) + "|")
    for name, encode in make_encoders().items():
        cells = []
        for image in pictures.values():
            if name.startswith("Pillow") and image.dtype != np.uint8:
                cells.append("")
                continue
            seconds, size = measure(encode, image)
            cells.append(f"{seconds:.2f}, {size / 1e6:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
