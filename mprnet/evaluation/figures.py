"""The figure that every restoration paper needs: several methods beside one another, with enlarged crops."""

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

    def of(self, image: np.ndarray) -> np.ndarray:
        """What an image, (H, W, 3), has there."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Compared:
    """An image under several methods.

    Attributes:
        images: by method, as they are to stand beside one another, (H, W, 3) uint8 each, all of one size.
        target: what they should be, or None.
        crops: what is enlarged, at most four; none: the place that ``telling_crop`` finds.
    """

    name: str
    images: Mapping[str, np.ndarray]
    target: np.ndarray | None = None
    crops: Sequence[Crop] = ()

    @property
    def shown(self) -> np.ndarray:
        """What is shown as a whole: the target, or the last method's image."""
        return self.target if self.target is not None else [*self.images.values()][-1]


def telling_crop(images: Sequence[np.ndarray], target: np.ndarray, side: int) -> Crop:
    """Where ``target`` has details that images render differently; all (H, W, 3) uint8, the crop ``side`` pixels."""
    height, width = target.shape[:2]
    side = min(side, height, width)

    def mean(values: np.ndarray) -> np.ndarray:
        """Over each place where the crop can be; limited, since a pixel that is far off tells less than a texture."""
        limited = np.minimum(values, 40)
        boxes = cv2.blur(limited, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        return np.asarray(boxes[: height - side + 1, : width - side + 1])

    grey = np.stack([image.mean(axis=2, dtype=np.float32) for image in (*images, target)])
    telling = mean(grey.std(axis=0)) * mean(np.abs(cv2.Laplacian(cv2.GaussianBlur(grey[-1], (0, 0), 1), -1)))
    top, left = np.unravel_index(int(np.argmax(telling)), telling.shape)
    return Crop(int(left), int(top), side, side)


def draw_comparison(path: Path, rows: Sequence[Compared], title: str = "", side: int = 72) -> None:
    """Draw for each image the whole, with its crops marked, and the crops of each method and of the target.

    Args:
        path: its suffix, one of ``FORMATS``, says in which format.
        side: height and width of crops that are not given, pixels.

    Raises:
        UserError: images of different sizes, or a crop that is not within.
    """
    crops = []
    for row in rows:
        _check(row)
        crops.append(row.crops or [telling_crop([*row.images.values()], row.shown, side)])
    heights = [len(of_row) for of_row in crops]
    columns = 1 + max(len(row.images) + (row.target is not None) for row in rows)
    figure = Figure(figsize=(_CELL * (columns + 0.4), (_CELL + 0.45) * sum(heights)), layout="constrained")
    grid = figure.add_gridspec(
        sum(heights), columns, width_ratios=[1.4 if max(heights) > 1 else 1.1] + [1] * (columns - 1)
    )
    top = 0
    for row, of_row in zip(rows, crops, strict=True):
        whole = figure.add_subplot(grid[top : top + len(of_row), 0])
        _draw_whole(whole, row, of_row)
        for line, crop in enumerate(of_row):
            cells = [figure.add_subplot(grid[top + line, 1 + n]) for n in range(columns - 1)]
            _draw_crops(cells, row, crop, _COLOURS[line], captions=line == len(of_row) - 1)
        top += len(of_row)
    figure.suptitle(title, fontsize=10, parse_math=False)
    file = io.BytesIO()
    figure.savefig(file, format=path.suffix[1:].lower(), dpi=110)
    write_atomically(path, file.getvalue())


def _check(row: Compared) -> None:
    sizes = {name: image.shape for name, image in row.images.items()}
    sizes |= {"the target": row.target.shape} if row.target is not None else {}
    (first, shape), *others = sizes.items()
    for name, other in others:
        if other != shape:
            raise UserError(f"{row.name}: {first} is of {shape[1]}x{shape[0]} pixels, {name} of {other[1]}x{other[0]}.")
    if len(row.crops) > len(_COLOURS):
        raise UserError(f"{row.name}: at most {len(_COLOURS)} crops find room, not {len(row.crops)}.")
    for crop in row.crops:
        if crop.left + crop.width > shape[1] or crop.top + crop.height > shape[0]:
            where = f"{crop.left},{crop.top},{crop.width},{crop.height}"
            raise UserError(f"{row.name} is of {shape[1]}x{shape[0]} pixels, and the crop {where} is not within.")


def _draw_whole(axes: Axes, row: Compared, crops: Sequence[Crop]) -> None:
    axes.imshow(row.shown)
    for crop, colour in zip(crops, _COLOURS, strict=False):
        axes.add_patch(Rectangle((crop.left, crop.top), crop.width, crop.height, fill=False, color=colour, lw=1.5))
    axes.set_title(row.name, fontsize=8, parse_math=False)
    axes.axis("off")


def _draw_crops(cells: Sequence[Axes], row: Compared, crop: Crop, colour: str, captions: bool) -> None:
    shown = {**row.images, "target": row.target} if row.target is not None else row.images
    for axes, (name, image) in zip(cells, shown.items(), strict=False):
        axes.imshow(crop.of(image), interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=1.5)
        if captions:
            score = "" if row.target is None or image is row.target else f"\n{psnr(image, row.target):.2f} dB"
            axes.set_xlabel(name + score, fontsize=8, parse_math=False)
    for axes in cells[len(shown) :]:
        axes.axis("off")
