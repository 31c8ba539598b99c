from __future__ import annotations

import json
import logging
import os

import pytest
from detectron2.structures import BoxMode

from detrex.data import load_coco
from detrex.data.coco_format import read_coco
from detrex.utils.errors import InputError


def test_records_and_id_mapping(coco):
    data = read_coco(coco.save(), str(coco.images), training=True)
    assert list(data.categories.items()) == [(3, "ant"), (7, "bee"), (90, "crow")]
    assert [r["image_id"] for r in data.records] == [0, 10, 20, 30, 40, 50]
    classes = [[a["category_id"] for a in r["annotations"]] for r in data.records]
    assert classes == [[0], [1], [2], [0], [1], []]
    first = data.records[0]
    assert os.path.samefile(first["file_name"], coco.images / "sub0/0.jpg")
    assert (first["width"], first["height"]) == (40, 30)
    assert first["annotations"][0]["bbox"] == [2, 3, 12, 11]
    assert first["annotations"][0]["bbox_mode"] == BoxMode.XYXY_ABS


def test_bad_boxes_are_dropped_counted_and_named(coco, caplog):
    bad = [[1, 1, 0, 5], [1, 1, 5, -2], [40, 0, 5, 5], [-9, 3, 9, 4], [float("nan"), 1, 2, 2]]
    for number, box in enumerate(bad):
        coco.add(id=200 + number, bbox=box)
    coco.add(id=300, bbox=[-5, 25, 50, 50])
    boxes = load_coco(coco.save(), str(coco.images))[0]["annotations"]
    assert [box["bbox"] for box in boxes] == [[2, 3, 12, 11], [0, 25, 40, 30]]
    warnings = [line.message for line in caplog.records if line.levelno == logging.WARNING]
    assert len(warnings) == 1
    for part in ("dropped 5", "2 without a positive size", "2 outside the image", "1 not finite"):
        assert part in warnings[0]
    for part in ("annotations 200, 201)", "annotations 202, 203)", "annotations 204)"):
        assert part in warnings[0]


def test_crowds_are_kept_but_do_not_count_as_usable(coco):
    for annotation in coco.content["annotations"]:
        annotation["iscrowd"] = 1
    path = coco.save()
    assert load_coco(path, str(coco.images))[0]["annotations"][0]["iscrowd"] == 1
    with pytest.raises(InputError, match="no usable annotation"):
        load_coco(path, str(coco.images), training=True)


def test_validation_data_may_have_no_objects(coco):
    path = coco.save(annotations=[])
    assert [r["annotations"] for r in load_coco(path, str(coco.images))] == [[]] * 6


def test_absolute_file_names_inside_the_root(coco):
    coco.content["images"][2]["file_name"] = str(coco.images / "sub0/2.jpg")
    records = load_coco(coco.save(), str(coco.images))
    assert records[2]["file_name"] == str(coco.images / "sub0/2.jpg")


def spoil(section: str, number: int = 0, **values):
    return lambda coco: coco.content[section][number].update(values)


def drop(section: str, key: str):
    return lambda coco: coco.content[section][1].pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.content.pop("images"), "'images' is missing"),
        (lambda c: c.content.pop("annotations"), "'annotations' is missing"),
        (lambda c: c.content.update(categories={}), "'categories' is missing"),
        (lambda c: c.content.update(categories=[]), "'categories' is empty"),
        (lambda c: c.content.update(images=[]), "'images' is empty"),
        (lambda c: c.add(id=77, category_id=4), "annotation 77 has unknown category id 4"),
        (lambda c: c.add(id=77, image_id=4), "annotation 77 has unknown image id 4"),
        (lambda c: c.add(id=1), "annotations: id 1 appears more than once"),
        (lambda c: c.add(id=77, bbox=[1, 2, 3]), "annotation 77: bbox is not four numbers"),
        (lambda c: c.add(id=77, bbox=[1, 2, 3, "4"]), "annotation 77: bbox is not four numbers"),
        (lambda c: c.add(id=77, bbox=None), "annotations: id 77 has no list 'bbox'"),
        (lambda c: c.content["images"].append(5), "images: entry 6 has no int 'id'"),
        (spoil("images", 1, id=0), "images: id 0 appears more than once"),
        (spoil("categories", 1, id=90), "categories: id 90 appears more than once"),
        (drop("images", "width"), "images: id 10 has no int 'width'"),
        (drop("images", "file_name"), "images: id 10 has no str 'file_name'"),
        (drop("categories", "name"), "categories: id 3 has no str 'name'"),
        (drop("annotations", "id"), "annotations: entry 1 has no int 'id'"),
        (spoil("images", file_name="../x.jpg"), "'../x.jpg' is not inside"),
        (spoil("images", file_name="/etc/x.jpg"), "'/etc/x.jpg' is not inside"),
        (spoil("images", file_name="link/../0.jpg"), "'link/../0.jpg' is not inside"),
        (spoil("images", width=0), "images: id 0: width and height must be positive"),
        (spoil("images", height=True), "images: id 0 has no int 'height'"),
        (spoil("images", id=-1), "images: entry 0: the id must be 0 to 9007199254740992"),
        (spoil("categories", name="\ud800"), "categories: id 90 has no str 'name'"),
        (spoil("annotations", iscrowd="0"), "annotation 1: iscrowd is not 0 or 1: '0'"),
        (spoil("annotations", area=None), "annotation 1: area is not a finite number: None"),
        (spoil("images", file_name=""), "'' is not inside"),
        (spoil("images", file_name="sub0/no.jpg"), "1 of 6 images are missing .*sub0/no.jpg"),
        (spoil("images", file_name="no/0.jpg"), "1 of 6 images are missing .*no/0.jpg"),
    ],
)
def test_each_fault_gives_one_line_that_names_the_file(coco, change, message):
    change(coco)
    path = coco.json
    path.write_text(json.dumps(coco.content))
    with pytest.raises(InputError, match=message) as caught:
        load_coco(str(path), str(coco.images), training=True)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{oops", "[1, 2]", "\udce9\udcff"])
def test_not_json(coco, text):
    coco.json.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=rf"^{coco.json}: not a (JSON|COCO) file"):
        load_coco(str(coco.json), str(coco.images))


def test_missing_json_and_missing_root(coco, tmp_path):
    with pytest.raises(InputError, match=r"none\.json: annotation file not found"):
        load_coco(str(tmp_path / "none.json"), str(coco.images))
    with pytest.raises(InputError, match="cannot be read"):
        load_coco(str(tmp_path), str(coco.images))
    with pytest.raises(InputError, match=r"no_such: image folder of .*data\.json not found"):
        load_coco(coco.save(), str(tmp_path / "no_such"))


def test_categories_of_one_name_are_classes_of_their_own(coco, caplog):
    coco.content["categories"][1]["name"] = "bee"
    data = read_coco(coco.save(), str(coco.images))
    assert list(data.categories.items()) == [(3, "bee"), (7, "bee"), (90, "crow")]
    (warning,) = [line.message for line in caplog.records if line.levelno == logging.WARNING]
    assert "bee (3), bee (7)" in warning and coco.save() in warning
