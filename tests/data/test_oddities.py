from __future__ import annotations

from PIL import ExifTags, Image

from detrex.data.box_counts import count_boxes
from detrex.data.coco_format import read_coco
from detrex.data.coco_index import read_all
from detrex.data.image_files import equal_files
from detrex.data.oddities import Oddity, find_oddities


def test_every_oddity_is_named_once(coco):
    boxes = {
        101: [1, 1, 0, 5],
        102: [100, 1, 5, 5],
        103: [35, 20, 10, 10],
        104: [2, 3, 10, 8],  # as annotation 1
        105: ["a", 1, 1, 1],
        106: [-0.5, 0, 40.9, 30],  # rounding
        109: [7, 7, 9, 1],
    }
    for number, box in boxes.items():
        coco.add(id=number, bbox=box)
    coco.add(id=107, image_id=999)
    coco.add(id=108, category_id=4)
    coco.add(id=110, bbox=[3, 3, 20, 20], area=0)
    coco.add(id=111, bbox=[4, 4, 20, 20], area=500)
    coco.add(id=112, bbox=[5, 5, 20, 20], area=120, segmentation=[[5, 5, 25, 25, 5, 17]])
    coco.add(id=113, bbox=[6, 5, 20, 20], area=120)
    coco.add(id=114, category_id=12, iscrowd=1)
    coco.content["categories"] += [{"id": 11, "name": "none"}, {"id": 12, "name": "flock"}]
    coco.content["images"][1]["width"] = 31
    coco.content["images"].append({**coco.content["images"][4], "id": 60})
    (coco.images / "sub0/2.jpg").unlink()
    (coco.images / "sub1/3.jpg").write_bytes(b"no image")
    whole = (coco.images / "sub1/5.jpg").read_bytes()
    (coco.images / "sub1/5.jpg").write_bytes(whole[: len(whole) // 2])
    found = find_oddities(read_all(coco.save()), coco.images)
    at = "of sub0/0.jpg"
    assert found == {
        "sizes that are not the image's": ["sub1/1.jpg: 31x40, the file 30x40"],
        "images that are missing": ["sub0/2.jpg"],
        "images that do not open": found["images that do not open"],
        "image files with several image ids": ["sub0/4.jpg: ids 40, 60"],
        "boxes without a positive size, not trained on": [f"annotation 101 {at}: [1, 1, 0, 5]"],
        "boxes outside the image, not trained on": [f"annotation 102 {at}: [100, 1, 5, 5]"],
        "boxes partly outside the image, cut off": [f"annotation 103 {at}: [35, 20, 10, 10]"],
        "boxes that occur twice, with the same class": [f"annotation 104 {at}: [2, 3, 10, 8]"],
        "annotations with a value that is not of its kind": [
            f"annotation 105 {at}: bbox is not four numbers: ['a', 1, 1, 1]"
        ],
        "boxes of a pixel or less": [f"annotation 109 {at}: [7, 7, 9, 1]"],
        "areas that are not the object's, by which scores call it small, medium or large": [
            f"annotation 110 {at}: [3, 3, 20, 20], area 0",
            f"annotation 111 {at}: [4, 4, 20, 20], area 500",
            f"annotation 113 {at}: [6, 5, 20, 20], area 120",
        ],
        "classes that are never trained on": [
            "'none': no usable boxes",
            "'flock': its 1 boxes are crowd regions",
        ],
        "boxes of images that are not listed": ["annotation 107 of no image: [1, 1, 5, 5]"],
        "boxes of classes that are not listed": [f"annotation 108 {at}: [1, 1, 5, 5]"],
    }
    damaged, cut = found["images that do not open"]
    assert damaged.startswith("sub1/3.jpg: not a readable image (no format")
    assert cut.startswith("sub1/5.jpg: not a readable image (")


def test_classes_of_one_name(coco):
    for category in coco.content["categories"][:2]:
        category["name"] = "ant"
    found = find_oddities(read_all(coco.save()), coco.images)
    assert [*map(str, found)] == [Oddity.SAME_NAME] and len(found[Oddity.SAME_NAME]) == 2


def test_text_is_no_crowd_region(coco):
    for annotation in coco.content["annotations"]:
        annotation["iscrowd"] = "0"
    found = find_oddities(read_all(coco.save()), coco.images)
    assert all(place.endswith("no usable boxes") for place in found[Oddity.UNTRAINED])


def test_sound_data_has_none(coco):
    assert find_oddities(read_all(coco.save()), coco.images) == {}


def test_oddities_of_a_whole_split(coco):
    for annotation in coco.content["annotations"]:
        annotation["bbox"] = [0.1, 0.2, 0.3, 0.4]
    found = find_oddities(read_all(coco.save()), coco.images)
    assert {kind: len(places) for kind, places in found.items()} == {Oddity.FRACTIONS: 5}
    for annotation in coco.content["annotations"]:
        annotation["bbox"] = [12, 5, 29, 18]
    found = find_oddities(read_all(coco.save()), coco.images)
    assert len(found[Oddity.CORNERS]) == 2
    for annotation in coco.content["annotations"]:
        annotation["iscrowd"] = 1
    found = find_oddities(read_all(coco.save()), coco.images, training=False)
    assert found[Oddity.NOTHING_TO_SCORE] == ["5 boxes or crowd regions"]


def test_what_is_counted_as_trained_on_is_what_training_reads(coco):
    boxes = [[1, 1, 0, 5], [39, 29, 9, 9], [90, 1, 5, 5], [float("nan"), 1, 2, 2], [1, 1, 2, 2]]
    for number, box in enumerate(boxes):
        coco.add(id=100 + number, bbox=box, iscrowd=number == 4)
    counted = sum(count_boxes(read_all(coco.save()), [100]).sizes)
    records = read_coco(str(coco.json), str(coco.images), training=True).records
    assert counted == 6 == sum(not a["iscrowd"] for r in records for a in r["annotations"])


def test_a_turned_photograph_of_the_size_before(coco):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 30)).save(coco.images / "sub0/0.jpg", exif=exif)
    found = find_oddities(read_all(coco.save()), coco.images)
    where = "sub0/0.jpg: 40x30, the file 30x40, upright as its EXIF data says"
    assert found == {Oddity.OTHER_SIZE: [where]}


def test_equal_files_by_content(tmp_path):
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"one!", "e": b"two"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = {name: str(tmp_path / name) for name in contents}
    splits = {"train": [paths["a"], paths["b"], paths["d"], str(tmp_path / "gone")]}
    splits["val"] = [paths["c"], paths["e"], paths["e"]]
    found = {frozenset(group) for group in map(tuple, equal_files(splits))}
    assert found == {
        frozenset({("train", paths["a"]), ("val", paths["c"])}),
        frozenset({("train", paths["b"]), ("val", paths["e"])}),
    }
