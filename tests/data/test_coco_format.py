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
from tests.refusals import refused


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


def test_crowds_are_kept(coco):
    crowds_only(coco)
    assert load_coco(coco.save(), str(coco.images))[0]["annotations"][0]["iscrowd"] == 1


def crowds_only(coco):
    for annotation in coco.content["annotations"]:
        annotation["iscrowd"] = 1


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


def boxes_as_shares(coco):
    for annotation in coco.content["annotations"]:
        annotation["bbox"] = [0.1, 0.2, 0.5, 0.8]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda c: c.content.pop("images"), ["'images'", "'categories'", "'annotations'"]),
        (lambda c: c.content.pop("annotations"), ["no annotations"]),
        (lambda c: c.content.update(categories={}), ["'categories'", "list"]),
        (lambda c: c.content.update(categories=[]), ["'categories'", "empty"]),
        (lambda c: c.content.update(images=[]), ["'images'", "empty"]),
        (lambda c: c.add(id=77, category_id=444), ["annotation 77", "category id 444"]),
        (lambda c: c.add(id=77, image_id=444), ["annotation 77", "image id 444"]),
        (lambda c: c.add(id=1), ["annotations", "id 1 "]),
        (lambda c: c.add(id=77, bbox=[1, 2, 3]), ["annotation 77", "bbox", "four"]),
        (lambda c: c.add(id=77, bbox=[1, 2, 3, "4"]), ["annotation 77", "bbox", "four"]),
        (lambda c: c.add(id=77, bbox=None), ["annotations", "id 77", "'bbox'", "None"]),
        (lambda c: c.content["images"].append(5), ["images", "entry 6", ": 5"]),
        (spoil("images", 1, id=0), ["images", "id 0 "]),
        (spoil("categories", 1, id=90), ["categories", "id 90 "]),
        (drop("images", "width"), ["images", "id 10 ", "'width'", "'file"]),
        (drop("images", "file_name"), ["images", "id 10 ", "'file_name'", "'width'"]),
        (drop("categories", "name"), ["categories", "id 3 ", "'name'", "'id'"]),
        (drop("annotations", "id"), ["annotations", "entry 1 ", "'id'", "'bbox'"]),
        (spoil("images", file_name="../x.jpg"), ["'../x.jpg'", "inside"]),
        (spoil("images", file_name="/etc/x.jpg"), ["'/etc/x.jpg'", "inside"]),
        (spoil("images", file_name="link/../0.jpg"), ["'link/../0.jpg'", "inside"]),
        (spoil("images", width=0), ["id 0:", "width", "height", "0 and 30"]),
        (spoil("images", id="img7"), ["images", "entry 0", "'id'", "'img7'"]),
        (spoil("images", width=40.5), ["images", "id 0:", "'width'", "40.5"]),
        (spoil("annotations", image_id=None), ["annotations", "id 1:", "'image_id'", "None"]),
        (spoil("annotations", 2, bbox=[], segmentation=[[1, 2, 3]]), ["entry 2 ", "bbox"]),
        (spoil("images", height=True), ["images", "id 0:", "'height'", "True"]),
        (spoil("images", id=-1), ["entry 0", "id", "9007199254740992", "-1"]),
        (spoil("annotations", iscrowd="0"), ["annotation 1:", "iscrowd", "'0'"]),
        (spoil("annotations", area="9"), ["annotation 1:", "area", "'9'"]),
        (spoil("images", file_name=""), ["''", "inside"]),
        (spoil("images", file_name="sub0/no.jpg"), ["1 of 6 images", "sub0/no.jpg"]),
        (spoil("images", file_name="no/0.jpg"), ["1 of 6 images", "no/0.jpg"]),
        (crowds_only, ["5 crowd", "iscrowd 1"]),
        (boxes_as_shares, ["all 5 boxes", "0 to 1"]),
    ],
)
def test_each_fault_names_the_file_and_the_entry(coco, change, names):
    change(coco)
    coco.json.write_text(json.dumps(coco.content))
    with refused(f"{coco.json}: ", *names):
        load_coco(str(coco.json), str(coco.images), training=True)


def test_boxes_as_shares_are_refused_of_validation_data_too(coco):
    boxes_as_shares(coco)
    with refused(str(coco.json), "all 5 boxes", "0 to 1"):
        load_coco(coco.save(), str(coco.images), training=False)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{oops", "JSON"),
        (b"[1, 2]", "list of 2"),
        (b'[{"image_id": 1, "score": 0.5}]', "detections"),
        (b"\xe9\xff", "0xe9 at 0"),
        (b'{"images": 1}\n{"images": 2}\n', "JSON Lines"),
        (gzip.compress(b"{}", mtime=0), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<html>", "HTML"),
        (b"", "JSON"),
        (None, "not found"),
    ],
)
def test_a_file_that_is_no_coco_json_is_named_with_what_it_is(coco, content, kind):
    if content is not None:
        coco.json.write_bytes(content)
    with refused(f"{coco.json}: ", kind):
        load_coco(str(coco.json), str(coco.images))


def test_a_folder_is_no_coco_json(coco):
    with refused(str(coco.root), "cannot be read"):
        load_coco(str(coco.root), str(coco.images))


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


def test_categories_of_one_name_are_classes_of_their_own(coco, caplog):
    coco.content["categories"][1]["name"] = "bee"
    data = read_coco(coco.save(), str(coco.images))
    assert list(data.categories.items()) == [(3, "bee"), (7, "bee"), (90, "crow")]
    (warning,) = [line.message for line in caplog.records if line.levelno == logging.WARNING]
    assert "bee (3), bee (7)" in warning and coco.save() in warning
