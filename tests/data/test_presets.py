"""The presets of public data sets, from files in their real layouts to batches and scores."""

from __future__ import annotations

import json
import runpy
import sys

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances

from detrex.config.load import load_config
from detrex.train.data import prepare_data
from tests.data import layouts
from tests.models import ROOT

CONFIG = "projects/rank_detr/configs/rank_detr_r50_two_stage_{}.py"


@pytest.mark.parametrize(
    ("preset", "folder", "layout", "boxes"),
    [
        ("voc", "VOCdevkit", "PASCAL VOC", 3),
        ("open_images", "open_images", "Open Images", 2),  # the third is around a group
        ("objects365", "objects365", "Objects365", 3),
    ],
)
def test_preset_reads_what_its_command_writes(tmp_path, monkeypatch, preset, folder, layout, boxes):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / folder).mkdir()
    layouts.WRITERS[layout](tmp_path / folder)
    convert(monkeypatch, preset, tmp_path)
    path = str(ROOT / CONFIG.format(preset))
    cfg = load_config(path)
    info = prepare_data(cfg, [], ["train", "test"])
    assert info.classes == layouts.CLASSES and cfg.model.num_classes == 3
    assert cfg.model.criterion.num_classes == 3
    cfg.dataloader.train.update(total_batch_size=1, num_workers=0, seed=0)
    cfg.dataloader.test.num_workers = 0
    records = instantiate(cfg.dataloader.train.dataset)
    assert {r["file_name"].rsplit("/", 1)[1] for r in records} == {"a.jpg", "b.jpg"}
    assert sum(not a["iscrowd"] for r in records for a in r["annotations"]) == boxes
    assert all(len(s["instances"]) for s in next(iter(instantiate(cfg.dataloader.train))))
    (batch,) = instantiate(cfg.dataloader.test)
    cfg.dataloader.evaluator.output_dir = None
    evaluator = instantiate(cfg.dataloader.evaluator)
    evaluator.process(batch, [truth_of_d()])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)


def miniature(cfg):
    """Train for a batch and score perfect detections of image d."""
    info = prepare_data(cfg, [], ["train", "test"])
    cfg.dataloader.train.update(total_batch_size=1, num_workers=0, seed=0)
    cfg.dataloader.test.num_workers = 0
    assert len(next(iter(instantiate(cfg.dataloader.train)))[0]["instances"])
    cfg.dataloader.evaluator.output_dir = None
    evaluator = instantiate(cfg.dataloader.evaluator)
    for batch in instantiate(cfg.dataloader.test):
        evaluator.process(batch, [truth_of_d()])
    return info, evaluator.evaluate()["bbox"]


def test_crowdhuman(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    layouts.write_crowdhuman(tmp_path / "crowdhuman")
    convert(monkeypatch, "crowdhuman", tmp_path)
    cfg = load_config(str(ROOT / CONFIG.format("crowdhuman")))
    info, scores = miniature(cfg)
    assert info.classes == ["person"] and cfg.model.num_classes == 1
    assert scores["JI"] == scores["recall"] == pytest.approx(100)


def test_lvis(tmp_path, monkeypatch):
    pytest.importorskip("hotcoco")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    folders = {split: tmp_path / f"coco/{split}2017" for split in layouts.SPLITS}
    layouts.write_images(folders)
    (tmp_path / "lvis").mkdir()
    for split, names in layouts.SPLITS.items():
        content = layouts.coco_content(names)
        for image in content["images"]:
            name = image.pop("file_name")
            image["coco_url"] = f"http://images.cocodataset.org/{split}2017/{name}"
            image |= {"neg_category_ids": [2], "not_exhaustive_category_ids": []}
        for category, frequency in zip(content["categories"], "rcf", strict=True):
            category["frequency"] = frequency
        (tmp_path / f"lvis/lvis_v1_{split}.json").write_text(json.dumps(content))
    cfg = load_config(str(ROOT / CONFIG.format("lvis")))
    info, scores = miniature(cfg)
    assert info.classes == layouts.CLASSES and cfg.dataloader.train.repeat_threshold == 0.001
    assert scores["AP"] == scores["APr"] == pytest.approx(100)


def truth_of_d() -> dict:
    ((label, x, y, w, h),) = layouts.BOXES["d"]
    found = Instances(layouts.SIZES["d"][::-1])
    found.pred_boxes = Boxes(torch.tensor([[x, y, x + w, y + h]]))
    found.scores, found.pred_classes = torch.ones(1), torch.tensor([label])
    return {"instances": found}


def convert(monkeypatch, preset, root) -> None:
    """Run the command in the preset's docstring."""
    text = (ROOT / f"configs/common/data/{preset}.py").read_text()
    command = text.split("python tools/")[1].split("\n\n")[0].replace("\\\n", " ")
    words = command.replace("$DETECTRON2_DATASETS", str(root)).split()
    monkeypatch.setattr(sys, "argv", [*words, "--config-file", str(ROOT / CONFIG.format(preset))])
    runpy.run_path(str(ROOT / "tools" / words[0]), run_name="__main__")
