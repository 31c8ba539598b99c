"""A large COCO JSON is checked and converted in pieces, with what a small one in memory gives."""

from __future__ import annotations

import json
import shutil

import pytest

from detrex.data import oddities
from detrex.data.coco_format import read_coco
from detrex.data.coco_index import read_all
from detrex.data.formats import Split, read_layout
from detrex.data.oddities import Oddity
from detrex.inspect.dataset_check import check_split, shared_images
from detrex.utils.errors import InputError
from tests.data import layouts

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def odd(many):
    """Data with annotations that training refuses, and boxes that occur twice."""
    boxes = many.content["annotations"]
    boxes[11]["image_id"], boxes[12]["category_id"], boxes[13]["bbox"] = 999, 8, [1, "2", 3, 4]
    boxes[14] |= {"image_id": 999, "category_id": 8}
    boxes += [{**entry, "id": 2000 + entry["id"]} for entry in boxes[20:30]]
    many.content["images"].append({**many.content["images"][4], "id": 60})
    (many.images / "sub0/2.jpg").unlink()
    shutil.copy(many.images / "sub1/1.jpg", many.images / "sub1/3.jpg")
    return many


def test_a_check_of_large_data_says_what_one_in_memory_says(odd, large, cache, monkeypatch):
    path = odd.save()
    split = Split(odd.images, json_file=odd.json, origin="x")
    small = check_split(split, odd.json)
    shared = shared_images({"train": small})
    assert not cache.exists()
    large()
    monkeypatch.setattr(oddities, "AT_ONCE", 2)
    assert check_split(split, odd.json) == small and read_all(path).folder
    assert shared_images({"train": small}) == shared
    assert shared["images that are there twice"] == [
        f"{odd.images}/sub1/1.jpg = {odd.images}/sub1/3.jpg"
    ]
    annotations = odd.content["annotations"]
    assert small.boxes == len(annotations) == 210 and sum(small.classes.values()) == 208
    assert small.trained == sum(small.sizes) and small.image_count == 7
    kinds = {kind.name: len(where) for kind, where in small.oddities.items()}
    expected = {"NO_IMAGE": 2, "NO_CLASS": 1, "NO_NUMBERS": 1, "SHARED_FILE": 1, "MISSING": 1}
    assert expected.items() <= kinds.items() and kinds["TWICE"] >= 10
    numbers = sorted(annotations[i]["id"] for i in (11, 14))
    assert [int(where.split()[1]) for where in small.oddities[Oddity.NO_IMAGE]] == numbers


@pytest.mark.parametrize("count", [126, 127, 128, 129, 255, 256])
def test_any_number_of_images_and_classes(tmp_path, count):
    """The numbers at which smaller integers end."""
    content = {"images": [], "annotations": [], "categories": []}
    for i in range(count):
        content["images"].append({"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9})
        content["categories"].append({"id": i, "name": str(i)})
        box = {"id": i, "image_id": count - 1 - i, "category_id": i, "bbox": [1, 1, 2 + i, 3]}
        content["annotations"].append(box)
    (tmp_path / "data.json").write_text(json.dumps(content))
    columns = read_all(tmp_path / "data.json")
    assert columns.category.tolist() == [*range(count)][::-1]
    assert columns.w.tolist() == [2 + i for i in range(count)][::-1]
    assert columns.first.tolist() == [*range(count + 1)]


def test_training_refuses_what_a_check_has_left_out_of_the_index(odd, large):
    (odd.images / "sub0/2.jpg").write_bytes((odd.images / "sub0/0.jpg").read_bytes())
    messages = []
    for make_large in (lambda: None, large):
        make_large()
        path = odd.save()
        read_all(path)
        with pytest.raises(InputError) as error:
            read_coco(path, str(odd.images))
        messages.append(str(error.value))
    assert messages[0] == messages[1] and "bbox is not four numbers: [1, '2', 3, 4]" in messages[0]


def content(split):
    return {key: by_id(entries) for key, entries in sorted(split.content().items())}


def by_id(entries):
    return sorted(entries, key=lambda entry: entry["id"])


@pytest.mark.parametrize("layout", ["Objects365", "COCO"])
@pytest.mark.parametrize("classes", [[], ["bee"]])
def test_conversions_in_pieces_are_those_in_memory(tmp_path, large, layout, classes):
    layouts.WRITERS[layout](tmp_path / "data")
    if layout == "COCO":  # a tenth is held out
        shutil.rmtree(tmp_path / "data/val2017")
        for file in (tmp_path / "data/annotations").glob("*_val2017.json"):
            file.unlink()
    results = []
    for make_large in (lambda: None, large):
        make_large()
        name, splits = read_layout(tmp_path / "data")
        assert name == layout and splits.keys() == {"train", "val"}
        for split in splits.values() if classes else ():
            split.restrict(classes, "--classes")
        saved = {}
        for key, split in splits.items():
            before = content(split)
            path = split.saved(tmp_path / f"{len(results)}_{key}.json")
            saved[key] = json.loads(path.read_text()), split.problems
            assert content(Split(split.images, json_file=path)) == before
            assert [c["name"] for c in before["categories"]] == (classes or layouts.CLASSES)
        results.append(saved)
    small, streamed = results
    for key in small:
        assert small[key][1] == streamed[key][1]
        for section in ("images", "annotations", "categories"):
            assert by_id(small[key][0][section]) == by_id(streamed[key][0][section])
    assert len(small["train"][0]["images"]) + len(small["val"][0]["images"]) > 2
    if layout == "Objects365":
        assert small["train"][1] == {
            "images that are missing, left out": ["images/v2/patch16/gone.jpg"]
        }


def test_a_damaged_large_json_is_named(tmp_path, large):
    layouts.write_coco(tmp_path)
    path = tmp_path / "annotations/instances_train2017.json"
    path.write_bytes(path.read_bytes()[:-40])
    large()
    with pytest.raises(InputError, match=r"instances_train2017\.json: not a JSON file \("):
        read_layout(tmp_path)
