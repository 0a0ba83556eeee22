"""What the parts of benchmarks/gpu.py share: their sizes, the machine, and the peak of a device."""

import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from operations import matrix_peak

from mprnet.inference.precision import choose_device
from mprnet.processors import available_processors

# Peaks of dense matrix products in TFLOP/s, from NVIDIA's data sheets: bf16, TF32. The first name that is in the
# device's name counts.
KNOWN_PEAKS = {
    "H100 PCIe": (756, 378),
    "H100": (989, 494),
    "H200": (989, 494),
    "GH200": (989, 494),
    "B200": (2250, 1100),
    "A100": (312, 156),
    "L40S": (362, 183),
    "L4": (121, 60),
    "A10": (125, 62),
    "RTX 4090": (165, 83),
    "RTX 3090": (71, 36),
}


@dataclass(frozen=True)
class Check:
    """What a part gets.

    Attributes:
        device: where to measure.
        tasks: whose networks to measure, the largest one first.
        deadline: when the part has to end, a time of ``time.time``. It is killed then.
        batch: size of the training batches.
        patch: height and width of the training patches.
        picture: width and height of generated pictures for training.
        restored: width and height of pictures to restore.
        steps: number of training steps that are measured, at least.
        matrix: height and width of the matrices whose product gives the peak.
    """

    device: torch.device
    deadline: float
    tasks: tuple[str, ...] = ("Deblurring", "Denoising", "Deraining")
    batch: int = 16
    patch: int = 256
    picture: tuple[int, int] = (1280, 720)
    restored: tuple[int, int] = (1280, 720)
    steps: int = 10
    matrix: int = 8192

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()


def make_check(device: str, deadline: float) -> Check:
    """Return what to measure on a device. On the CPU, all sizes are small: it is only a rehearsal.

    Raises:
        UserError: there is no such device.
    """
    chosen = choose_device(device)
    if device == "cpu":
        sizes = {"batch": 2, "patch": 32, "picture": (64, 48), "restored": (320, 128), "steps": 1, "matrix": 256}
        return Check(chosen, deadline, ("tiny",), **sizes)  # type: ignore[arg-type]
    return Check(chosen, deadline)


def describe_machine(check: Check) -> None:
    """Print what was measured where."""
    rows = {"device": platform.processor() or platform.machine()}
    if check.device.type == "cuda":
        properties = torch.cuda.get_device_properties(check.device)
        rows["device"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        rows["CUDA, cuDNN"] = f"{torch.version.cuda}, {torch.backends.cudnn.version()}"
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    rows |= {
        "processors": str(available_processors()),
        "PyTorch": torch.__version__,
        "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
        "batch": f"{check.batch} x {check.patch}x{check.patch}",
    }
    print("| | |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


def find_known_peak(device: torch.device, is_bf16: bool) -> float | None:
    """Return the peak of the data sheet in TFLOP/s; None if the device is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peaks[0 if is_bf16 else 1] for key, peaks in KNOWN_PEAKS.items() if key in name), None)


def measure_peak(check: Check, is_bf16: bool) -> float:
    """Return how fast the device multiplies large matrices, in bf16 or TF32, in TFLOP/s."""
    torch.backends.cuda.matmul.allow_tf32 = True
    peak = matrix_peak(check.device, torch.bfloat16 if is_bf16 else torch.float32, check.matrix)
    if check.device.type == "cuda":
        torch.cuda.empty_cache()  # other processes measure how much memory they need
    return peak / 1e12
