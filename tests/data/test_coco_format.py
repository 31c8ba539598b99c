from __future__ import annotations

import gzip
import json
import logging
import os

import numpy as np
import pytest
from detectron2.structures import BoxMode
from pycocotools.mask import encode

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
    reason = r"no usable annotation to train on: it has 5 crowd regions \(iscrowd 1\)"
    with pytest.raises(InputError, match=reason):
        load_coco(path, str(coco.images), training=True)


@pytest.mark.parametrize("listed", [True, False])
def test_validation_data_may_have_no_objects(coco, caplog, listed):
    del coco.content["annotations"]
    path = coco.save(**{"annotations": []} if listed else {})
    assert [r["annotations"] for r in load_coco(path, str(coco.images))] == [[]] * 6
    assert "no objects, so that nothing can be scored: it has no annotations" in caplog.text


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
        (lambda c: c.content.pop("images"), "'images' is missing, it has 'categories', 'annot"),
        (lambda c: c.content.pop("annotations"), "to train on: it has no annotations"),
        (lambda c: c.content.update(categories={}), "'categories' is not a list"),
        (lambda c: c.content.update(categories=[]), "'categories' is empty"),
        (lambda c: c.content.update(images=[]), "'images' is empty"),
        (lambda c: c.add(id=77, category_id=4), "annotation 77 has unknown category id 4"),
        (lambda c: c.add(id=77, image_id=4), "annotation 77 has unknown image id 4"),
        (lambda c: c.add(id=1), "annotations: id 1 appears more than once"),
        (lambda c: c.add(id=77, bbox=[1, 2, 3]), "annotation 77: bbox is not four numbers"),
        (lambda c: c.add(id=77, bbox=[1, 2, 3, "4"]), "annotation 77: bbox is not four numbers"),
        (lambda c: c.add(id=77, bbox=None), "annotations: id 77: 'bbox' is not a list: None"),
        (lambda c: c.content["images"].append(5), "images: entry 6 is not an object with keys: 5"),
        (spoil("images", 1, id=0), "images: id 0 appears more than once"),
        (spoil("categories", 1, id=90), "categories: id 90 appears more than once"),
        (drop("images", "width"), "images: id 10 has no 'width', only 'id', 'file"),
        (drop("images", "file_name"), "images: id 10 has no 'file_name', only 'id'"),
        (drop("categories", "name"), "categories: id 3 has no 'name', only 'id'"),
        (drop("annotations", "id"), "annotations: entry 1 has no 'id', only"),
        (spoil("images", file_name="../x.jpg"), "'../x.jpg' is not inside"),
        (spoil("images", file_name="/etc/x.jpg"), "'/etc/x.jpg' is not inside"),
        (spoil("images", file_name="link/../0.jpg"), "'link/../0.jpg' is not inside"),
        (spoil("images", width=0), "id 0: width and height must be positive, got 0 and 30"),
        (spoil("images", id="img7"), "images: entry 0: 'id' is not a whole number: 'img7'"),
        (spoil("images", width=40.5), "images: id 0: 'width' is not a whole number: 40.5"),
        (spoil("annotations", image_id=None), "annotations: id 1: 'image_id' is not .* None"),
        (spoil("annotations", 2, bbox=[], segmentation=[[1, 2, 3]]), r"entry 2 has no bbox, and"),
        (spoil("images", height=True), "images: id 0: 'height' is not a whole number: True"),
        (spoil("images", id=-1), "entry 0: the id must be 0 to 9007199254740992, got -1"),
        (spoil("annotations", iscrowd="0"), "annotation 1: iscrowd is not 0 or 1: '0'"),
        (spoil("annotations", area="9"), "annotation 1: area is not a finite number: .9."),
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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{oops", "not a JSON file"),
        (b"[1, 2]", "not a COCO file but a list of 2 entries"),
        (b'[{"image_id": 1, "score": 0.5}]', "not a COCO file but detections, not annotations"),
        (b"\xe9\xff", "not a JSON file .byte 0xe9 at 0 is not UTF-8: save it as UTF-8"),
        (b'{"images": 1}\n{"images": 2}\n', "a second value begins in line 2: JSON Lines"),
        (gzip.compress(b"{}"), "not a JSON file but compressed by gzip: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<html>", "XML or HTML"),
        (b"", "not a JSON file"),
    ],
)
def test_the_reason_why_a_file_is_not_read(coco, content, reason):
    coco.json.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{coco.json}: .*{reason}"):
        load_coco(str(coco.json), str(coco.images))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_every_encoding_of_json_is_read(coco, encoding):
    coco.content["categories"][0]["name"] = "\u732b"
    coco.json.write_bytes(json.dumps(coco.content, ensure_ascii=False).encode(encoding))
    assert read_coco(str(coco.json), str(coco.images)).categories[90] == "\u732b"


@pytest.mark.parametrize("form", [str, float, "{}.0".format, "00{}".format])
def test_whole_numbers_in_any_form_meet(coco, form):
    expected = read_coco(coco.save(), str(coco.images))
    for image in coco.content["images"]:
        image |= {key: form(image[key]) for key in ("id", "width", "height")}
    for annotation in coco.content["annotations"][::2]:
        annotation |= {key: form(annotation[key]) for key in ("id", "image_id", "category_id")}
    coco.content["categories"][0]["id"] = form(90)
    assert read_coco(coco.save(), str(coco.images)) == expected


def test_a_segmentation_gives_the_box_that_is_missing(coco):
    mask = np.zeros((30, 40), np.uint8, order="F")
    mask[7:19, 11:31] = 1
    masks = [
        [[5, 6, 20, 6, 20.5, 16, 5, 16], [2, 8, 4, 9, 3, 9]],
        {"size": [40, 30], "counts": [3 * 40 + 4, 5, 35, 5, 1031]},  # columns 3 and 4, rows 4 to 8
        {"size": [30, 40], "counts": encode(mask)["counts"].decode()},
    ]
    for annotation, segmentation in zip(coco.content["annotations"], masks, strict=False):
        annotation["segmentation"] = segmentation
    coco.content["annotations"][0]["bbox"] = []
    del coco.content["annotations"][1]["bbox"]
    coco.content["annotations"][2]["bbox"] = None
    records = load_coco(coco.save(), str(coco.images), training=True)
    boxes = [record["annotations"][0]["bbox"] for record in records[:3]]
    assert boxes == [[2, 6, 20.5, 16], [3, 4, 5, 9], [11, 7, 31, 19]]


def test_parts_of_the_image_are_no_pixels(coco):
    for annotation in coco.content["annotations"]:
        annotation["bbox"] = [0.1, 0.2, 0.5, 0.8]
    for training in (True, False):
        with pytest.raises(InputError, match="all 5 boxes lie within 0 to 1, as fractions of"):
            load_coco(coco.save(), str(coco.images), training)


def test_what_a_person_should_see_is_warned_of(coco, caplog):
    coco.content["annotations"][2]["iscrowd"] = True  # the only crow
    coco.content["categories"].append({"id": 1, "name": "animal"})
    coco.content["images"][1] |= {"file_name": "./sub0/0.jpg", "width": 40, "height": 30}
    for annotation in coco.content["annotations"]:
        annotation["bbox"] = [12, 5, 29, 18]
    load_coco(coco.save(), str(coco.images), training=True)
    for part in (
        "never trained on: 'animal': no usable boxes, 'crow': its 1 boxes are crowd regions",
        "1 image files have several image ids: ",
        "sub0/0.jpg': 0, 10",
        "boxes leave their image, and all would fit as corners x0, y0, x1, y1",
    ):
        assert part in caplog.text


def test_names_with_backslashes_and_ways_back(coco):
    for number, image in enumerate(coco.content["images"]):
        name = image["file_name"]
        image["file_name"] = [name, name.replace("/", "\\"), f"..\\images/{name}"][number % 3]
    odd = coco.images / "a\\b.jpg"
    (coco.images / "sub1/5.jpg").rename(odd)
    coco.content["images"][5]["file_name"] = odd.name
    records = load_coco(coco.save(), str(coco.images))
    assert [os.path.relpath(r["file_name"], coco.images) for r in records] == [
        *(f"sub{i % 2}/{i}.jpg" for i in range(5)),
        "a\\b.jpg",
    ]


def test_a_link_that_cannot_be_followed_hides_no_other_file(coco):
    (coco.images / "sub0/00.jpg").symlink_to("00.jpg")
    assert len(load_coco(coco.save(), str(coco.images))) == 6


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
