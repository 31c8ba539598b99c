"""A page of images with their true and predicted boxes, to look at."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write

TRUTH, PREDICTION, PAPER, TEXT = "#2ecc40", "#ff851b", "white", "black"
MARGIN, HEADER, FONT_SIZE = 6, 30, 13


@dataclass
class SheetItem:
    """One tile: an RGB image, true boxes (xyxy pixels, label), predicted ones with a score."""

    image: Image.Image
    truth: Sequence[tuple[Sequence[float], str]] = ()
    predictions: Sequence[tuple[Sequence[float], str, float]] = ()
    title: str = field(default="")


def contact_sheet(
    items: Iterable[SheetItem],
    path: str | os.PathLike,
    columns: int = 4,
    tile: int = 320,
    title: str = "",
) -> None:
    """Write the items as a PNG grid to ``path``, with a line of title and legend on top.

    ``tile`` is the side of the square an image is fitted into, pixels. Truth is green with its
    label under the box, predictions are orange with label and score above. Raises InputError
    when there is nothing to show.
    """
    items = list(items)
    if not items:
        raise InputError(f"{path}: no image to put on the contact sheet")
    columns = min(columns, len(items))
    rows = -(-len(items) // columns)
    cell = tile + MARGIN, tile + MARGIN + FONT_SIZE + 4
    sheet = Image.new("RGB", (columns * cell[0] + MARGIN, HEADER + rows * cell[1]), PAPER)
    _header(ImageDraw.Draw(sheet), title)
    for i, item in enumerate(items):
        corner = MARGIN + i % columns * cell[0], HEADER + i // columns * cell[1]
        sheet.paste(_tile(item, tile), corner)
        below = corner[0], corner[1] + tile + 1
        ImageDraw.Draw(sheet).text(below, item.title, TEXT, ImageFont.load_default(FONT_SIZE))
    with atomic_write(path, "wb") as stream:
        sheet.save(stream, format="PNG")


def _header(draw: ImageDraw.ImageDraw, title: str) -> None:
    """The legend, then the title: a narrow sheet cuts the title, never the legend."""
    font = ImageFont.load_default(FONT_SIZE + 2)
    x = MARGIN
    for color, meaning in ((TRUTH, "ground truth"), (PREDICTION, "prediction, score")):
        draw.rectangle((x, 9, x + 16, 21), outline=color, width=3)
        draw.text((x + 22, 15), meaning, TEXT, font, anchor="lm")
        x += 22 + int(font.getlength(meaning)) + 16
    draw.text((x, 15), title, TEXT, font, anchor="lm")


def _tile(item: SheetItem, side: int) -> Image.Image:
    """The image fitted into a square, boxes drawn at the final size so that lines stay sharp."""
    scale = side / max(item.image.size)
    size = [max(1, round(n * scale)) for n in item.image.size]
    tile = Image.new("RGB", (side, side), "#dddddd")
    tile.paste(item.image.convert("RGB").resize(size), (0, 0))
    draw = ImageDraw.Draw(tile)
    for box, label in item.truth:
        _box(draw, [v * scale for v in box], TRUTH, label, side, above=False)
    for box, label, score in sorted(item.predictions, key=lambda p: p[2]):
        _box(draw, [v * scale for v in box], PREDICTION, f"{label} {score:.2f}", side, above=True)
    return tile


def _box(draw, box: list[float], color: str, label: str, side: int, above: bool) -> None:
    """A box with its label on a coloured plate, shifted into the tile where it would stick out."""
    x0, y0, x1, y1 = box
    draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=color, width=2)
    font = ImageFont.load_default(FONT_SIZE)
    width, height = font.getlength(label) + 4, FONT_SIZE + 3
    left = min(max(x0, 0), side - width)
    top = min(max(y0 - height if above else y1, 0), side - height)
    draw.rectangle((left, top, left + width, top + height), fill=color)
    draw.text((left + 2, top + height / 2), label, TEXT, font, anchor="lm")


def coco_items(
    annotation_file: str | os.PathLike,
    images: str | os.PathLike,
    results: str | os.PathLike | None = None,
    count: int = 16,
    threshold: float = 0.3,
) -> list[SheetItem]:
    """Tiles for ``count`` images spread evenly over a COCO-format data set.

    Args:
        annotation_file: COCO JSON with images, annotations and categories.
        images: folder its file names are relative to.
        results: detections in COCO's results format (JSON); none when not given.
        threshold: least score of a detection to be shown.

    Raises InputError for files that are missing, not JSON, or lack what is needed.
    """
    coco = _read_json(annotation_file)
    detections = [] if results is None else _read_json(results)
    try:
        names = {c["id"]: c["name"] for c in coco["categories"]}
        truth, predictions = {}, {}
        for a in coco["annotations"]:
            entry = _corners(a["bbox"]), names[a["category_id"]]
            truth.setdefault(a["image_id"], []).append(entry)
        for d in detections:
            if d["score"] >= threshold:
                entry = _corners(d["bbox"]), names[d["category_id"]], d["score"]
                predictions.setdefault(d["image_id"], []).append(entry)
        step = max(1, len(coco["images"]) / max(1, count))
        chosen = [coco["images"][int(i * step)] for i in range(min(count, len(coco["images"])))]
        return [
            SheetItem(
                open_image(Path(images) / image["file_name"]),
                truth.get(image["id"], ()),
                predictions.get(image["id"], ()),
                image["file_name"],
            )
            for image in chosen
        ]
    except (KeyError, TypeError) as error:
        files = annotation_file if results is None else f"{annotation_file} with {results}"
        raise InputError(f"{files}: not COCO data, or of different categories: {error}") from None


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x, y, x + w, y + h


def _read_json(path: str | os.PathLike):
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from None


def open_image(path: str | os.PathLike) -> Image.Image:
    """The image in RGB, turned as its EXIF data says. Raises InputError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # what PIL's decoders raise
        raise InputError(f"{path}: cannot be read as an image: {error}") from None
