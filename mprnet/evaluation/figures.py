"""The usual figure of restoration papers: images of several methods side by side, with enlarged crops."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mprnet.errors import UserError
from mprnet.files import write_atomically
from mprnet.metrics import psnr

FORMATS = (".png", ".pdf", ".svg")
_COLOURS = ("#ffd400", "#00c8ff", "#ff4fa3", "#7dff5a")
_CELL = 1.75  # inches


@dataclass(frozen=True)
class Crop:
    """A part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return this part of an image, (H, W, 3); a view."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class ComparisonRow:
    """One image as several methods restore it.

    Attributes:
        name: the image's name.
        images: each method's result, in the order of the figure, (H, W, 3) uint8, all of one size.
        target: of the same size, or None.
        crops: the parts to enlarge, at most four. If it is empty, ``find_crop`` chooses one.
    """

    name: str
    images: Mapping[str, np.ndarray]
    target: np.ndarray | None = None
    crops: Sequence[Crop] = ()

    @property
    def overview(self) -> np.ndarray:
        """The image that is drawn uncropped: the target, or the last method's image if there is no target."""
        return self.target if self.target is not None else [*self.images.values()][-1]


def find_crop(images: Sequence[np.ndarray], target: np.ndarray, side: int) -> Crop:
    """Return the crop where ``target`` has details and the images differ most.

    Args:
        images: (H, W, 3) uint8 each.
        target: (H, W, 3) uint8.
        side: height and width of the crop in pixels, less if the images are smaller.
    """
    height, width = target.shape[:2]
    side = min(side, height, width)

    def mean(values: np.ndarray) -> np.ndarray:
        """Return the mean over the crop at each possible position."""
        # Values are limited, so that a texture counts for more than one very different pixel.
        limited = np.minimum(values, 40)
        boxes = cv2.blur(limited, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        return np.asarray(boxes[: height - side + 1, : width - side + 1])

    grey = np.stack([image.mean(axis=2, dtype=np.float32) for image in (*images, target)])
    scores = mean(grey.std(axis=0)) * mean(np.abs(cv2.Laplacian(cv2.GaussianBlur(grey[-1], (0, 0), 1), -1)))
    top, left = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return Crop(int(left), int(top), side, side)


def draw_comparison(path: Path, rows: Sequence[ComparisonRow], title: str = "", side: int = 72) -> None:
    """Draw each image with its crops marked, and beside it the crops of each method and of the target.

    Args:
        path: the file to write. Its suffix, one of ``FORMATS``, chooses the format.
        rows: the images.
        title: the title of the figure.
        side: height and width in pixels of the crops that ``find_crop`` chooses.

    Raises:
        UserError: images have different sizes, a crop is not inside its image, or there are too many crops.
    """
    crops = []
    for row in rows:
        _check_row(row)
        crops.append(row.crops or [find_crop([*row.images.values()], row.overview, side)])
    heights = [len(row_crops) for row_crops in crops]
    columns = 1 + max(len(row.images) + (row.target is not None) for row in rows)
    figure = Figure(figsize=(_CELL * (columns + 0.4), (_CELL + 0.45) * sum(heights)), layout="constrained")
    grid = figure.add_gridspec(
        sum(heights), columns, width_ratios=[1.4 if max(heights) > 1 else 1.1] + [1] * (columns - 1)
    )
    top = 0
    for row, row_crops in zip(rows, crops, strict=True):
        _draw_overview(figure.add_subplot(grid[top : top + len(row_crops), 0]), row, row_crops)
        for line, crop in enumerate(row_crops):
            cells = [figure.add_subplot(grid[top + line, 1 + n]) for n in range(columns - 1)]
            _draw_crops(cells, row, crop, _COLOURS[line], captions=line == len(row_crops) - 1)
        top += len(row_crops)
    figure.suptitle(title, fontsize=10, parse_math=False)
    file = io.BytesIO()
    figure.savefig(file, format=path.suffix[1:].lower(), dpi=110)
    write_atomically(path, file.getvalue())


def _check_row(row: ComparisonRow) -> None:
    sizes = {name: image.shape for name, image in row.images.items()}
    sizes |= {"the target": row.target.shape} if row.target is not None else {}
    (first, shape), *others = sizes.items()
    for name, other in others:
        if other != shape:
            sizes_text = f"{first} has {shape[1]}x{shape[0]} pixels, but {name} has {other[1]}x{other[0]}"
            raise UserError(f"{row.name}: {sizes_text}.")
    if len(row.crops) > len(_COLOURS):
        raise UserError(f"{row.name}: at most {len(_COLOURS)} crops are possible, not {len(row.crops)}.")
    for crop in row.crops:
        if crop.left + crop.width > shape[1] or crop.top + crop.height > shape[0]:
            position = f"{crop.left},{crop.top},{crop.width},{crop.height}"
            raise UserError(f"{row.name} has {shape[1]}x{shape[0]} pixels, and the crop {position} is not inside it.")


def _draw_overview(axes: Axes, row: ComparisonRow, crops: Sequence[Crop]) -> None:
    axes.imshow(row.overview)
    for crop, colour in zip(crops, _COLOURS, strict=False):
        axes.add_patch(Rectangle((crop.left, crop.top), crop.width, crop.height, fill=False, color=colour, lw=1.5))
    axes.set_title(row.name, fontsize=8, parse_math=False)
    axes.axis("off")


def _draw_crops(cells: Sequence[Axes], row: ComparisonRow, crop: Crop, colour: str, captions: bool) -> None:
    images = {**row.images, "target": row.target} if row.target is not None else row.images
    for axes, (name, image) in zip(cells, images.items(), strict=False):
        axes.imshow(crop.cut(image), interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=1.5)
        if captions:
            score = "" if row.target is None or image is row.target else f"\n{psnr(image, row.target):.2f} dB"
            axes.set_xlabel(name + score, fontsize=8, parse_math=False)
    for axes in cells[len(images) :]:
        axes.axis("off")
