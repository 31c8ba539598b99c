"""CSV files with one row per box, as many tools write them.

With a header of usual column names, among them TensorFlow's
``filename,width,height,class,xmin,ymin,xmax,ymax``, or without one in keras-retinanet's order,
``path,x1,y1,x2,y2,class``.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from detrex.utils.errors import InputError
from detrex.utils.images import ENDINGS

from .files import Files, split_of
from .split import Split, in_pixels
from .text import is_number, number, open_text

CSV_ENDINGS = ".csv", ".tsv"
# Names of columns, without case, blanks and punctuation; the first one that a CSV has counts.
_IMAGE = "filename imagename imagepath filepath imagefile imageid image img file path name".split()
_LABEL = (
    "class classname label labelname category categoryname objectclass objectname object".split()
)
_LABEL += ["type", "name"]
_SPLIT = "split set subset partition".split()
# x and y of the first corner; then of the second, or width and height
_CORNERS = ("xmin ymin xmax ymax", "x0 y0 x1 y1", "x1 y1 x2 y2", "left top right bottom")
_SIDES = ("x y w h", "x y width height", "left top width height", "xmin ymin width height")
_SIDES += ("bboxx bboxy bboxwidth bboxheight", "bboxx bboxy bboxw bboxh", "xmin ymin w h")


class _Columns(NamedTuple):
    """Indices of the columns, -1 for none; ``sides``: the box is a corner, width and height."""

    image: int
    label: int
    box: list[int]
    sides: bool
    size: list[int]  # of the image; [] without
    split: int
    header: bool
    delimiter: str


class _Row(NamedTuple):
    line: int
    image: str
    label: str
    size: list[str]
    box: list[str]
    sides: bool
    split: str


def is_box_csv(files: Files) -> bool:
    """Whether a CSV has columns for boxes."""
    columns = {path: _columns(files.root / path) for path in files.ending(*CSV_ENDINGS)}
    files.reasons += [
        f"{files.root / path}: no columns for image, class and box corners"
        for path, value in columns.items()
        if value is None
    ]
    return any(columns.values())


def _columns(file: Path) -> _Columns | None:
    """Return the columns, by the first row; None if there are none for boxes."""
    with open_text(file) as stream:
        lines = (line for line in stream if line.strip() and not _is_mark([line.strip()]))
        first = next(lines, "")
    try:
        rows = {mark: next(csv.reader([first], delimiter=mark)) for mark in ",;\t"}
    except csv.Error:
        return None
    delimiter, cells = max(rows.items(), key=lambda item: len(item[1]))
    cells = [cell.strip() for cell in cells]
    return _by_header(cells, delimiter) or _by_order(cells, delimiter)


def _is_mark(cells: list[str]) -> bool:
    """Whether a line tells spreadsheets what separates columns: "sep=;"."""
    return re.fullmatch("sep=.?", cells[0], re.IGNORECASE) is not None


def _by_header(cells: list[str], delimiter: str) -> _Columns | None:
    header = {re.sub(r"[\W_]", "", cell).lower(): i for i, cell in reversed([*enumerate(cells)])}
    forms = *_CORNERS, *_SIDES, "bbox"
    box = next((form for form in forms if header.keys() >= set(form.split())), None)
    image = next((name for name in _IMAGE if name in header), None)
    if box is None or image is None:
        return None
    label = next((name for name in _LABEL if name in header and name != image), None)
    free = header.keys() - set(box.split())
    size = next(
        (s for s in (["imagewidth", "imageheight"], ["width", "height"]) if free >= {*s}), []
    )
    return _Columns(
        image=header[image],
        label=-1 if label is None else header[label],
        box=[header[name] for name in box.split()],
        sides=box not in _CORNERS,
        size=[header[name] for name in size],
        split=next((header[name] for name in _SPLIT if name in header), -1),
        header=True,
        delimiter=delimiter,
    )


def _by_order(cells: list[str], delimiter: str) -> _Columns | None:
    """Return the columns of keras-retinanet or Make Sense, which write no header."""
    if len(cells) < 6 or not (all(map(is_number, cells[1:5])) or not any(cells[1:5])):
        return None
    is_image = [os.path.splitext(cell)[1].lower() in ENDINGS for cell in cells]
    if is_image[0]:
        return _Columns(0, 5, [1, 2, 3, 4], False, [], -1, False, delimiter)
    if is_image[5] and len(cells) == 8:
        return _Columns(5, 0, [1, 2, 3, 4], True, [6, 7], -1, False, delimiter)
    return None


def read_box_csv(files: Files, images: Path | None = None) -> dict[str, Split]:
    """Read the CSVs of a folder, whose names say their splits, or a single one.

    Images are matched by name. A row without a box states an image without objects. Classes are in
    alphabetical order.

    Args:
        files: the data.
        images: the folder of the images, if it is not near.

    Raises:
        InputError: two CSVs of a split, or a single one without columns for boxes.
    """
    paths = [files.single.name] if files.single else files.ending(*CSV_ENDINGS)
    by_split: dict[str, str] = {}
    for path in sorted(paths, key=lambda p: (split_of(p) is None, p)):
        if _columns(files.root / path) is None:
            continue
        other = by_split.setdefault("train" if files.single else split_of(path) or "train", path)
        if other != path and split_of(path):
            raise InputError(f"{files.root}: two CSVs, {other} and {path}; give one of them")
    if not by_split:
        raise InputError(f"{files.single}: no columns for image, class and box corners")
    rows = {path: list(_rows(files.use(path))) for path in by_split.values()}
    classes = sorted({row.label for group in rows.values() for row in group} - {""})
    near = Files(images) if images else files
    splits: dict[str, Split] = {}
    for name, path in by_split.items():
        files.note_encoding(path)
        source = f"{name}/{path}" if split_of(path) else path
        paths, _ = near.pair({row.image: [row.image] for row in rows[path]}, source)
        stated = name if split_of(path) else None
        origin = f"from {path}"
        if _columns(files.root / path).label < 0:
            origin += ", which has no column of classes: all are called object"
        for key, group in _by_split(near, stated, rows[path], paths).items():
            split = splits.setdefault(key, Split(near.root, classes, origin=origin))
            _add(split, near, files.root / path, group, paths)
    return splits


def _rows(file: Path) -> Iterator[_Row]:
    columns = _columns(file)
    with open_text(file) as stream:
        reader = csv.reader(stream, delimiter=columns.delimiter)
        rows = (cells for cells in _checked(reader, file) if any(cells) and not _is_mark(cells))
        for cells in islice(rows, int(columns.header), None):
            cells = [cell.strip() for cell in cells] + [""] * 20
            yield _Row(
                reader.line_num,
                cells[columns.image],
                cells[columns.label] if columns.label >= 0 else "object",
                [cells[i] for i in columns.size],
                _box(cells, columns),
                columns.sides,
                cells[columns.split] if columns.split >= 0 else "",
            )


def _checked(reader: Iterator[list[str]], file: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"{file}: line {reader.line_num}: {error}") from None


def _box(cells: list[str], columns: _Columns) -> list[str]:
    """Return the numbers of a box: four cells, or one such as "[834.0, 222.0, 56.0, 36.0]"."""
    whole = cells[columns.box[0]]
    if len(columns.box) > 1 or not whole:
        # Spreadsheets whose columns are separated by other marks than commas write 1,5 for 1.5.
        comma = "," if columns.delimiter == "," else "."
        return [cells[i].replace(",", comma) for i in columns.box]
    return whole.strip("[]() ").replace(",", " ").split()


def _by_split(
    files: Files, stated: str | None, rows: Sequence[_Row], paths: Mapping[str, Path]
) -> dict[str, list[_Row]]:
    """Return the rows of each split: the one that a column names, else the CSV's name (``stated``),
    else the folder of the row's image."""
    groups: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        folder = files.folder(paths[row.image]) if row.image in paths else ""
        groups[split_of(row.split) or stated or split_of(folder) or "train"].append(row)
    return groups


def _add(
    split: Split, files: Files, file: Path, rows: Sequence[_Row], paths: Mapping[str, Path]
) -> None:
    entries: dict[str, dict | None] = {}
    fractions = _are_fractions(rows)
    for row in rows:
        if row.image not in entries:
            path = paths.get(row.image)
            if path is None:
                split.note_missing_image(f"{file}:{row.line}: {row.image}", taken=False)
            entries[row.image] = path and split.add_image(files.use(path), _size(row.size))
        if (entry := entries[row.image]) and any(row.box):
            try:
                category_id, corners = split.category_id(row.label), _corners(row)
                split.add_box(
                    entry, category_id, in_pixels(entry, corners) if fractions else corners
                )
            except ValueError as error:
                kind = "rows without a class or a box, left out"
                split.problems[kind].append(f"{file}:{row.line}: {error}")


def _size(texts: list[str]) -> tuple[int, int] | None:
    try:
        width, height = (int(number(text)) for text in texts)
    except ValueError:
        return None
    return width, height


def _corners(row: _Row) -> list[float]:
    if len(row.box) != 4:
        raise ValueError(f"a box of {len(row.box)} numbers")
    x0, y0, x1, y1 = map(number, row.box)
    return [x0, y0, x0 + x1, y0 + y1] if row.sides else [x0, y0, x1, y1]


def _are_fractions(rows: Sequence[_Row]) -> bool:
    """Whether coordinates are fractions of the image's sides: in [0, 1], and not all 0 or 1."""
    values = [float(text) for row in rows for text in row.box if is_number(text)]
    return all(0 <= v <= 1 for v in values) and any(v % 1 for v in values)
