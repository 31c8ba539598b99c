"""Damaged and half-known data: nothing is taken for another thing, and the reason is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from detrex.data.formats import read_layout
from detrex.data.formats.files import Files
from tests.data import layouts
from tests.data.test_layout_variants import check_content, voc, write, yolo

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"


def test_a_mask_beside_the_annotations_is_not_the_image(tmp_path):
    """As in the Oxford pets: annotations/trimaps/a.png is nearer to the XML than images/a.jpg."""
    voc(tmp_path, "images", "annotations/xmls", stated="{}.jpg")
    for name in "abcd":
        layouts.write_image(tmp_path / f"annotations/trimaps/{name}.png", layouts.SIZES[name])
    for split, file in (("train", "trainval"), ("val", "test")):
        lines = [f"{name} 1 1 1\n" for name in layouts.SPLITS[split]]
        write(tmp_path / f"annotations/{file}.txt", "".join(lines))
    splits = read_layout(tmp_path)[1]
    check_content(splits)
    names = [i["file_name"] for part in splits.values() for i in part.image_entries]
    assert names == [f"images/{name}.jpg" for name in "abcd"]


@pytest.mark.parametrize(
    "address",
    ["https://h.org/d/a%20b.jpg?sig=x/y.png", "/data/?d=images/a b.JPG", "?d=images%2Fa%20b.png"],
)
def test_images_named_by_addresses(tmp_path, address):
    write(tmp_path / "images/a b.jpg", "")
    assert Files(tmp_path).image(address) == tmp_path / "images/a b.jpg"


def test_empty_label_files_may_come_first(tmp_path):
    yolo(tmp_path, "images/{split}", "labels/{split}")
    for number in range(60):
        layouts.write_image(tmp_path / f"images/train/0{number}.jpg", (9, 9))
        write(tmp_path / f"labels/train/0{number}.txt", "")
    name, splits = read_layout(tmp_path)
    assert name == "YOLO" and len(splits["train"].image_entries) == 63


def names_in_quotes(root: Path) -> None:
    write(root / "data.yaml", "train: train\nval: val\nnc: 4\nnames: \"['ant', 'bee', 'crow']\"\n")


def lists_of_autosplit(root: Path) -> None:
    write(root / "classes.txt", "ant\nbee\ncrow\n")
    for split, names in layouts.SPLITS.items():
        lines = [f"./{split}/{name}.jpg\n" for name in names]
        write(root / f"autosplit_{split}.txt", "".join(lines))


@pytest.mark.parametrize("write_config", [names_in_quotes, lists_of_autosplit])
def test_what_ultralytics_takes(tmp_path, write_config):
    yolo(tmp_path, "{split}", "{split}")
    write_config(tmp_path)
    splits = read_layout(tmp_path)[1]
    check_content(splits)
    counts = splits["train"].problems.get("numbers of classes (nc) that are not the names'", [])
    assert [text.rsplit("/", 1)[1] for text in counts] == (
        ["data.yaml: 4, there are 3 names"] if write_config is names_in_quotes else []
    )


def broken_image(root: Path) -> None:
    yolo(root, "{split}", "{split}")
    write(root / "train/a.jpg", LFS)


def pixels(root: Path) -> None:
    yolo(root, "{split}", "{split}")
    write(root / "train/a.txt", "0 32 24 10 10\n0 0.5 -0.1 0.2 0.4\n1 1 1 9 1 9 9\n")


def turned_boxes(root: Path) -> None:
    voc(root, "{split}", "{split}")
    box = "<object><name>ant</name><robndbox><cx>9</cx></robndbox></object>"
    write(root / "train/a.xml", f"<annotation>{box}</annotation>")


def ampersand(root: Path) -> None:
    voc(root, "{split}", "{split}")
    write(root / "train/a.xml", "<annotation><folder>cats & dogs</folder></annotation>")


@pytest.mark.parametrize(
    ("write_set", "problems"),
    [
        (broken_image, {"images that do not open, left out": ["a pointer of Git LFS"]}),
        (
            pixels,
            {
                "lines that are not class, x, y, width, height, left out": [
                    "a.txt:1: 32 is a pixel",
                    "a.txt:3: 9 is a pixel",
                ]
            },
        ),
        (
            turned_boxes,
            {"objects without a name or a box, left out": ["no bndbox, only name, robndbox"]},
        ),
        (ampersand, {"XML files that do not parse, left out": ["line 1, column 2"]}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_left_out_has_its_reason(tmp_path, write_set, problems):
    write_set(tmp_path)
    notes = read_layout(tmp_path)[1]["train"].problems
    for kind, reasons in problems.items():
        assert len(notes[kind]) == len(reasons)
        assert all(r in where for r, where in zip(reasons, notes[kind], strict=True)), notes[kind]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("boxes.csv", "sep=;\r\n{}"),
        ("boxes.csv", "\r\n{}"),
        ("boxes.tsv", "{}"),
    ],
)
def test_csv_as_spreadsheets_write_it(tmp_path, name, form):
    """A line that says the mark, other marks, and 9,5 for 9.5."""
    mark = "\t" if name.endswith("tsv") else ";"
    layouts.write_image(tmp_path / "a.jpg", (40, 30))
    layouts.write_image(tmp_path / "b.jpg", (40, 30))
    rows = "filename;class;xmin;ymin;xmax;ymax\r\na.jpg;ant;1,5;2;9,25;8\r\nb.jpg;ant;1;2;3;4\r\n"
    write(tmp_path / name, form.format(rows.replace(";", mark)), "utf-8-sig")
    splits = read_layout(tmp_path / name)[1]
    boxes = [a["bbox"] for part in splits.values() for a in part.annotations]
    assert sorted(boxes) == [[1, 2, 2, 2], [1.5, 2, 7.75, 6]]
    assert not any(splits["train"].problems.values())


def test_names_that_are_not_utf_8_are_named(tmp_path):
    yolo(tmp_path, "{split}", "{split}")
    for ending in (b".jpg", b".txt"):
        folder = bytes(tmp_path / "train")
        os.rename(folder + b"/a" + ending, folder + b"/gr\xf6n" + ending)
    train = read_layout(tmp_path)[1]["train"]
    (where,) = train.problems["images whose names are not UTF-8, left out: rename them"]
    assert where == "gr\udcf6n.jpg" and len(train.image_entries) == 2


def test_a_json_alone_whose_names_are_whole_paths(tmp_path):
    layouts.write_images({split: tmp_path / "images" for split in layouts.SPLITS})
    content = layouts.coco_content(["a", "b", "c"], f"{tmp_path}/images/{{}}.jpg")
    write(tmp_path / "annotations/all.json", json.dumps(content))
    splits = read_layout(tmp_path / "annotations/all.json")[1].values()
    assert sorted(Path(name).name for part in splits for name in part.names().values()) == [
        "a.jpg", "b.jpg", "c.jpg",
    ]  # fmt: skip
