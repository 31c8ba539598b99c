"""One CSV with a row a box, as it comes from many tools.

Read are a header with the usual names of columns, among them TensorFlow's
``filename,width,height,class,xmin,ymin,xmax,ymax``, and keras-retinanet's rows without a header,
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
from .split import Split
from .text import is_number, number, open_text

CSV_ENDINGS = ".csv", ".tsv"
# What columns are called, without case, blanks and punctuation; the first that is there.
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
    """Where a row has what; ``sides``: width and height are stated, no second corner."""

    image: int
    label: int
    box: list[int]
    sides: bool
    size: list[int]  # of the image; may be empty
    split: int
    header: bool
    delimiter: str


def is_box_csv(files: Files) -> bool:
    """Whether a CSV has the columns of boxes."""
    columns = {path: _columns(files.root / path) for path in files.ending(*CSV_ENDINGS)}
    files.reasons += [
        f"{files.root / path}: no columns for image, class and box corners"
        for path, value in columns.items()
        if value is None
    ]
    return any(columns.values())


def read_box_csv(files: Files, images: Path | None = None) -> dict[str, Split]:
    """Read the CSVs of a folder, or the one given; which split each is of, its name says.

    Images are found by their names. A row without a box states an image without objects. Classes
    are in alphabetical order. ``images``: their folder, if it is not near.

    Raises:
        InputError: two CSVs of a split, or a given one that has no such columns.
    """
    paths = [files.given.name] if files.given else files.ending(*CSV_ENDINGS)
    by_split: dict[str, str] = {}
    for path in sorted(paths, key=lambda p: (split_of(p) is None, p)):
        if _columns(files.root / path) is None:
            continue
        other = by_split.setdefault("train" if files.given else split_of(path) or "train", path)
        if other != path and split_of(path):
            raise InputError(f"{files.root}: two CSVs, {other} and {path}; give one of them")
    if not by_split:
        raise InputError(f"{files.given}: no columns for image, class and box corners")
    rows = {path: list(_rows(files.use(path))) for path in by_split.values()}
    classes = sorted({row.label for part in rows.values() for row in part} - {""})
    near = Files(images) if images else files
    splits: dict[str, Split] = {}
    for name, path in by_split.items():
        files.note_encoding(path)
        source = f"{name}/{path}" if split_of(path) else path
        paths, _ = near.pair({row.image: [row.image] for row in rows[path]}, source)
        said = name if split_of(path) else None
        for part, group in _by_row(near, said, rows[path], paths).items():
            split = splits.setdefault(part, Split(near.root, classes, origin=_origin(files, path)))
            _add(split, near, files.root / path, group, paths)
    return splits


def _by_row(
    files: Files, said: str | None, rows: Sequence[_Row], paths: Mapping[str, Path]
) -> dict[str, list[_Row]]:
    """Rows by the split that a column says; else the CSV, in ``said``; else its image's folder."""
    groups: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        folder = files.folder(paths[row.image]) if row.image in paths else ""
        groups[split_of(row.split) or said or split_of(folder) or "train"].append(row)
    return groups


def _origin(files: Files, path: str) -> str:
    if _columns(files.root / path).label < 0:
        return f"from {path}, which has no column of classes: all are called object"
    return f"from {path}"


class _Row(NamedTuple):
    line: int
    image: str
    label: str
    size: list[str]
    box: list[str]
    sides: bool
    split: str


def _add(
    split: Split, files: Files, file: Path, rows: Sequence[_Row], paths: Mapping[str, Path]
) -> None:
    entries: dict[str, dict | None] = {}
    parts = _are_parts(rows)
    for row in rows:
        if row.image not in entries:
            path = paths.get(row.image)
            if path is None:
                where = f"{file}:{row.line}: {row.image}"
                split.problems["images that are missing, left out"].append(where)
            entries[row.image] = path and split.add_image(files.use(path), _size(row.size))
        if (entry := entries[row.image]) and any(row.box):
            try:
                scale = (entry["width"], entry["height"]) * 2 if parts else (1,) * 4
                split.add_box(entry, split.category_id(row.label), _corners(row, scale))
            except ValueError as error:
                kind = "rows without a class or a box, left out"
                split.problems[kind].append(f"{file}:{row.line}: {error}")


def _size(texts: list[str]) -> tuple[int, int] | None:
    try:
        width, height = (int(number(text)) for text in texts)
    except ValueError:
        return None
    return width, height


def _corners(row: _Row, scale: Sequence[float]) -> list[float]:
    if len(row.box) != 4:
        raise ValueError(f"a box of {len(row.box)} numbers")
    x0, y0, x1, y1 = (number(text) * factor for text, factor in zip(row.box, scale, strict=True))
    return [x0, y0, x0 + x1, y0 + y1] if row.sides else [x0, y0, x1, y1]


def _are_parts(rows: Sequence[_Row]) -> bool:
    """Whether coordinates are parts of the image's sides: none is above 1, and some are broken."""
    values = [float(text) for row in rows for text in row.box if is_number(text)]
    return all(0 <= v <= 1 for v in values) and any(v % 1 for v in values)


def _box(cells: list[str], columns: _Columns) -> list[str]:
    """The four cells of a box, or what stands in one: "[834.0, 222.0, 56.0, 36.0]"."""
    whole = cells[columns.box[0]]
    if len(columns.box) > 1 or not whole:
        # Spreadsheets that separate columns by other marks write 1,5 for 1.5.
        comma = "," if columns.delimiter == "," else "."
        return [cells[i].replace(",", comma) for i in columns.box]
    return whole.strip("[]() ").replace(",", " ").split()


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


def _columns(file: Path) -> _Columns | None:
    """The columns by the first row; None if it has none of boxes."""
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
    """Whether a line tells spreadsheets the mark between columns: "sep=;"."""
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
    """Without a header: keras-retinanet's order, or Make Sense's."""
    if len(cells) < 6 or not (all(map(is_number, cells[1:5])) or not any(cells[1:5])):
        return None
    is_image = [os.path.splitext(cell)[1].lower() in ENDINGS for cell in cells]
    if is_image[0]:
        return _Columns(0, 5, [1, 2, 3, 4], False, [], -1, False, delimiter)
    if is_image[5] and len(cells) == 8:
        return _Columns(5, 0, [1, 2, 3, 4], True, [6, 7], -1, False, delimiter)
    return None
