from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from detrex.data.coco_format import read_coco
from detrex.data.formats import read_layout
from detrex.utils.errors import InputError
from detrex.utils.images import image_size
from tests.data import layouts


def boxes_by_image(split, path: Path) -> dict:
    """File stem -> sorted (class, x, y, width, height), as training reads them."""
    records, categories = read_coco(str(split.saved(path)), str(split.images))
    boxes = {}
    for record in records:
        stem = Path(record["file_name"]).stem
        assert (record["width"], record["height"]) == layouts.SIZES[stem]
        boxes[stem] = sorted(
            (a["category_id"], x0, y0, x1 - x0, y1 - y0)
            for a in record["annotations"]
            for x0, y0, x1, y1 in [a["bbox"]]
        )
    assert list(categories.values()) == layouts.CLASSES
    return boxes


@pytest.mark.parametrize("layout", layouts.WRITERS)
def test_every_layout_gives_the_same_images_and_boxes(tmp_path, layout):
    data = tmp_path / "data"
    data.mkdir()
    layouts.WRITERS[layout](data)
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    name, splits = read_layout(data)
    assert name == layout and list(splits) == ["train", "val"]
    for split, names in layouts.SPLITS.items():
        expected = {n: [pytest.approx(box, abs=0.002) for box in layouts.BOXES[n]] for n in names}
        if layout == "Open Images":  # lists no images without boxes
            expected.pop("c", None)
        assert boxes_by_image(splits[split], tmp_path / f"{split}.json") == expected
    assert before == {path: path.stat().st_mtime_ns for path in data.rglob("*")}


@pytest.mark.parametrize("jsons", ["{}.json", "annotations/instances_{}2017.json"])
@pytest.mark.parametrize("folders", ["{}", "images/{}2017"])
def test_splits_that_number_their_images_alike_keep_their_folders(tmp_path, jsons, folders):
    for split in ("train", "val"):
        layouts.write_image(tmp_path / folders.format(split) / "a.jpg", layouts.SIZES["a"])
        path = tmp_path / jsons.format(split)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(layouts.coco_content(["a"])))
    splits = read_layout(tmp_path)[1]
    for split in ("train", "val"):
        assert splits[split].images == tmp_path / folders.format(split)


def test_what_open_images_and_objects365_leave_out_is_said(tmp_path):
    stated = {"Open Images": "gone.jpg", "Objects365": "images/v2/patch16/gone.jpg"}
    for layout, missing in stated.items():
        data = tmp_path / layout
        data.mkdir()
        layouts.WRITERS[layout](data)
        train = read_layout(data)[1]["train"]
        assert train.problems["images that are missing, left out"] == [missing]
    groups = [a["iscrowd"] for a in read_layout(tmp_path / "Open Images")[1]["train"].annotations]
    assert groups == [0, 1, 0]  # the crow's box is one around a group


def test_crowdhuman_has_people_and_what_to_ignore(tmp_path):
    layouts.write_crowdhuman(tmp_path)
    name, splits = read_layout(tmp_path)
    assert name == "CrowdHuman" and list(splits) == ["train", "val"]
    train = splits["train"]
    assert [c["name"] for c in train.categories] == ["person"]
    boxes = [(a["image_id"], a["bbox"], a["iscrowd"]) for a in train.annotations]
    assert boxes == [
        (1, [4, 3, 10, 12], 0),
        (1, [20, 0, 20, 30], 0),
        (1, [1, 2, 3, 4], 1),
        (1, [-5, 2, 9, 4], 1),
        (2, [3, 4, 6, 8], 0),
    ]
    assert train.problems["images that are missing, left out"] == ["gone.jpg"]
    (tmp_path / "annotation_val.odgt").write_text('{"ID": "d", "gtboxes": [{"tag": "person"}]}')
    with pytest.raises(InputError, match=r"annotation_val\.odgt: line 1: KeyError\('fbox'\)"):
        read_layout(tmp_path)


def test_voc_without_a_test_set_keeps_train_and_val(tmp_path):
    layouts.write_voc(tmp_path)
    _, splits = read_layout(tmp_path / "VOC2012")
    names = {s: [i["file_name"] for i in part.image_entries] for s, part in splits.items()}
    assert names == {"train": ["JPEGImages/b.jpg"], "val": ["JPEGImages/c.jpg"]}


def test_xml_files_beside_the_images(tmp_path):
    for folder, name in (("train", "a"), ("valid", "d")):
        layouts.write_image(tmp_path / folder / f"{name}.jpg", layouts.SIZES[name])
        (tmp_path / folder / f"{name}.xml").write_text(layouts.voc_xml(name))
    _, splits = read_layout(tmp_path)
    assert [len(splits[s].annotations) for s in ("train", "val")] == [2, 1]
    assert splits["val"].annotations[0]["bbox"] == [5, 5, 10, 10]


def test_odd_xml_files_are_named_and_left_out(tmp_path):
    layouts.write_voc(tmp_path)
    folder = tmp_path / "VOC2012/Annotations"
    (folder / "b.xml").write_text("<annotation><object>")
    wrong = layouts.voc_xml("c").replace("<width>60</width>", "<width>20</width>")
    wrong = wrong.replace("</annotation>", "<object><name>ant</name></object></annotation>")
    (folder / "c.xml").write_text(wrong)
    problems = read_layout(tmp_path)[1]["train"].problems
    assert problems == {
        "XML files that do not parse, left out": [
            f"{folder / 'b.xml'}: no element found: line 1, column 20"
        ],
        "sizes that are not the image's, corrected": [
            "VOC2012/JPEGImages/c.jpg: 20x20, the file 60x20"
        ],
        "objects without a name or a box, left out": [
            f"{folder / 'c.xml'}: object 1: no bndbox, only name"
        ],
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 0.5 0.5 0.5 0.5 0.93", [10, 7.5, 20, 15]),  # with a score
        ("1 0.1 0.2 0.5 0.2 0.3 0.8", [4, 6, 16, 18]),  # a polygon
        ("1.0 0.5 0.5 2 2", [-20, -15, 80, 60]),  # sticks out: kept, and reported later
        ("3 0.5 0.5 0.5 0.5", "class 3, there are 3"),
        ("0 0.5 0.5 0.5", "4 values"),
        ("0 0.5 nan 0.5 0.5", "'nan' is not a usable number"),
        ("0 0_1 0.5 0.5 0.5", "'0_1' is not a usable number"),
        ("ant 0.5 0.5 0.5 0.5", "'ant' is not a usable number"),
    ],
)
def test_yolo_lines(tmp_path, line, expected):
    layouts.write_yolo(tmp_path)
    labels = tmp_path / "labels/train/a.txt"
    labels.write_text(f"\n{line}\n")
    train = read_layout(tmp_path)[1]["train"]
    boxes = [a["bbox"] for a in train.annotations if a["image_id"] == 1]
    if isinstance(expected, list):
        assert boxes == [expected]
    else:
        (place,) = train.problems["lines that are not class, x, y, width, height, left out"]
        assert place == f"{labels}:2: {expected}" and boxes == []


def test_files_that_are_not_utf_8_and_open_images_rows_that_are_cut_are_named(tmp_path):
    layouts.write_yolo(tmp_path / "yolo")
    labels = tmp_path / "yolo/labels/train/a.txt"
    labels.write_bytes(b"0 0.5 0.5 0.5 0.5\n\xff\xfe\n")
    train = read_layout(tmp_path / "yolo")[1]["train"]
    (place,) = train.problems["lines that are not class, x, y, width, height, left out"]
    assert place.startswith(f"{labels}:2: ")
    (tmp_path / "open").mkdir()
    layouts.write_open_images(tmp_path / "open")
    file = tmp_path / "open/validation-annotations-bbox.csv"
    file.write_text(file.read_text() + "d,xclick,/m/00,1,0.5\n")
    with pytest.raises(InputError, match="validation-annotations-bbox.csv: line 3: "):
        read_layout(tmp_path / "open")


@pytest.mark.parametrize("listing", [False, True])
def test_yolo_with_a_path_named_classes_and_a_list_of_files(tmp_path, listing):
    layouts.write_yolo(tmp_path / "set")
    (tmp_path / "set/data.yaml").unlink()
    train = "train.txt" if listing else "images/train"
    (tmp_path / "set/train.txt").write_text("./images/train/b.jpg\nimages/train/a.jpg\n")
    names = "{0: ant, 1: bee, 2: crow}"
    text = f"path: set\ntrain: {train}\nvalid: ../images/val\nnames: {names}\n"
    (tmp_path / "birds.yaml").write_text(text)
    name, splits = read_layout(tmp_path / "birds.yaml")
    assert name == "YOLO" and len(splits["train"].annotations) == 3
    assert len(splits["train"].image_entries) == (2 if listing else 3)
    assert [c["name"] for c in splits["val"].categories] == layouts.CLASSES


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
def test_sizes_are_those_of_the_upright_image(tmp_path, ending):
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    image.save(tmp_path / f"plain.{ending}")
    exif[274] = 6  # a quarter turn
    image.save(tmp_path / f"turned.{ending}", exif=exif)
    assert image_size(tmp_path / f"plain.{ending}") == (40, 30)
    assert image_size(tmp_path / f"turned.{ending}") == (30, 40)


def test_a_tenth_is_held_out_where_there_is_no_validation_split(tmp_path):
    content = layouts.coco_content(["a"])
    first = content["images"][0]
    content["images"] = [{**first, "id": i, "file_name": f"{i}.jpg"} for i in range(30)]
    content["annotations"] = [
        {**content["annotations"][0], "id": i, "image_id": i} for i in range(30)
    ]
    for i in range(29):  # the last one is missing
        layouts.write_image(tmp_path / f"{i}.jpg", layouts.SIZES["a"])
    path = tmp_path / "data.json"
    path.write_text(json.dumps(content))
    splits = [read_layout(path)[1] for _ in range(2)]
    ids = [{split: [*p.names()] for split, p in s.items()} for s in splits]
    assert ids[0] == ids[1] and len(ids[0]["val"]) == 3
    assert sorted(ids[0]["train"] + ids[0]["val"]) == list(range(29))
    assert splits[0]["train"].problems == {"images that are missing, left out": ["29.jpg"]}
    for part in splits[0].values():
        content = part.content()
        assert [image["id"] for image in content["images"]] == sorted(part.names())
        assert {a["image_id"] for a in content["annotations"]} == part.names().keys()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "annotations/instances_val2017.json").unlink(), None),
        (lambda d: shutil.rmtree(d / "train2017"), "not near it; give --images FOLDER.*a.jpg is"),
        (
            lambda d: [p.unlink() for p in d.glob("*/*.json")],
            "none of Objects365, CrowdHuman, Open Images",
        ),
        (lambda d: [p.unlink() for p in d.glob("*/*.json")], "give their JSON .* --images "),
        (
            lambda d: (d / "train.json").write_text(json.dumps(layouts.coco_content(["a"]))),
            None,  # not COCO's own: instances_*.json count
        ),
        (
            lambda d: (d / "instances_train.json").write_text(
                json.dumps(layouts.coco_content(["a"]))
            ),
            "two JSONs for train: .*instances_train2017.json and .*; give one of them",
        ),
    ],
)
def test_folders_that_contradict_themselves(tmp_path, spoil, message):
    layouts.write_coco(tmp_path)
    spoil(tmp_path)
    if message is None:
        assert list(read_layout(tmp_path)[1]) == ["train", "val"]
        return
    with pytest.raises(InputError, match=message) as error:
        read_layout(tmp_path)
    assert "\n" not in str(error.value)


def test_missing_images_of_voc_are_named_with_their_xml(tmp_path):
    for name in ("a", "b"):
        layouts.write_image(tmp_path / f"{name}.jpg", layouts.SIZES[name])
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.xml").write_text(layouts.voc_xml(name))
    splits = read_layout(tmp_path)[1]
    where = f"{tmp_path}/c.xml: c.jpg"
    assert splits["train"].problems == {"images that are missing, left out": [where]}


def test_a_folder_around_the_data_is_looked_into(tmp_path):
    layouts.write_voc(tmp_path / "files/VOCdevkit")
    (tmp_path / "files/a").mkdir()
    name, splits = read_layout(tmp_path / "files")
    assert name == "PASCAL VOC" and len(splits["train"].image_entries) == 3
    assert splits["val"].origin == "from VOCdevkit/VOC2007/ImageSets/Main/test.txt"
