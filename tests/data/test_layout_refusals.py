"""Folders of which no data set is made: the message names the file, and what is wrong in it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from detrex.data.formats import read_layout
from tests.data import layouts
from tests.data.test_layout_files import SHAPE
from tests.data.test_layout_reasons import LFS
from tests.data.test_layout_variants import voc, write, yolo
from tests.refusals import refused

KITTI = "Car 0.0 0 -1.5 587.0 173.3 614.1 200.1 1.6 1.6 3.6 -0.6 1.7 46.7 -1.5"
WIDER_FACE = "0/a.jpg\n1\n449 330 122 149 0 0 0 0 0 0\n"
PANOPTIC = '{"images": [], "annotations": [{"segments_info": []}]}'


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("l/0.txt", KITTI, "KITTI"),
        ("wider_face_train_bbx_gt.txt", WIDER_FACE, "WIDER FACE"),
        ("x.json", '[{"image": "a", "annotations": [{"coordinates": {}}]}]', "CreateML"),
        ("x.json", '{"assets": {}}', "VoTT"),
        ("x.vott", "{}", "VoTT"),
        ("train.tfrecord-00000-of-00004", "", "TFRecord"),
        ("x.json", PANOPTIC, "COCO Panoptic"),
        ("x.xml", "<annotations><image/></annotations>", "CVAT for images"),
        ("x.json", '{"images": [], "annotations": []}', "'categories'"),
        ("x.json", '{"images', "x.json: not a JSON file"),
        ("data.yaml", "names: [", "data.yaml: not a YAML file"),
        ("x.csv", "a,b\n1,2\n", "x.csv: no columns"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, name, text, kind):
    layouts.write_image(tmp_path / "a.jpg", (9, 9))
    write(tmp_path / name, text)
    with refused(kind):
        read_layout(tmp_path)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [a]\ntrain: nowhere", ["nowhere"]),
        ("names: [a]\nval: images/val", ["training", "val"]),
        ("names: {1: a}\ntrain: images/train", ["data.yaml", "names", "from 0"]),
        ("names: {0: a, '0': b}\ntrain: images/train", ["data.yaml", "key '0'"]),
        ("names: [{a: b}]\ntrain: images/train", ["data.yaml", "names:"]),
        ("a: [", ["data.yaml", "YAML"]),
        ("names: [a]\ntrain: labels", ["train", "no images", "labels"]),
    ],
)
def test_a_yaml_that_cannot_be_used_is_named_with_its_key(tmp_path, text, names):
    layouts.write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(text)
    with refused(*names):
        read_layout(tmp_path)


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


def voc_without_images(root: Path) -> None:
    write(root / "a.xml", layouts.voc_xml("a"))


def cvat_without_images(root: Path) -> None:
    write(root / "obj.data", "train = data/train.txt\nnames = data/obj.names")
    write(root / "obj.names", "ant")
    write(root / "train.txt", "data/obj_train_data/a.jpg")
    write(root / "obj_train_data/a.txt", "0 .5 .5 .1 .1")


def labelme_without_images(root: Path) -> None:
    write(root / "a.json", json.dumps({"shapes": [SHAPE], "imagePath": "a.jpg"}))


def splits_of_other_classes(root: Path) -> None:
    for folder, names in (("train", "ant\nbee\ncrow"), ("val", "bee\nant\ncrow")):
        write(root / folder / "classes.txt", names)
    yolo(root, "{split}", "{split}")


def two_data_sets(root: Path) -> None:
    splits_of_other_classes(root)
    for folder in ("one", "two"):
        write(root / folder / "data.yaml", "names: [ant]")


@pytest.mark.parametrize(
    ("write_set", "names"),
    [
        (labels_with_commas, ["a.txt:", "'1,2,3,4,1,0,0,0'"]),
        (images_of_other_data, ["a.json:", "--images"]),
        (no_file_names, ["a.json: images: id 97 ", "'file_name'"]),
        (packed_json, ["a.json:", "gzip"]),
        (lambda root: write(root / "a.json", LFS), ["a.json:", "Git LFS"]),
        (lambda root: write(root / "a.zip", "PK"), ["a.zip:"]),
        (
            lambda root: write(root / "data.yaml", "train: a\nnames:\n\t- a\n"),
            ["data.yaml", "line 3"],
        ),
        (lists_of_other_images, ["2 names in lists"]),
        (no_objects, ["train", "no objects", "no classes"]),
        (voc_without_images, ["train", "1 images that are missing"]),
        (cvat_without_images, ["train", "1 images that are missing"]),
        (labelme_without_images, ["train", "1 images that are missing"]),
        (splits_of_other_classes, ["val/classes.txt"]),
        (two_data_sets, ["one/data.yaml", "two/data.yaml"]),
        *(
            (lambda root, c=content: write(root / "a.json", json.dumps(c)), [f": {name}, "])
            for name, content in FORMATS.items()
        ),
    ],
)
def test_a_folder_that_is_no_data_set_names_the_file(tmp_path, write_set, names):
    data = tmp_path / "data"
    data.mkdir()
    write_set(data)
    with refused(*names) as error:
        read_layout(data)
    assert str(error.value).count("not a JSON file") <= 1


def test_a_folder_of_images_that_is_not_there_is_named(tmp_path):
    with refused("nowhere"):
        read_layout(tmp_path, tmp_path / "nowhere")
