"""Output folders as train_net.py leaves them, without training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from PIL import Image

from detrex.config import config_yaml
from detrex.evaluation.alignment import AlignmentReport, LayerAlignment, Truth
from detrex.evaluation.calibration import CalibrationMeter, CalibrationReport, summarise
from tests import models

CLASSES = ("cat", "<script>alert(1)</script>")


def write_data(folder: Path) -> None:
    """Three images of 60x40, two classes with sparse ids: folder/val.json and folder/val."""
    (folder / "val").mkdir(parents=True)
    boxes = {0: [(3, [10, 10, 20, 20])], 1: [(7, [0, 0, 30, 30]), (3, [40, 10, 10, 10])], 2: []}
    for i in boxes:
        Image.new("RGB", (60, 40), (i * 80, 90, 120)).save(folder / "val" / f"{i}.jpg")
    numbered = [(i, *entry) for i, entries in boxes.items() for entry in entries]
    coco = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 40} for i in boxes],
        "categories": [{"id": 3, "name": CLASSES[0]}, {"id": 7, "name": CLASSES[1]}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": box, "area": 400, "iscrowd": 0}
            for n, (i, c, box) in enumerate(numbered, 1)
        ],
    }
    (folder / "val.json").write_text(json.dumps(coco))


def write_model(folder: Path, data: Path) -> None:
    """A small untrained Rank-DETR of two decoder layers: folder/model.pth and its config.yaml."""
    cfg = models.load(models.RANK_DETR, {})
    models.shrink(cfg.model)
    cfg.dataloader.test.mapper.augmentation = [L(T.ResizeShortestEdge)(short_edge_length=64)]
    val = {"json": str(data / "val.json"), "images": str(data / "val")}
    cfg.dataloader.dataset = {"name": folder.name, "train": val, "val": val}
    cfg.model.num_classes = len(CLASSES)
    (folder / "config.yaml").write_text(config_yaml(cfg))
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    for head in model.class_embed:  # scores that tell queries apart
        torch.nn.init.normal_(head.weight, std=0.1)
        torch.nn.init.zeros_(head.bias)
    content = {"model": model.state_dict(), "metadata": {"classes": list(CLASSES)}}
    torch.save(content, folder / "model.pth")


def write_run(folder: Path, data: Path, detections: list[dict] | None, lr: float = 0.1) -> Path:
    """A finished run of two evaluations that found ``detections``."""
    folder.mkdir(parents=True)
    val = {"json": str(data / "val.json"), "images": str(data / "val")}
    config = {
        "dataloader": {"dataset": {"val": val}},
        "optimizer": {"lr": lr},
        "train": {"output_dir": str(folder)},
    }
    (folder / "config.yaml").write_text(yaml.dump(config))
    record = {"command": f"train <b>{folder.name}</b>", "seed": 1, "epoch_length": 10}
    record |= {"versions": {"torch": "2.4"}, "git": {"commit": "0" * 40, "changed_files": []}}
    (folder / "run.json").write_text(json.dumps(record))
    lines = [{"iteration": i, "total_loss": 100 * lr / i, "loss_bbox": 1.0} for i in (10, 20)]
    lines += [{"iteration": 20, "bbox/AP": 100 * lr, "bbox/AP50": 50.0, "bbox/APl": float("nan")}]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if detections is not None:
        (folder / "coco_instances_results.json").write_text(json.dumps(detections))
    return folder


def detection(image: int, category: int, box: list[float], score: float) -> dict:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def calibration() -> CalibrationReport:
    """Scores of 20 images: every box is found, and one in three is of the wrong class or place."""
    random, meter = np.random.default_rng(0), CalibrationMeter(len(CLASSES))
    for image in range(20):
        corners = random.uniform(0, 200, (6, 2))
        boxes, labels = np.concatenate([corners, corners + 40], 1), random.integers(0, 2, 6)
        truth = Truth(boxes, labels, np.full(6, 1600.0), np.empty((0, 4)), labels[:0], (240, 240))
        shift = np.where(random.random((12, 1)) < 0.3, 25, 4)
        guesses = np.tile(boxes, (2, 1)) + shift
        wrong = random.random(12) < 0.2
        guessed = np.where(wrong, 1 - np.tile(labels, 2), np.tile(labels, 2))
        meter.update(image, guesses, random.random(12), guessed, truth)
    curves = {iou: np.full((len(CLASSES), 101), 40.0) for iou in ("0.5", "0.75", "0.9")}
    return summarise(meter, CLASSES, curves)


def alignment() -> AlignmentReport:
    """A diagnosis of two layers with plausible numbers."""
    layers = [
        LayerAlignment(
            layer=layer,
            scores={"AP": 40.0 + layer, "AP50": 60.0},
            ap_by_iou=[60.0 - 5 * i for i in range(10)],
            olrp={"oLRP": 60.0, "localisation": 12.0, "FP": 20.0, "FN": 30.0},
            br_recall={"1": 50.0, "2": float("nan")},
            pearson=0.4,
            spearman=0.5,
            rank_correlation=0.3,
            matched_confidence=0.6,
            matched_iou=0.8,
            unmatched_confidence=0.1,
            unmatched_iou=0.2,
            histograms={k: [1] * 50 for k in ("best_regressed", "high_confidence", "unmatched")},
            density=[[int(row == column) for column in range(50)] for row in range(50)],
        )
        for layer in (1, 2)
    ]
    return AlignmentReport("queries", 3, 3, {}, layers, [], [], {})
