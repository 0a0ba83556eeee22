"""Reports as one HTML file without other files: tables, and pairs of images with a slider between them."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from mprnet.files import write_atomically

_LARGEST = 1280  # pixels: the longer side of images in the file
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


@dataclass(frozen=True)
class HtmlTable:
    """A table. If the first cell of a row is the title of a figure, it becomes a link to the figure."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class HtmlFigure:
    """Images of one size. Two of them are visible at a time, with a slider between them.

    Attributes:
        title: of the figure.
        caption: a line below the title.
        layers: the images by name, (H, W, 3) uint8 each.
        left, right: the names of the two images that are visible at first.
    """

    title: str
    caption: str
    layers: Mapping[str, np.ndarray]
    left: str
    right: str


def write_html(
    path: Path,
    title: str,
    tables: Sequence[HtmlTable],
    figures: Iterable[HtmlFigure],
    facts: Mapping[str, str],
    note: str = "",
) -> None:
    """Write the report to ``path``. Its images are JPEG (quality 95, full colour resolution), at most 1280 pixels.

    Args:
        path: the HTML file.
        title: of the report.
        tables: shown before the figures.
        figures: read one at a time, so that only one figure's images are in memory.
        facts: how the results were made: settings, weights, versions.
        note: a sentence below the figures.
    """
    rendered = [
        {
            "title": figure.title,
            "caption": figure.caption,
            "width": min(_LARGEST, figure.layers[figure.left].shape[1]),
            "left": figure.left,
            "right": figure.right,
            "layers": {name: _data_url(image) for name, image in figure.layers.items()},
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
        figures=rendered,
        links={figure["title"]: f"figure{number}" for number, figure in enumerate(rendered, 1)},
        facts=facts,
        note=note,
    )
    # Names of files can hold bytes that are not valid text.
    write_atomically(path, text.encode(errors="replace"))


def _data_url(image: np.ndarray) -> str:
    scale = _LARGEST / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", image[:, :, ::-1], _JPEG)[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
