"""What the readers of all layouts share: text, numbers, names of splits, and what they say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from detrex.data.formats import read_layout
from detrex.data.formats.files import Files, set_name, split_of
from detrex.data.formats.text import number, read_lines
from tests.data import layouts
from tests.data.test_layout_variants import voc, write, yolo

SHAPE = {"label": "ant", "shape_type": "rectangle", "points": [[1, 2], [9, 8]]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_lines_of_text_in_any_encoding(tmp_path, encoding):
    path = tmp_path / "classes.txt"
    path.write_bytes("caf\u00e9\r\n\r\n  b\u00e9e \rcrow\n".encode(encoding))
    assert read_lines(path) == [(1, "caf\u00e9"), (3, "b\u00e9e"), (4, "crow")]


def test_numbers():
    assert [number(x) for x in ("1.5", " -2e3 ", 7, 0.25)] == [1.5, -2000, 7, 0.25]
    for text in ("nan", "inf", "-1e400", "0_1", "", "ant", True, None, "1e9"):
        with pytest.raises(ValueError, match="is not a usable number"):
            number(text)


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("Train/a", "train"),
        ("images/VAL2017", "val"),
        ("validation/labels.json", "val"),
        ("trainImages", "train"),
        ("imagesTest", "test"),
        ("image_info_test-dev2017", "test"),
        ("train/test_labels", "test"),
        ("dev/annotations", "val"),
        ("trainval", "trainval"),
        ("retrained/value/testimony/constraints", None),
    ],
)
def test_splits_that_paths_name(path, split):
    assert split_of(path) == split


def test_lists_of_a_class_are_no_lists_of_a_split():
    names = ("Main/train.txt", "val_2007.txt", "TEST", "ant_train.txt", "default.txt")
    assert [set_name(name) for name in names] == ["train", "val", "test", None, None]


def test_the_image_that_is_meant(tmp_path):
    for name in ("train/img/0.jpg", "train/img/1.JPG", "val/img/1.jpg", "b/1.png", "b/x.y.jpeg"):
        write(tmp_path / name, "")
    files = Files(tmp_path)

    def meant(stated: str, source: str) -> str | None:
        path = files.image(stated, source)
        return path and str(path.relative_to(tmp_path))

    assert meant("1.jpg", "train/ann/1.xml") == "train/img/1.JPG"
    assert meant("C:\\val\\img\\1", "all.json") == "val/img/1.jpg"
    assert meant("1.png", "b/1.json") == "b/1.png" and meant("b/X.Y", "") == "b/x.y.jpeg"
    assert meant("x.y.jpg", "val/x.xml") == "b/x.y.jpeg" and meant("2.jpg", "") is None
    (tmp_path / "train/img/1.JPG").unlink()
    (tmp_path / "b/1.png").unlink()
    assert Files(tmp_path).image("1.jpg", "train/ann/1.xml") is None  # val's is another


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path / "all/1.jpg", "")
    (tmp_path / "set").mkdir()
    for name, target in {"train": "../all", "val": "../all", "round": "."}.items():
        os.symlink(target, tmp_path / "set" / name)
    os.symlink("..", tmp_path / "all/up")
    paths = Files(tmp_path / "set").paths
    assert {"train/1.jpg", "val/1.jpg"} <= {*paths} and not any("round" in path for path in paths)
    assert max(path.count("/") for path in paths) < 6


def test_outlines_in_xml(tmp_path):
    layouts.write_image(tmp_path / "a.jpg", (40, 30))
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((3, 4), (9, 5), (6, 20)))
    item = f"<object><name>ant</name><deleted>{{}}</deleted><polygon>{points}</polygon></object>"
    text = f"<annotation><filename>a</filename>{item.format(0)}{item.format(1)}</annotation>"
    write(tmp_path / "a.xml", text)
    train = read_layout(tmp_path)[1]["train"]
    assert [a["bbox"] for a in train.annotations] == [[3, 4, 6, 16]] and not train.problems


def test_files_that_nobody_reads_are_named(tmp_path):
    yolo(tmp_path, "images", "labels")
    write(tmp_path / "classes.txt", "ant\nbee\ncrow\n")
    for name in ("images/e.jpg", "other/f.jpg"):
        layouts.write_image(tmp_path / name, (9, 9))
    for name in ("images/g.heic", "README.txt", ".hidden/h.jpg", "__MACOSX/i.jpg"):
        write(tmp_path / name, "x")
    write(tmp_path / "labels/z.txt", "0 .5 .5 .1 .1")
    write(tmp_path / "old.json", '{"images": [], "categories": 1}')
    os.symlink("nowhere", tmp_path / "images/j.jpg")
    train = read_layout(tmp_path)[1]["train"]
    (old,) = (p for p in train.problems.pop("other files, not read") if p != "images/g.heic")
    assert "old.json: not a COCO file" in old
    assert train.problems == {
        "images without a label file, taken as without objects": ["e.jpg"],
        "label files without an image, left out": [str(tmp_path / "labels/z.txt")],
        "images in no split, left out": ["other/f.jpg"],
        "links to nothing, or no regular files": ["images/j.jpg"],
    }


def test_where_splits_are_from(tmp_path):
    yolo(tmp_path, "{split}", "{split}", {"train": "train", "val": "test"})
    train, val = read_layout(tmp_path)[1].values()
    assert train.origin == "from train/"
    assert val.origin == "from test/, as there is no validation split"
    (tmp_path / "valid").mkdir()
    for ending in ("jpg", "txt"):
        (tmp_path / f"train/a.{ending}").rename(tmp_path / f"valid/a.{ending}")
    train, val = read_layout(tmp_path)[1].values()
    assert val.origin == "from valid/"
    kind = "splits that are used neither for training nor for validation"
    assert train.problems[kind] == ["test, from test/"]
    for path in [*(tmp_path / "test").iterdir(), *(tmp_path / "valid").iterdir()]:
        path.unlink()
    train, val = read_layout(tmp_path)[1].values()
    assert train.origin == "from train/, without what is held out"
    assert val.origin == "a tenth of train, held out"


def test_a_single_image_stays_in_train(tmp_path):
    layouts.write_image(tmp_path / "a.jpg", (40, 30))
    write(tmp_path / "a.txt", "0 .5 .5 .1 .1")
    assert list(read_layout(tmp_path)[1]) == ["train"]


def test_yolo_believes_its_yaml(tmp_path):
    layouts.write_image(tmp_path / "images/a.jpg", (40, 30))
    write(tmp_path / "data.yaml", "train: images\nnames: [no, 007]\nkpt_shape: [2, 2]\n")
    lines = ("1 .5 .5 .2 .2 .1 .1 .3 .3", "0 .5 .5 .4 .4", "0 .5 .5 .4 .4 .1 .1")
    write(tmp_path / "labels/a.txt", "\n".join(lines))
    train = read_layout(tmp_path)[1]["train"]
    assert [c["name"] for c in train.categories] == ["no", "007"]
    assert [a["bbox"] for a in train.annotations] == [[16, 12, 8, 6], [12, 9, 16, 12]]
    ((place,),) = train.problems.values()
    assert place.endswith("a.txt:3: 7 values, with keypoints there are 9")


def test_labels_without_names_are_called_by_number(tmp_path):
    yolo(tmp_path, "images", "labels")
    train = read_layout(tmp_path)[1]["train"]
    assert [c["name"] for c in train.categories] == ["0", "1", "2"]
    assert train.problems == {"classes without names, called by their numbers": ["0", "1", "2"]}


def test_odd_shapes_and_rows_are_named(tmp_path):
    layouts.write_image(tmp_path / "a.jpg", (40, 30))
    shapes = [SHAPE, {**SHAPE, "points": [[1, 2], [float("nan"), 8]]}, {**SHAPE, "label": ""}]
    shapes += [{**SHAPE, "shape_type": "line"}, {**SHAPE, "points": [[1, 2]]}]
    write(tmp_path / "a.json", json.dumps({"shapes": shapes, "imagePath": "..\\x\\a.jpg"}))
    train = read_layout(tmp_path)[1]["train"]
    assert [a["bbox"] for a in train.annotations] == [[1, 2, 8, 6]]
    reasons = [p.split("shape ")[1] for p in train.problems.popitem()[1]]
    assert reasons == [
        "2: 'nan' is not a usable number",
        "3: no class",
        "4: line has no box",
        "5: rectangle of 1 points",
    ]
    csv = tmp_path / "boxes.csv"
    write(csv, 'path,label,bbox\na,ant,"[1, 2, 8, 6]"\na,,1 2 3 4\na,ant,1 2 3\nb,ant,1 2 3 4\n')
    train = read_layout(csv)[1]["train"]
    assert [a["bbox"] for a in train.annotations] == [[1, 2, 8, 6]]
    assert train.problems == {
        "images that are missing, left out": [f"{csv}:5: b"],
        "rows without a class or a box, left out": [
            f"{csv}:3: no class",
            f"{csv}:4: a box of 3 numbers",
        ],
    }


def test_boxes_of_a_csv_in_parts_of_the_image(tmp_path):
    layouts.write_image(tmp_path / "a.jpg", (40, 30))
    write(tmp_path / "boxes.csv", "image;name;xmin;ymin;xmax;ymax\na.jpg;ant;0.25;0;1;0.5\n")
    train = read_layout(tmp_path)[1]["train"]
    assert [a["bbox"] for a in train.annotations] == [[10, 0, 30, 15]]


def test_xml_in_an_encoding_that_the_parser_lacks(tmp_path):
    voc(tmp_path, ".", ".")
    declared = '<?xml version="1.0" encoding="gbk"?>' + layouts.voc_xml("a").replace(
        "ant", "\u8681"
    )
    write(tmp_path / "a.xml", declared, "gbk")
    write(tmp_path / "b.xml", layouts.voc_xml("b").replace("bee", "b\u00e9e"), "cp1252")
    train = read_layout(Path(tmp_path))[1]["train"]
    assert [c["name"] for c in train.categories] == ["ant", "b\u00e9e", "crow", "\u8681"]
    assert train.problems == {"files that are not UTF-8, read as Windows-1252": ["b.xml"]}
