"""A folder in which the commands of the documentation find what they name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import timm
import torch
from detectron2.config import LazyCall as L
from detectron2.data import transforms as T
from omegaconf import DictConfig
from PIL import Image

from detrex.checkpoint.efficientnet_lite0 import write_backbone_weights
from detrex.data.sample.files import make_sample_data
from tests import models
from tests.checkpoint.test_convert import official
from tests.report.fake_runs import detection, write_data

IMAGES = dict(train=24, val=6, size=128)


def make_workspace(folder: Path) -> None:
    """Data, images, checkpoints of others, and links to this repository; no runs yet."""
    for name in ("tools", "configs", "tests", "benchmarks", "detrex", "setup.py", "Makefile"):
        (folder / name).symlink_to(models.ROOT / name)
    (folder / "projects").mkdir()
    for project in (models.ROOT / "projects").iterdir():
        (folder / "projects" / project.name).symlink_to(project)
    _write_data_sets(folder)
    _write_images(folder)
    (folder / "path/to").mkdir(parents=True)
    for name in ("rank_detr_r50", "epoch_4", "epoch_12"):
        torch.save(models.tiny(num_classes=80).state_dict(), folder / f"path/to/{name}.pth")
    torch.save({"model": official("dino")[2]}, folder / "checkpoint0011_4scale.pth")
    relation = official("relation_detr")[2]
    torch.save({"model": relation}, folder / "relation_detr_resnet50_800_1333.pth")
    torch.save(timm.create_model("resnet18d").state_dict(), folder / "resnet50d.pth")
    torch.save(timm.create_model("hgnetv2_b0").state_dict(), folder / "hgnetv2_b4.pth")


def _write_data_sets(folder: Path) -> None:
    make_sample_data(folder / "output/sample_data", **IMAGES)
    write_backbone_weights(folder / "output/efficientnet_lite0.pth")
    shutil.copytree(folder / "output/sample_data", folder / "birds")
    for split in ("train", "val"):  # one folder of images, as the documentation has it
        content = json.loads((folder / f"birds/{split}.json").read_text())
        for image in content["images"]:
            image["file_name"] = f"{split}/{image['file_name']}"
        (folder / f"birds/{split}.json").write_text(json.dumps(content))
        target = folder / "birds/images" / split
        shutil.move(folder / "birds" / split, target)
    write_data(folder / "others")
    shutil.copy(folder / "others/val.json", folder / "val.json")
    found = [detection(1, 7, [0, 0, 30, 30], 0.9), detection(1, 3, [40, 10, 10, 10], 0.2)]
    (folder / "birds_results.json").write_text(json.dumps(found))
    # enough for calibration, under the score that pages show
    wrong = [[x, y, 6, 6] for x in range(0, 50, 10) for y in range(0, 32, 4)]
    found.append(detection(0, 3, [10, 10, 20, 20], 0.8))
    found += [detection(i, 3, box, 0.01 * (i + 1)) for i in range(3) for box in wrong]
    (folder / "results.json").write_text(json.dumps(found))
    (folder / "val_found.json").write_text("[]")  # a command of its page writes it anew


def _write_images(folder: Path) -> None:
    import av

    image = Image.new("RGB", (64, 48), (200, 90, 20))
    image.save(folder / "street.jpg")
    (folder / "photos").mkdir()
    image.save(folder / "photos/one.jpg")
    with av.open(str(folder / "clip.mp4"), "w") as writer:
        stream = writer.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        writer.mux(stream.encode(av.VideoFrame.from_image(image)))
        writer.mux(stream.encode())


def shrink(cfg: DictConfig) -> DictConfig:
    """The config of a small model on small images, on the CPU and without a download."""
    classes = cfg.model.get("num_classes")
    models.shrink(cfg.model)
    if classes is not None:
        cfg.model.num_classes = classes
    small = [L(T.ResizeShortestEdge)(short_edge_length=64, max_size=96)]
    for part in (cfg.dataloader.train, cfg.dataloader.test):
        part.num_workers = 0
        if "windows" not in part.mapper:
            part.mapper.update(augmentation=small, augmentation_with_crop=None)
    cfg.train.device = "cpu"
    if str(cfg.train.init_checkpoint).startswith("detectron2://"):
        cfg.train.init_checkpoint = ""
    return cfg
