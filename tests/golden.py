"""Facts of the published network (tests/facts), and the weights and images with which they were computed."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_FACTS = Path(__file__).parent / "facts"


def read_fact(name: str) -> Any:
    """Return the content of a file of facts about the published network (tests/facts)."""
    return json.loads((_FACTS / name).read_text())


def golden_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that the facts were computed with. golden_forward.json describes how they are made."""
    weights = {}
    for key, value in model.state_dict().items():
        shape = tuple(value.shape)
        if value.numel() == 1:
            weights[key] = torch.full(shape, 0.25)
        else:
            draw = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
            weights[key] = torch.from_numpy((draw * 0.7 / np.sqrt(np.prod(shape[1:]))).astype(np.float32))
    return weights


def golden_image(case: dict[str, Any]) -> Tensor:
    """Return the image (N, 3, H, W) of a case of golden_forward.json."""
    draw = np.random.RandomState(case["seed"]).uniform(size=case["shape"])
    return torch.from_numpy(draw.astype(np.float32))
