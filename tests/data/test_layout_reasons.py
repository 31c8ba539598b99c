"""Damaged and half-known data: nothing is taken for another thing, and the reason is said."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from detrex.data.layouts import read_layout
from detrex.data.layouts.files import Files
from detrex.utils.errors import InputError
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
    found = read_layout(tmp_path)[1]["train"].problems
    for kind, reasons in problems.items():
        assert len(found[kind]) == len(reasons)
        assert all(r in where for r, where in zip(reasons, found[kind], strict=True)), found[kind]


def labels_with_commas(root: Path) -> None:
    layouts.write_image(root / "a.jpg", (9, 9))
    write(root / "a.txt", "1,2,3,4,1,0,0,0\n")


def images_of_other_data(root: Path) -> None:
    layouts.write_image(root.parent / "other/a.jpg", layouts.SIZES["a"])
    write(root / "a.json", json.dumps(layouts.coco_content(["a"])))


def no_file_names(root: Path) -> None:
    content = layouts.coco_content(["a"])
    del content["images"][0]["file_name"]
    write(root / "a.json", json.dumps(content))


def packed_json(root: Path) -> None:
    (root / "a.json").write_bytes(gzip.compress(b"{}"))


def lists_of_other_images(root: Path) -> None:
    voc(root, "images", "xml")
    write(root / "ImageSets/Main/train.txt", "x\ny\n")
    write(root / "ImageSets/Main/val.txt", "a\n")


def no_objects(root: Path) -> None:
    layouts.write_image(root / "a.jpg", (9, 9))
    write(root / "a.xml", "<annotation><filename>a.jpg</filename></annotation>")


BOX = {"label": "a", "coordinates": {"x": 1, "y": 1, "width": 1, "height": 1}}
FORMATS = {
    "CreateML": [{"image": "a", "annotations": []}, {"image": "b", "annotations": [BOX]}],
    "VGG Image Annotator": {"project": {}, "file": {}, "metadata": {}},
    "Label Studio": [{"image": "a", "label": [{"x": 1}], "annotation_id": 1}],
    "Datumaro": {"info": {}, "categories": {}, "items": []},
    "FiftyOne": {"samples": [{"filepath": "a"}]},
}


@pytest.mark.parametrize(
    ("write_set", "reason"),
    [
        (labels_with_commas, "a.txt: '1,2,3,4,1,0,0,0' is not class, x, y, width, height"),
        (images_of_other_data, "a.json: its images are not near it; give --images FOLDER"),
        (no_file_names, "a.json: images: id 97 has no 'file_name'"),
        (packed_json, "a.json: not a JSON file but compressed by gzip: unpack it"),
        (lambda root: write(root / "a.json", LFS), "a.json: not a JSON file but a Git LFS"),
        (lambda root: write(root / "a.zip", "PK"), "a.zip: unpack it"),
        (lambda root: write(root / "data.yaml", "train: a\nnames:\n\t- a\n"), "line 3: "),
        (lists_of_other_images, "2 names in lists without any file, left out: "),
        (no_objects, "train has no objects, and no classes by that"),
        *(
            (lambda root, c=content: write(root / "a.json", json.dumps(c)), f": {name}, which")
            for name, content in FORMATS.items()
        ),
    ],
)
def test_a_refusal_says_why(tmp_path, write_set, reason):
    data = tmp_path / "data"
    data.mkdir()
    write_set(data)
    with pytest.raises(InputError) as error:
        read_layout(data)
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).count("not a JSON file") <= 1


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
    parts = read_layout(tmp_path / "annotations/all.json")[1].values()
    assert sorted(Path(i["file_name"]).name for part in parts for i in part.image_entries) == [
        "a.jpg", "b.jpg", "c.jpg",
    ]  # fmt: skip


def test_a_folder_of_images_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder of images"):
        read_layout(tmp_path, tmp_path / "nowhere")
