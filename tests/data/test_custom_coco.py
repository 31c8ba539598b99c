from __future__ import annotations

import json
import random

import pytest
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from omegaconf import OmegaConf

import detrex.data
from detrex.data import (
    DatasetInfo,
    apply_custom_dataset,
    check_dataset_files,
    check_num_classes,
    register_custom_coco,
)
from detrex.data.dataset_info import dataset_info
from detrex.utils.errors import InputError
from tests.refusals import assert_refused


@pytest.fixture(autouse=True)
def catalogs():
    """Leave detectron2's global catalogs as they were."""
    saved = dict(DatasetCatalog), dict(MetadataCatalog)
    yield
    for catalog, content in zip((DatasetCatalog, MetadataCatalog), saved, strict=True):
        catalog.clear()
        catalog.update(content)


@pytest.fixture
def cfg(coco):
    data = {"json": coco.save(), "images": str(coco.images)}
    cfg = OmegaConf.create({"dataloader": {"train": {}, "test": {}}})
    cfg.model = {
        "num_classes": 80,
        "criterion": {"num_classes": "${..num_classes}"},
        "heads": [{"num_classes": 80}, {"x": 1}],
        "backbone": {"num_classes": None},
    }
    cfg.dataloader.dataset = {"name": "bugs", "train": data, "val": data}
    cfg.dataloader.train.dataset = L(get_detection_dataset_dicts)(names="coco_2017_train")
    cfg.dataloader.test.dataset = L(get_detection_dataset_dicts)(names="coco_2017_val")
    cfg.dataloader.evaluator = L("builtins.dict")(dataset_name="${..test.dataset.names}")
    return cfg


INFO = DatasetInfo(["ant", "bee", "crow"], [3, 7, 90])


def test_config_points_at_the_data_and_has_its_class_count(cfg):
    assert apply_custom_dataset(cfg) == INFO
    assert cfg.dataloader.train.dataset.names == "bugs_train"
    assert cfg.dataloader.test.dataset.names == "bugs_val"
    assert cfg.dataloader.evaluator.dataset_name == "bugs_val"
    assert cfg.model.num_classes == cfg.model.criterion.num_classes == 3
    assert cfg.model.heads[0].num_classes == 3
    assert cfg.model.backbone.num_classes is None
    metadata = MetadataCatalog.get("bugs_val")
    assert metadata.thing_classes == ["ant", "bee", "crow"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1, 90: 2}
    assert metadata.json_file == cfg.dataloader.dataset.val.json
    assert dataset_info("bugs_train") == INFO
    check_num_classes(cfg, INFO)
    check_dataset_files(["bugs_train", "bugs_val"])


def test_registered_data_is_read_by_detectron2(cfg):
    apply_custom_dataset(cfg)
    for _ in range(2):  # the second time from the file
        records = instantiate(cfg.dataloader.train.dataset)
        assert [r["image_id"] for r in records] == [0, 10, 20, 30, 40]  # 50 has no objects


def test_applying_twice_follows_the_file(cfg, coco):
    apply_custom_dataset(cfg)
    coco.content["categories"].append({"id": 91, "name": "dove"})
    coco.save()
    cfg.model.num_classes = cfg.model.criterion.num_classes = cfg.model.heads[0].num_classes = 80
    assert apply_custom_dataset(cfg).category_ids == [3, 7, 90, 91]
    assert cfg.model.num_classes == 4
    assert dataset_info("bugs_val").classes[3] == "dove"


def test_without_data_of_its_own_nothing_changes(cfg):
    cfg.dataloader.dataset = {"name": None, "train": {"json": None, "images": None}}
    before = OmegaConf.to_yaml(cfg.model)
    assert apply_custom_dataset(cfg) is None
    del cfg.dataloader.dataset
    assert apply_custom_dataset(cfg) is None
    assert cfg.dataloader.train.dataset.names == "coco_2017_train"
    assert OmegaConf.to_yaml(cfg.model) == before


def test_evaluation_alone_does_not_read_training_data(cfg):
    cfg.dataloader.dataset.train.json = "absent.json"
    DatasetCatalog.pop("bugs_train", None)  # of other tests
    assert apply_custom_dataset(cfg, splits=["val"]) == INFO
    with pytest.raises(InputError, match="'bugs_train' is not registered"):
        check_dataset_files(cfg.dataloader.train.dataset.names)


@pytest.mark.parametrize(
    ("value", "overrides", "message"),
    [
        (7, [], r"model\.num_classes=7, but the data set has 3 classes \(ant, bee, crow\)"),
        (7, ["model.num_classes=7"], r"model\.num_classes=7, but the data set has 3"),
        (80, ["train.seed=1", "+model.num_classes=80"], r"model\.num_classes=80, .* has 3"),
        (80, ["model.heads.0.num_classes=80"], r"model\.heads\.0\.num_classes=80, .* has 3"),
    ],
)
def test_conflicting_class_counts(cfg, value, overrides, message):
    cfg.model.num_classes = value
    with pytest.raises(InputError, match=message):
        apply_custom_dataset(cfg, overrides)
    assert cfg.model.num_classes == value and cfg.model.heads[0].num_classes == 80
    assert cfg.dataloader.train.dataset.names == "coco_2017_train"


def test_explicit_but_right_class_count_is_fine(cfg):
    cfg.model.num_classes = 3
    assert apply_custom_dataset(cfg, ["model.num_classes=3"]) == INFO


def test_no_validation_data_for_evaluation(cfg):
    cfg.dataloader.dataset.val = {"json": None, "images": None}
    assert apply_custom_dataset(cfg) == INFO
    with pytest.raises(InputError, match="dataloader.dataset.val"):
        apply_custom_dataset(cfg, splits=["val"])


def test_registered_coco_has_80_classes_with_its_sparse_ids():
    info = dataset_info("coco_2017_val")
    assert (len(info.classes), info.classes[0], info.classes[79]) == (80, "person", "toothbrush")
    assert (info.category_ids[0], info.category_ids[79]) == (1, 90)
    cfg = OmegaConf.create({"model": {"num_classes": 80, "criterion": {"num_classes": 7}}})
    with pytest.raises(InputError, match=r"model\.criterion\.num_classes=7, .* 80 classes"):
        check_num_classes(cfg, info)
    cfg.model.criterion.num_classes = 80
    check_num_classes(cfg, info)


def test_metadata_without_an_id_map_counts_from_zero():
    MetadataCatalog.get("plain_set").set(thing_classes=["a", "b"])
    assert dataset_info(["plain_set"]) == DatasetInfo(["a", "b"], [0, 1])
    with pytest.raises(InputError, match="'nameless' has no thing_classes"):
        dataset_info("nameless")


def test_upstream_names_that_do_not_exist_here():
    with pytest.raises(ImportError, match="COCOInstanceNewBaselineDatasetMapper is not offered"):
        from detrex.data import COCOInstanceNewBaselineDatasetMapper  # noqa: F401 (it fails)
    assert detrex.data.DetrDatasetMapper.__module__ == "detrex.data.mapper"


def test_published_config_and_its_loader(cfg, coco, monkeypatch):
    get_config = pytest.importorskip("detrex.config").get_config
    published = get_config("common/data/coco_detr.py").dataloader
    crop = published.train.mapper.augmentation_with_crop
    assert list(crop[1].short_edge_length) == [400, 500, 600]
    assert list(published.train.mapper.augmentation[1].short_edge_length) == [*range(480, 801, 32)]
    assert published.evaluator.dataset_name == "coco_2017_val"
    published.dataset = {**cfg.dataloader.dataset, "skip_broken_images": True}
    cfg.dataloader = published
    apply_custom_dataset(cfg)
    cfg.dataloader.train.update(total_batch_size=2, num_workers=0, seed=random.randrange(99))
    cfg.dataloader.test.num_workers = 0
    loader = instantiate(cfg.dataloader.train)
    assert loader.samples.skip_broken and loader.batches.size == 5
    for sample in next(iter(loader)):
        assert min(sample["image"].shape[1:]) >= 480 or max(sample["image"].shape[1:]) == 1333
    assert [x[0]["image_id"] for x in instantiate(cfg.dataloader.test)] == [0, 10, 20, 30, 40, 50]
    custom = get_config("common/data/custom.py").dataloader
    assert custom.dataset.train.json == "data/birds/train.json"


def without(key):
    def action(cfg):
        cfg.dataloader.dataset.val[key] = None
        apply_custom_dataset(cfg)

    return action


def list_of_jsons(cfg):
    cfg.dataloader.dataset.train.json = ["a.json", "b.json"]
    apply_custom_dataset(cfg)


def other_categories_in_val(cfg, coco):
    other = {**coco.content, "categories": [*coco.content["categories"][:2]]}
    other["categories"].append({"id": 7, "name": "wasp"})
    path = coco.root / "val.json"
    path.write_text(json.dumps(other))
    cfg.dataloader.dataset.val.json = str(path)
    apply_custom_dataset(cfg)


def name_of_a_builtin_set(cfg):
    cfg.dataloader.dataset.name = "coco_2017"
    register_custom_coco(cfg.dataloader.dataset)


def builtin_set_that_is_missing():
    MetadataCatalog.pop("coco_2017_train")
    MetadataCatalog.get("coco_2017_train").set(json_file="/no/train.json", image_root="/no")
    check_dataset_files("coco_2017_train")


@pytest.mark.parametrize(
    ("action", "names"),
    [
        (without("json"), ["dataloader.dataset.val.json"]),
        (without("images"), ["dataloader.dataset.val.images"]),
        (list_of_jsons, ["dataloader.dataset.train.json", "a.json", "b.json"]),
        (other_categories_in_val, ["7 'bee'", "7 'wasp'"]),
        (name_of_a_builtin_set, ["'coco_2017_train'"]),
        (builtin_set_that_is_missing, ["/no/train.json", "DETECTRON2_DATASETS", "json,images"]),
        (
            lambda: check_dataset_files(["coco_2017_tran"]),
            ["'coco_2017_tran'", "'coco_2017_train'"],
        ),
    ],
)
def test_data_that_cannot_be_used_is_named(request, action, names):
    assert_refused(request, action, *names)
