"""How much tiles and bf16 change the results of the bundled networks, on the photographs of quality.py.

    pip install -e ".[bench]"
    python benchmarks/deviations.py

Prints the PSNR between two results in dB, mean and lowest over the photographs. It compares tiles of 192 pixels with
the whole picture, without and with local pooling, and bf16 with fp32. Local pooling is for a training patch of 64: with
a larger one, tiles of 192 would be smaller than the windows.
"""

import argparse
from typing import Any

import numpy as np
from quality import CONDITIONS, GRADES, find_bundled

from mprnet import Restorer, load_model
from mprnet.metrics import psnr

CONDITION = {"Denoising": "sigma 25", "Deraining": "heavy", "Deblurring": "10 pixels"}
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tiles": ({"tile": 192}, {}),
    "tiles, local pooling": ({"tile": 192, "local_pooling": 64}, {"local_pooling": 64}),
    "bf16": ({"precision": "bf16"}, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=CONDITION, nargs="+", default=[*CONDITION])
    parser.add_argument("--grade", choices=GRADES, default="lite", help="of the bundled weights")
    arguments = parser.parse_args()
    print("| task | " + " | ".join(PAIRS) + " |\n|" + "---|" * (1 + len(PAIRS)))
    for task in arguments.task:
        numbers = {condition.name: n for n, condition in enumerate(CONDITIONS[task])}
        number = numbers[CONDITION[task]]
        inputs = [image.astype(np.float32) / 255 for image, _, _ in CONDITIONS[task][number].apply(number).values()]
        model = load_model(find_bundled(task)[arguments.grade])
        cells = []
        for options in PAIRS.values():
            first, second = (Restorer(model, **{"tile": "none", "precision": "fp32"} | changes) for changes in options)
            values = [psnr(first(image), second(image)) for image in inputs]
            cells.append(f"{np.mean(values):.1f}, {min(values):.1f}")
        print(f"| {task} ({CONDITION[task]}) | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
