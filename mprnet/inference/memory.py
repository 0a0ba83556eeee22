"""Whether an image fits: what a forward pass takes, what the machine has."""

from pathlib import Path

import torch

from mprnet.errors import UserError
from mprnet.model.network import MPRNet

# Peak growth of a pass on the CPU, in full-size feature maps of n_feat fp32 channels: 15.5 were measured for 1024x1024
# pixels with n_feat 16, and 14.5 for 512x512 with n_feat 40. Smaller pictures take more, but little in all.
_MAPS = 16


def needed(model: MPRNet, height: int, width: int) -> int:
    """Bytes that a forward pass over one image takes at its peak, in fp32, beside the weights."""
    return _MAPS * 4 * model.config["n_feat"] * height * width


def available(device: torch.device) -> int | None:
    """Free bytes on the device, or None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if device.type == "cpu" and meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return 1024 * int(lines["MemAvailable"].split()[0])
    return None


def check(model: MPRNet, count: int, height: int, width: int, device: torch.device) -> None:
    """Refuse what would exhaust the machine, before it does.

    Raises:
        UserError: more memory is needed than is free.
    """
    free = available(device)
    need = count * needed(model, height, width)
    if free is not None and need > free:
        times = f", {count} times," if count > 1 else ""
        raise UserError(
            f"{width}x{height} pixels{times} need about {need / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free on "
            f"{device}; scale the picture down or cut it up."
        )
