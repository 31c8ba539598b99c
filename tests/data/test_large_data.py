"""A large COCO JSON through its index gives what a small one gives in memory."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import pickle
import shutil

import numpy as np
import pytest
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.build import filter_images_with_only_crowd_annotations
from omegaconf import OmegaConf

from detrex.data import (
    DetrDatasetMapper,
    apply_custom_dataset,
    build_train_loader,
    coco_columns,
    coco_format,
    coco_growing,
    coco_index,
    coco_stream,
)
from detrex.data.coco_format import read_coco
from detrex.data.coco_rules import MIN_SIDE, BoxFault, clip_boxes
from detrex.data.fingerprint import fingerprint
from detrex.data.records import Records, repeat_factors
from detrex.evaluation import coco_json
from detrex.evaluation.coco_json import load_ground_truth
from detrex.utils.errors import InputError

pytestmark = pytest.mark.usefixtures("cache")


def in_memory_and_lazily(coco, large, **changes):
    path = coco.save(**changes)
    memory = read_coco(path, str(coco.images), training=True)
    assert isinstance(memory.records, list)
    large()
    lazily = read_coco(path, str(coco.images), training=True)
    assert isinstance(lazily.records, Records) and lazily.records.columns.folder
    return memory, lazily


@pytest.mark.parametrize("indent", [None, 3])
def test_records_are_equal(many, large, cache, caplog, indent):
    many.save = lambda: (
        many.json.write_text(json.dumps(many.content, indent=indent)) and str(many.json)
    )
    memory, lazily = in_memory_and_lazily(many, large)
    assert list(lazily.records) == memory.records
    assert [lazily.records[i] for i in range(6)] == memory.records
    assert lazily.categories == memory.categories
    first, second = (
        [r.message for r in caplog.records if "dropped" in r.message][k] for k in (0, 1)
    )
    assert first == second and "1 not finite (annotations" in first
    with_objects = filter_images_with_only_crowd_annotations(memory.records)
    assert list(lazily.records.with_objects()) == with_objects and len(with_objects) == 5
    for records, plain in (
        (lazily.records, memory.records),
        (lazily.records.with_objects(), with_objects),
    ):
        for _ in range(2):  # computed, then read
            assert fingerprint(records) == fingerprint(plain)
        assert list(pickle.loads(pickle.dumps(records))) == plain
    assert [path.is_dir() for path in cache.iterdir()].count(True) == 1


def test_the_ground_truth_of_scores_is_equal(many, large, caplog, monkeypatch):
    """From the index, too, which is made when the data are read for the first time."""
    plain = load_ground_truth(many.save())
    large()
    read_coco(str(many.json), str(many.images))
    monkeypatch.setattr(coco_json, "read_json", None)
    indexed = load_ground_truth(str(many.json))
    first, second = (r.getMessage() for r in caplog.records if "scored" in r.getMessage())
    assert first == second and "1 boxes that are not finite" in first

    def rows(truth: dict, section: str) -> list:
        entries = [{**entry, "id": 0} if "bbox" in entry else entry for entry in truth[section]]
        return sorted(sorted(entry.items()) for entry in entries)

    for section in ("images", "annotations", "categories"):
        assert rows(indexed, section) == rows(plain, section)
    assert [a["id"] for a in indexed["annotations"]] == [*range(1, 200)]


def test_lists_may_come_in_any_order(many, large):
    content = dict(reversed(many.content.items()))
    content["images"] = content["images"][::-1]
    many.content = content
    memory, lazily = in_memory_and_lazily(many, large)
    assert list(lazily.records) == memory.records


@pytest.mark.parametrize("threshold", [0, 0.9])
@pytest.mark.parametrize("grouping", [True, False])
def test_batches_and_resumed_batches_are_equal(many, large, threshold, grouping):
    memory, lazily = in_memory_and_lazily(many, large)
    mapper = DetrDatasetMapper(augmentation=[], augmentation_with_crop=None, is_train=True)
    plain = filter_images_with_only_crowd_annotations(memory.records)
    options = {"aspect_ratio_grouping": grouping, "repeat_threshold": threshold, "seed": 3}
    for start in (0, 5):
        loaders = [
            iter(build_train_loader(data, mapper, 2, start_iteration=start, **options))
            for data in (plain, lazily.records.with_objects())
        ]
        for _ in range(8):
            for one, other in zip(*map(next, loaders), strict=True):
                assert one["file_name"] == other["file_name"]
                assert (one["image"] == other["image"]).all()
                assert one["instances"].gt_boxes.tensor.equal(other["instances"].gt_boxes.tensor)
                assert one["instances"].gt_classes.equal(other["instances"].gt_classes)


def test_repeat_factors_are_the_formula_of_the_paper(many, large):
    _, lazily = in_memory_and_lazily(many, large)
    records = lazily.records
    classes = [{a["category_id"] for a in record["annotations"]} for record in records]
    share = {c: sum(c in s for s in classes) / len(classes) for c in range(3)}
    expected = [max([1, *((0.9 / share[c]) ** 0.5 for c in s)]) for s in classes]
    assert repeat_factors(records, 0.9) == pytest.approx(expected, abs=1e-6)
    assert max(expected) > 1


def clipped(box, width, height):
    """A plain formula for one box: (fault or None, corners)."""
    if not all(map(math.isfinite, box)):
        return BoxFault.NOT_FINITE, []
    x, y, w, h = box
    if min(w, h) < MIN_SIDE:
        return BoxFault.NO_SIZE, []
    corners = [max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)]
    inside = corners[2] - corners[0] >= MIN_SIDE and corners[3] - corners[1] >= MIN_SIDE
    return (None, corners) if inside else (BoxFault.OUTSIDE, [])


def test_clipping_many_boxes_is_clipping_each():
    numbers = np.random.RandomState(0)
    values = [-1e9, -3, -1e-3, 0, 5e-4, 1e-3, 1, 39.9995, 40, 41, np.nan, np.inf, -np.inf, 1e308]
    boxes = numbers.choice(values, (4000, 4))
    faults, corners = clip_boxes(boxes, np.broadcast_to([40, 30], (4000, 2)))
    kinds = [None, *BoxFault]
    for box, fault, corner in zip(boxes.tolist(), faults, corners.tolist(), strict=True):
        expected = clipped(box, 40, 30)
        assert kinds[fault] == expected[0]
        assert expected[0] or corner == expected[1]
    assert set(faults) == {0, 1, 2, 3}


def test_small_data_leave_no_file(many, large, cache):
    path = many.save()
    large(201)
    records = read_coco(path, str(many.images)).records
    assert isinstance(records, list) and not cache.exists()


def test_a_changed_json_gets_a_new_index_in_place_of_the_old(many, large, cache):
    path = many.save()
    large()
    read_coco(path, str(many.images))
    many.content["annotations"].pop()
    many.save()
    assert len(read_coco(path, str(many.images)).records.columns.id) == 199
    assert [folder.is_dir() for folder in cache.iterdir()].count(True) == 1


@pytest.mark.parametrize("file", ["x.npy", "summary.json", "category.npy"])
@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_index_is_made_anew(many, large, cache, caplog, file, damage):
    path = many.save()
    large()
    expected = list(read_coco(path, str(many.images)).records)
    damaged = next(cache.glob(f"*/{file}"))
    if damage == "cut":
        damaged.write_bytes(damaged.read_bytes()[:-9])
    else:
        damaged.unlink()
    caplog.clear()
    assert list(read_coco(path, str(many.images)).records) == expected
    lines = [r.message for r in caplog.records if "is damaged" in r.message]
    assert len(lines) == 1 and str(damaged.parent) in lines[0]
    caplog.clear()
    assert list(read_coco(path, str(many.images)).records) == expected
    assert "is damaged" not in caplog.text


def test_without_room_for_the_index_data_are_in_memory(many, large, cache, caplog, monkeypatch):
    path = many.save()
    large()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(coco_growing.Growing, "move_to", full)
    records = read_coco(path, str(many.images)).records
    (line,) = [r.message for r in caplog.records if "no place for its index" in r.message]
    assert "No space left" in line and "XDG_CACHE_HOME" in line
    assert isinstance(records, Records) and records.columns.folder is None
    assert len(list(records)) == 6 and not any(p.is_dir() for p in cache.iterdir())
    assert list(pickle.loads(pickle.dumps(records))) == list(records)


def _read(path, images, queue):
    coco_columns.LARGE = coco_stream.LARGE = coco_index.LARGE = coco_format.LARGE = 4
    coco_stream.LEAST_BYTES = 1
    logging.getLogger("detrex.data.coco_index").setLevel(logging.INFO)
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("detrex.data.coco_index").addHandler(handler)
    records = read_coco(path, images).records
    queue.put((sum("indexed" in line for line in lines), len(list(records))))


def test_processes_make_one_index(many):
    path, images = many.save(), str(many.images)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_read, args=(path, images, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(results) == [(0, 6), (0, 6), (1, 6)]


def test_images_are_looked_for_again_when_their_folder_has_changed(many, large):
    path = many.save()
    large()
    read_coco(path, str(many.images))
    (many.images / "sub1/1.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 6 images are missing .*sub1/1\.jpg"):
        read_coco(path, str(many.images))


def _spoilt(text: str, old: str, new: str, number: int) -> tuple[str, int]:
    place = -1
    for _ in range(number):
        place = text.index(old, place + 1)
    return text[:place] + new + text[place + len(old) :], len(text[:place].encode())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"image_id": ', '"image_id" ', "Expecting ':' delimiter"),
        ('"bbox": [', '"bbox": ', "Expecting"),
        ("}, {", "} {", "Expecting ',' delimiter|',' is missing"),
        ('"id": ', '"id: ', "Expecting|Invalid|Unterminated"),
    ],
)
def test_damage_in_the_middle_names_the_byte(many, large, old, new, reason):
    text, place = _spoilt(json.dumps(many.content), old, new, 100)
    many.json.write_text(text)
    large()
    with pytest.raises(InputError, match=rf"^{many.json}: not a JSON file \(({reason})") as error:
        read_coco(str(many.json), str(many.images))
    named = int(str(error.value).split("byte ")[1].split(",")[0].rstrip(")"))
    assert abs(named - place) < 40
    assert "annotations from entry" in str(error.value)


@pytest.mark.parametrize("share", [0.2, 0.7, 0.999])
def test_a_json_that_is_cut_off(many, large, share):
    text = json.dumps(many.content)
    many.json.write_text(text[: int(share * len(text))])
    large()
    with pytest.raises(InputError, match=r"not a JSON file \(.*: byte \d+"):
        read_coco(str(many.json), str(many.images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 444}, "annotation 77777 has unknown category id 444"),
        ({"image_id": 444}, "annotation 77777 has unknown image id 444"),
        ({"image_id": 2**70}, "annotation 77777 has unknown image id"),
        ({"iscrowd": 2}, "annotation 77777: iscrowd is not 0 or 1: 2"),
        ({"bbox": [1, 2, 3]}, "annotation 77777: bbox is not four numbers"),
        ({"bbox": None}, "annotations: id 77777: 'bbox' is not a list: None"),
        ({"id": -1}, "annotations: entry 200: the id must be 0 to"),
        ({"id": 1000}, "annotations: id 1000 appears more than once"),
        ({"area": "9"}, "annotation 77777: area is not a finite number: '9'"),
    ],
)
def test_each_fault_is_named_as_in_memory(many, large, change, message):
    many.add(id=1000)
    many.content["annotations"].append(many.content["annotations"].pop(3))
    many.content["annotations"].pop(4)
    many.add(**{"id": 77777, **change})
    path = many.save()
    errors = []
    for limit in (10**6, 4):
        large(limit)
        with pytest.raises(InputError) as error:
            read_coco(path, str(many.images))
        errors.append(str(error.value))
    assert message in errors[0] and message in errors[1]


def test_missing_lists_are_named(many, large):
    large()
    for section in ("images", "categories"):
        content = {k: v for k, v in many.content.items() if k != section}
        many.json.write_text(json.dumps(content))
        with pytest.raises(InputError, match=f"the list '{section}' is missing, it has 'info'"):
            read_coco(str(many.json), str(many.images))


def _config(coco, **changes):
    cfg = OmegaConf.create({"dataloader": {"train": {}, "test": {}}, "model": {"num_classes": 80}})
    data = {"json": str(coco.json), "images": str(coco.images)}
    cfg.dataloader.dataset = {"name": "big", "train": data, "val": data, **changes}
    cfg.dataloader.train.dataset = L(get_detection_dataset_dicts)(names="a", filter_empty=True)
    cfg.dataloader.test.dataset = L(get_detection_dataset_dicts)(names="b", filter_empty=False)
    return cfg


def test_a_config_trains_on_large_data(many, large):
    many.save()
    large()
    cfg = _config(many)
    assert apply_custom_dataset(cfg).category_ids == [3, 7, 90]
    assert len(instantiate(cfg.dataloader.train.dataset)) == 5
    assert len(instantiate(cfg.dataloader.test.dataset)) == 6
    assert isinstance(instantiate(cfg.dataloader.test.dataset), Records)


def test_several_data_sets_are_joined_by_name(many, tmp_path):
    many.save()
    categories = [{"id": 1, "name": "dove"}, {"id": 2, "name": "bee"}]
    boxes = [{"id": 1, "image_id": 0, "category_id": 2, "bbox": [1, 2, 3, 4]}]
    boxes.append({"id": 2, "image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 4]})
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**many.content, "categories": categories, "annotations": boxes}))
    first = {"json": str(many.json), "images": str(many.images)}
    second = {"json": str(other), "images": str(many.images), "weight": 3}
    cfg = _config(many, train=[first, second], val={**second, "weight": None})
    info = apply_custom_dataset(cfg)
    assert info.classes == ["ant", "bee", "crow", "dove"] and cfg.model.num_classes == 4
    records = instantiate(cfg.dataloader.train.dataset)
    assert len(records) == 5 + 2 and list(records) == [records[i] for i in range(7)]
    assert [r["annotations"][0]["category_id"] for r in list(records)[5:]] == [1, 3]
    val = instantiate(cfg.dataloader.test.dataset)
    assert [a["category_id"] for r in val for a in r["annotations"]] == [1, 3]
    assert MetadataCatalog.get("big_val").thing_dataset_id_to_contiguous_id == {1: 3, 2: 1}
    loader = build_train_loader(records, lambda r: r, 1, aspect_ratio_grouping=False)
    keys = [next(share) for share in [iter(loader.batches)] for _ in range((5 + 6) * 2)]
    counts = np.bincount([key.keys[0][2] for key in keys], minlength=7)
    assert counts.tolist() == [2] * 5 + [6] * 2
    assert fingerprint(records)["boxes"] == sum(len(r["annotations"]) for r in records)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([{"json": "a.json", "images": "a"}, {"json": "b.json"}], r"train\[1\]\.images is not set"),
        ([{"json": "a", "images": "a", "weight": 0}], r"train\.weight=0: how often"),
        (["a.json", "b.json"], r"dataset\.train=\['a\.json', 'b\.json'\]: give json and images"),
    ],
)
def test_lists_of_data_sets_that_cannot_be_used(many, train, message):
    with pytest.raises(InputError, match=message):
        apply_custom_dataset(_config(many, train=train))


def test_validation_classes_must_be_among_the_joint_ones(many, tmp_path):
    one = {"json": many.save(), "images": str(many.images)}
    other = tmp_path / "other.json"
    shutil.copy(many.json, other)
    text = other.read_text().replace('"crow"', '"raven"')
    other.write_text(text)
    val = {"json": str(other), "images": str(many.images)}
    with pytest.raises(InputError, match="1 of its classes .*: 'raven'"):
        apply_custom_dataset(_config(many, train=[one, one], val=val))
