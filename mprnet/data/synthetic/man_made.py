"""Regular things in generated pictures: writing, and rows of windows, planks, railings and the like."""

import cv2
import numpy as np

from mprnet.data.synthetic.drawing import FRACTION_BITS, to_fixed_point
from mprnet.data.synthetic.palette import Palette

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_PLAIN,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)
# Letters about as frequent as in European languages, some digits and signs.
_LETTERS = np.array(list("eeeeeeetttaaaaooooiiiinnnnsssrrrhhlldducmfpgwybvkxjqzEATONSIRLDCMPBG0123456789.,-!&"))


def draw_man_made(rng: np.random.Generator, canvas: np.ndarray, palette: Palette) -> None:
    """Draw 1 to 4 blocks of text or grids of equal things on ``canvas``, (side, side, 3) float32, in place."""
    for _ in range(int(rng.integers(1, 5))):
        (_draw_text if rng.random() < 0.5 else _draw_grid)(rng, canvas, palette)


def add_posts(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
    """Return ``clean``, (H, W, 3) uint8, with one to three rows of posts, bars of railings or straps.

    They are about vertical, so they resemble streaks of rain.
    """
    size = np.array(clean.shape[1::-1])
    image: np.ndarray = clean.astype(np.float32)
    for _ in range(int(rng.integers(1, 4))):
        count, pitch, length = int(2 ** rng.uniform(0, 5)), 2 ** rng.uniform(1.5, 5.5), 2 ** rng.uniform(3, 7)
        slope, lean = rng.normal(0, 0.3), rng.normal(0, 0.1)
        places = np.arange(count)[:, None] + rng.choice([0, 0.1, 0.5]) * rng.standard_normal((count, 1))
        top = rng.uniform(-0.2, 0.9, 2) * size + places * pitch * [np.cos(slope), np.sin(slope)]
        ends = np.stack([top, top + length * np.array([np.sin(lean), np.cos(lean)])], axis=1)
        mask = np.zeros(clean.shape[:2], np.uint8)
        cv2.polylines(mask, list(to_fixed_point(ends)), False, 255, int(rng.integers(1, 5)), cv2.LINE_AA, FRACTION_BITS)
        weight = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 0.9)) * np.float32(rng.uniform(0.3, 1) / 255)
        colour = np.clip(rng.uniform(40, 255) + 25 * rng.standard_normal(3), 0, 255).astype(np.float32)
        image += weight[:, :, None] * (colour - image)
    return np.rint(image).astype(np.uint8)


def _draw_text(rng: np.random.Generator, canvas: np.ndarray, palette: Palette) -> None:
    """Draw a few lines of random words in one font and colour, level or turned."""
    side = canvas.shape[0]
    font, height, lines = _FONTS[rng.integers(len(_FONTS))], 2 ** rng.uniform(3.3, 6.3), int(rng.integers(1, 6))
    thickness = max(1, round(height * rng.uniform(0.05, 0.2)))
    scale = cv2.getFontScaleFromHeight(font, int(height), thickness)
    mask: np.ndarray = np.zeros((side, side), np.uint8)
    left, top = rng.uniform(-0.1, 0.7, 2) * side
    for line in range(lines):
        letters = _LETTERS[rng.integers(len(_LETTERS), size=int(rng.integers(3, 30)))]
        letters[rng.random(letters.size) < 0.15] = " "
        corner = (int(left), int(top + (line + 1) * 1.6 * height))
        cv2.putText(mask, "".join(letters), corner, font, scale, 255, thickness, cv2.LINE_AA)
    if rng.random() < 0.5:
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.normal(0, 20), 1.0)
        mask = cv2.warpAffine(mask, turn, (side, side))
    box = cv2.boundingRect(mask)
    rows, columns = slice(box[1], box[1] + box[3]), slice(box[0], box[0] + box[2])
    weight = mask[rows, columns, None] * np.float32(1 / 255)
    canvas[rows, columns] += weight * (palette.random_colour(rng).astype(np.float32) - canvas[rows, columns])


def _draw_grid(rng: np.random.Generator, canvas: np.ndarray, palette: Palette) -> None:
    """Draw a thing of one to three parts again and again, on a grid that is seen at a slant."""
    side = canvas.shape[0]
    counts = np.rint(2 ** rng.uniform(0, 4.5, 2)).astype(int)
    pitch = 2 ** rng.uniform(2.5, 6) * np.array([1, 2 ** rng.uniform(-1.5, 1.5)])
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    angle = rng.normal(0, 0.25)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    frame = (corners - 0.5) * pitch * counts @ turn * rng.uniform(0.7, 1.3, (4, 1)) + rng.uniform(0, side, 2)
    matrix = cv2.getPerspectiveTransform(corners, frame.astype(np.float32))
    cells = np.stack(np.meshgrid(np.arange(counts[0]), np.arange(counts[1])), axis=2).reshape(-1, 1, 2)
    for _ in range(int(rng.integers(1, 4))):
        shape = _random_part(rng)
        points = ((cells + shape) / counts).astype(np.float32)
        moved = to_fixed_point(cv2.perspectiveTransform(points.reshape(1, -1, 2), matrix).reshape(points.shape))
        colours = palette.random_colour(rng) + rng.choice([0, 0.05, 0.2]) * rng.standard_normal((len(cells), 1))
        for outline, colour in zip(moved, colours.tolist(), strict=True):
            cv2.fillPoly(canvas, [outline], colour, cv2.LINE_8, FRACTION_BITS)


def _random_part(rng: np.random.Generator) -> np.ndarray:
    """Return the outline of a rectangle, a bar or a polygon within the unit square, (points, 2)."""
    low = rng.uniform(0.02, 0.45, 2)
    high = rng.uniform(0.55, 0.98, 2)
    kind = rng.random()
    if kind < 0.3:
        # A bar through the whole cell.
        axis = int(rng.integers(2))
        low[axis], high[axis] = 0, 1
        high[1 - axis] = low[1 - axis] + rng.uniform(0.1, 0.4)
    elif kind > 0.75:
        angle = np.linspace(0, 2 * np.pi, int(rng.integers(3, 13)), endpoint=False) + rng.uniform(0, 1)
        return (low + high) / 2 + (high - low) / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
