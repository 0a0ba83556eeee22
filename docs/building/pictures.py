"""Shows the pictures of docs/examples.md, as files of the site."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mprnet import metrics

_numbers = itertools.count()


def pictures(**images: np.ndarray | Image.Image) -> str:
    """Return HTML that shows images beside one another, each above its name.

    Args:
        images: uint8 arrays (H, W, 3) or PIL images, by name; ``_`` in a name stands for a space. If one is named
            ``target``, the others get their PSNR.
    """
    target = images.get("target")
    figures = []
    for name, image in images.items():
        caption = alt = name.replace("_", " ")
        if target is not None and name != "target":
            caption += f"<br>{metrics.psnr(np.asarray(image), np.asarray(target)):.2f} dB"
        path = _new_path(".png")
        Image.fromarray(np.asarray(image)).save(path)
        figures.append(f'<figure><img src="{_link(path)}" alt="{alt}"><figcaption>{caption}</figcaption></figure>')
    return f'<div class="pictures">{"".join(figures)}</div>'


def drawing(plot: Callable[[Figure], None], alt: str, width: float = 7, height: float = 3) -> str:
    """Return HTML that shows what ``plot`` draws in a figure of matplotlib; ``width`` and ``height`` are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    plot(figure)
    path = _new_path(".svg")
    figure.savefig(path)
    return f'<img class="drawing" src="{_link(path)}" alt="{alt}">'


def _new_path(suffix: str) -> Path:
    folder = Path(os.environ["MPRNET_DOCS_PICTURES"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{next(_numbers)}{suffix}"


def _link(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
