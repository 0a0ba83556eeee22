"""What a run keeps on disk."""

from pathlib import Path
from typing import Any

import torch

from mprnet.files import replacing


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``; a crash in between leaves what was there before."""
    with replacing(path) as unfinished:
        torch.save(content, unfinished)
