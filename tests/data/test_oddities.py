from __future__ import annotations

from detrex.data.coco_format import read_entries
from detrex.data.oddities import equal_files, find_oddities


def test_every_oddity_is_named_once(coco):
    boxes = {
        101: [1, 1, 0, 5],
        102: [100, 1, 5, 5],
        103: [35, 20, 10, 10],
        104: [2, 3, 10, 8],  # as annotation 1
        105: ["a", 1, 1, 1],
        106: [-0.5, 0, 40.9, 30],  # rounding
    }
    for number, box in boxes.items():
        coco.add(id=number, bbox=box)
    coco.add(id=107, image_id=999)
    coco.add(id=108, category_id=4)
    coco.content["images"][1]["width"] = 31
    (coco.images / "sub0/2.jpg").unlink()
    (coco.images / "sub1/3.jpg").write_bytes(b"no image")
    found = find_oddities(read_entries(coco.save()), coco.images)
    at = "of sub0/0.jpg"
    assert found == {
        "sizes that are not the image's": ["sub1/1.jpg: 31x40, the file 30x40"],
        "images that are missing": ["sub0/2.jpg"],
        "images that do not open": ["sub1/3.jpg"],
        "boxes without a positive size, not trained on": [f"annotation 101 {at}: [1, 1, 0, 5]"],
        "boxes outside the image, not trained on": [f"annotation 102 {at}: [100, 1, 5, 5]"],
        "boxes partly outside the image, cut off": [f"annotation 103 {at}: [35, 20, 10, 10]"],
        "boxes that are there twice, class included": [f"annotation 104 {at}: [2, 3, 10, 8]"],
        "bbox is not four numbers": [f"annotation 105 {at}: ['a', 1, 1, 1]"],
        "boxes of images that are not listed": ["annotation 107 of no image: [1, 1, 5, 5]"],
        "boxes of classes that are not listed": [f"annotation 108 {at}: [1, 1, 5, 5]"],
    }


def test_sound_data_has_none(coco):
    assert find_oddities(read_entries(coco.save()), coco.images) == {}


def test_equal_files_by_content(tmp_path):
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"one!", "e": b"two"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = {name: tmp_path / name for name in contents}
    splits = {"train": [paths["a"], paths["b"], paths["d"], tmp_path / "gone"]}
    splits["val"] = [paths["c"], paths["e"], paths["e"]]
    found = {frozenset(group) for group in map(tuple, equal_files(splits))}
    assert found == {
        frozenset({("train", paths["a"]), ("val", paths["c"])}),
        frozenset({("train", paths["b"]), ("val", paths["e"])}),
    }
