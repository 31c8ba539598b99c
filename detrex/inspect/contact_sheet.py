"""A picture of many images with their true and predicted boxes, to look at."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.text import printable

TRUTH, PREDICTION, PAPER, TEXT = "#2ecc40", "#ff851b", "white", "black"
MARGIN, HEADER, FONT_SIZE = 6, 30, 13
MIN_SIDE = 480  # pixels; labels would hide what is on a smaller picture
LEGEND = ((TRUTH, "ground truth"), (PREDICTION, "prediction, score"))


@dataclass
class SheetItem:
    """One tile: an RGB image, true boxes (xyxy pixels, label), predicted boxes (box, label, score)
    and any others (box, label, colour)."""

    image: Image.Image
    truth: Sequence[tuple[Sequence[float], str]] = ()
    predictions: Sequence[tuple[Sequence[float], str, float]] = ()
    title: str = ""
    others: Sequence[tuple[Sequence[float], str, str]] = ()


def contact_sheet(
    items: Iterable[SheetItem],
    path: str | os.PathLike,
    columns: int = 4,
    tile: int = 320,
    title: str = "",
    legend: Sequence[tuple[str, str]] = LEGEND,
) -> None:
    """Write the items as a grid of images, under a line with the legend and the title.

    Args:
        items: the images with their boxes.
        path: of the picture; its ending says the format.
        columns: of the grid, at most.
        tile: pixels; side of the square into which an image is fitted.
        title: cut if there is no room.
        legend: (colour, meaning) of boxes.

    Raises:
        InputError: no items, or an ending of no picture format.
    """
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind not in Image.SAVE:
        raise InputError(f"{path}: no known kind of picture: name it .png")
    items = list(items)
    if not items:
        raise InputError(f"{path}: no image to put on the contact sheet")
    columns = min(columns, len(items))
    rows = -(-len(items) // columns)
    cell = tile + MARGIN, tile + MARGIN + FONT_SIZE + 4
    sheet = Image.new("RGB", (columns * cell[0] + MARGIN, HEADER + rows * cell[1]), PAPER)
    _header(ImageDraw.Draw(sheet), legend, title)
    for i, item in enumerate(items):
        corner = MARGIN + i % columns * cell[0], HEADER + i // columns * cell[1]
        sheet.paste("#dddddd", (*corner, corner[0] + tile, corner[1] + tile))
        sheet.paste(draw_item(item, tile), corner)
        below = corner[0], corner[1] + tile + 1
        ImageDraw.Draw(sheet).text(below, printable(item.title), TEXT, letters(FONT_SIZE))
    with atomic_write(path, "wb") as stream:
        sheet.save(stream, format=kind)


def _header(draw: ImageDraw.ImageDraw, legend: Sequence[tuple[str, str]], title: str) -> None:
    """Draw the legend, then the title: a narrow sheet cuts the title, not the legend."""
    font = letters(FONT_SIZE + 2)
    x = MARGIN
    for color, meaning in legend:
        draw.rectangle((x, 9, x + 16, 21), outline=color, width=3)
        draw.text((x + 22, 15), meaning, TEXT, font, anchor="lm")
        x += 22 + int(font.getlength(meaning)) + 16
    draw.text((x, 15), printable(title), TEXT, font, anchor="lm")


@functools.cache
def letters(size: int) -> ImageFont.FreeTypeFont:
    """Return a font with Latin, Greek and Cyrillic letters, ``size`` pixels high; PIL's own has
    only ASCII."""
    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size)


def draw_found(
    image: Image.Image, predictions: Sequence[tuple[Sequence[float], str, float]]
) -> Image.Image:
    """Return the image with predicted boxes (xyxy pixels, label, score), enlarged to at least
    ``MIN_SIDE``."""
    return draw_item(SheetItem(image, predictions=predictions), max(MIN_SIDE, *image.size))


def draw_item(item: SheetItem, side: int) -> Image.Image:
    """Return the image with its boxes, its longer side ``side`` pixels.

    Truth is green with the label under the box, predictions are orange with label and score above,
    where no other label is in the way. Boxes are drawn after resizing, so that lines are sharp;
    lines and letters grow with ``side``.
    """
    text = max(FONT_SIZE, side // 50)
    scale = side / max(item.image.size)
    tile = item.image.convert("RGB").resize([max(1, round(n * scale)) for n in item.image.size])
    predictions = sorted(item.predictions, key=lambda p: p[2])
    boxes = [
        *((box, label, TRUTH, False) for box, label in item.truth),
        *((box, f"{label} {score:.2f}", PREDICTION, True) for box, label, score in predictions),
        *((box, label, color, True) for box, label, color in item.others),
    ]
    scaled = [([v * scale for v in box], *rest) for box, *rest in boxes]
    draw = ImageDraw.Draw(tile)
    for (x0, y0, x1, y1), _, color, _ in scaled:
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=color, width=text // 6)
    taken: list[tuple[float, ...]] = []
    for box, label, color, above in reversed(scaled):
        _label(draw, box, printable(label), color, text, above, taken)
    return tile


def _label(
    draw: ImageDraw.ImageDraw,
    box: list[float],
    label: str,
    color: str,
    text: int,
    above: bool,
    taken: list[tuple[float, ...]],
) -> None:
    """Draw a label on a coloured plate at its box, inside the image, where no plate in ``taken`` is
    if there is such a place, and add the plate to them.

    ``text``: height of the letters in pixels.
    """
    font = letters(text)  # PIL measures single lines only
    width, height = font.getlength(label) + 4, text + text // 4
    x0, y0, x1, y1 = box
    rows = [y0 - height, y1, y0, y1 - height] if above else [y1, y0 - height, y1 - height, y0]
    rows += [y for n in range(1, 5) for y in (y0 - (n + 1) * height, y1 + n * height)]
    limits = draw.im.size[0] - width, draw.im.size[1] - height
    corners = [(x, y) for x in (x0, x1 - width, x1) for y in rows]
    inside = [tuple(max(0, min(*pair)) for pair in zip(c, limits, strict=True)) for c in corners]
    plates = [(x, y, x + width, y + height) for x, y in inside]
    plate = next((p for p in plates if not any(_overlap(p, q) for q in taken)), plates[0])
    taken.append(plate)
    draw.rectangle(plate, fill=color)
    draw.text((plate[0] + 2, plate[1] + height / 2), label, TEXT, font, anchor="lm")


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(first[i] < second[i + 2] and second[i] < first[i + 2] for i in (0, 1))
