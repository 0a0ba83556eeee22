"""What tiles and bf16 change in the results of the bundled networks, on the photographs of quality.py.

    pip install -e ".[bench]"
    python benchmarks/deviations.py

PSNR between two results, mean and worst of the photographs, in dB: tiles of 192 against the whole picture, without
local pooling and with it (for a training patch of 64, since tiles cannot be smaller than larger windows), and bf16
against fp32.
"""

import argparse
from typing import Any

import numpy as np
from quality import CONDITIONS, GRADES, bundled

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
        inputs = [image.astype(np.float32) / 255 for image, _, _ in CONDITIONS[task][number].applied(number).values()]
        cells = []
        for options in PAIRS.values():
            one, other = (
                Restorer(load_model(bundled(task)[arguments.grade]), **{"tile": "none", "precision": "fp32"} | each)
                for each in options
            )
            values = [psnr(one(image), other(image)) for image in inputs]
            cells.append(f"{np.mean(values):.1f}, {min(values):.1f}")
        print(f"| {task} ({CONDITION[task]}) | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
