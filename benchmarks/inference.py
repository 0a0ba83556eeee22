"""Time of one forward pass, ours beside the published network's as the package spandrel_extra_arches has it.

    pip install -e ".[bench]"
    python benchmarks/inference.py --task Deraining --size 256

Same weights, same input, fp32, in one process and in turns, so that both meet the machine in the same state. Prints
both medians, their ratio and the largest difference of the outputs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import spandrel
import spandrel_extra_arches
import torch
from torch import Tensor

from mprnet import MPRNet, Restorer

# Constructor arguments of the paper's three networks.
WIDTHS = {"Deblurring": (96, 48, 32, 8), "Denoising": (80, 48, 32, 8), "Deraining": (40, 20, 16, 8)}


def published(model: MPRNet) -> torch.nn.Module:
    """The package's network with the weights of ``model``."""
    spandrel_extra_arches.install(ignore_duplicates=True)
    return spandrel.ModelLoader("cpu").load_from_state_dict(model.state_dict()).model.eval()


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@torch.inference_mode()
def compare(task: str, size: int, repeats: int, device: torch.device) -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    model = MPRNet(*WIDTHS[task]).eval()
    theirs = published(model).to(device)
    ours = Restorer(model, str(device))
    image = torch.rand(1, 3, size, size, device=device)

    def run_theirs() -> Tensor:
        output = theirs(image)
        return output[0] if isinstance(output, (list, tuple)) else output

    difference = (run_theirs().clamp(0, 1) - ours(image)).abs().max().item()
    times = [(seconds(run_theirs, device), seconds(lambda: ours(image), device)) for _ in range(repeats)]
    before, after = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"{task} {size}x{size} on {device}, {torch.get_num_threads()} threads: published {before:.3f} s, ours "
        f"{after:.3f} s, ratio {before / after:.2f}, largest difference {difference:.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=Path(__file__).stem)
    parser.add_argument("--task", choices=WIDTHS, nargs="+", default=list(WIDTHS))
    parser.add_argument("--size", type=int, nargs="+", default=[256])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args()
    for task in arguments.task:
        for size in arguments.size:
            compare(task, size, arguments.repeats, arguments.device)


if __name__ == "__main__":
    main()
