"""What came out, as one HTML file that needs nothing else: tables, and pictures to slide over one another."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from mprnet.files import write_atomically

_LARGEST = 1280  # pixels, of what is shown
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


@dataclass(frozen=True)
class Listing:
    """A table. Where a row's first cell is a figure's title, it becomes a link to it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """Images of one size, two of which are seen at a time, with a slider between them.

    Attributes:
        layers: by what they show, (H, W, 3) uint8 each.
        left, right: the two that are seen at first.
    """

    title: str
    caption: str
    layers: Mapping[str, np.ndarray]
    left: str
    right: str


def write_html(
    path: Path,
    title: str,
    tables: Sequence[Listing],
    figures: Iterable[Figure],
    facts: Mapping[str, str],
    note: str = "",
) -> None:
    """Write the file; large images are made smaller, and all are JPEG (quality 95, full colour resolution).

    Args:
        facts: how it was made: settings, weights, versions.
        note: a sentence below the figures.
    """
    drawn = [
        {
            "title": figure.title,
            "caption": figure.caption,
            "width": min(_LARGEST, figure.layers[figure.left].shape[1]),
            "left": figure.left,
            "right": figure.right,
            "layers": {name: _as_link(image) for name, image in figure.layers.items()},
        }
        for figure in figures
    ]
    environment = Environment(
        loader=PackageLoader("mprnet.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("report.html").render(
        title=title,
        tables=tables,
        figures=drawn,
        shown={figure["title"]: f"figure{number}" for number, figure in enumerate(drawn, 1)},
        facts=facts,
        note=note,
    )
    # A file's name may hold bytes that are no text.
    write_atomically(path, text.encode(errors="replace"))


def _as_link(image: np.ndarray) -> str:
    scale = _LARGEST / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", image[:, :, ::-1], _JPEG)[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
