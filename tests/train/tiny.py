"""A detector of a few weights, and a data set of a few small images."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from PIL import Image
from torch import nn
from torch.nn import functional as F

CLASSES = ["dark", "bright"]


def crash():
    raise RuntimeError(f"a bug at {time.time()}")


def die_once():
    if os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    print("hangs", flush=True)
    time.sleep(100)


class Trap:
    def __del__(self):
        os.abort()


traps = []


def abort_in_finalization():
    traps.append(Trap())
    return 1.0


FAILURES = {
    "nan": lambda: float("nan"),
    "crash": crash,
    "die": die,
    "die_once": die_once,
    "hang": hang,
    "trap": abort_in_finalization,
}


class TinyMatcher(nn.Module):
    """What the trainer sees of a matcher with a scheduled cost; remembers what it was told."""

    def __init__(self, matcher_change_iter=None):
        super().__init__()
        self.iter = -1
        self.matcher_change_iter = matcher_change_iter
        self.seen = []


class TinyDetector(nn.Module):
    """One box and one class per image, from its mean colour.

    Losses are means over images, so accumulation and data parallelism must equal a large batch.
    """

    published_optimizer = "lr 2e-4, decay on everything"

    def __init__(
        self,
        num_classes=2,
        width=8,
        dropout=0.0,
        matcher_change_iter=None,
        fail_at=None,
        fail_rank=0,
        fail_how="nan",
    ):
        super().__init__()
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout}")
        self.backbone = nn.Linear(3, width)
        self.norm = nn.LayerNorm(width)
        self.reference_points = nn.Linear(width, 4)
        self.class_embed = nn.Linear(width, num_classes)
        self.decoder = nn.ModuleDict({"class_embed": self.class_embed})  # as upstream: two names
        self.matcher = TinyMatcher(matcher_change_iter)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.dropout = dropout
        self.fails, self.fail_how = (fail_rank, fail_at), fail_how
        self.dtypes = set()

    def forward(self, inputs):
        device = self.backbone.weight.device
        colours = [x["image"].to(device).float().mean((1, 2)) / 255 for x in inputs]
        hidden = self.norm(self.backbone(torch.stack(colours)).relu())
        hidden = F.dropout(hidden, self.dropout, self.training)
        boxes, logits = self.reference_points(hidden).sigmoid(), self.class_embed(hidden)
        self.dtypes.add(logits.dtype)
        if self.training:
            return self._losses(inputs, boxes, logits)
        if self.fails[1] == "evaluation":
            FAILURES[self.fail_how]()
        return _detect(inputs, boxes, logits)

    def _losses(self, inputs, boxes, logits):
        self.batches += 1
        self.matcher.seen.append(self.matcher.iter)
        goal = torch.stack([x["instances"].gt_boxes.tensor[0] for x in inputs]).to(boxes) / 16
        labels = torch.stack([x["instances"].gt_classes[0] for x in inputs]).to(boxes.device)
        loss_class = F.cross_entropy(logits, labels)
        if (comm.get_rank(), self.matcher.iter) == self.fails:
            loss_class = loss_class * FAILURES[self.fail_how]()
        change = self.matcher.matcher_change_iter
        factor = 1 if change is None or self.matcher.iter < change else 2
        return {"loss_class": loss_class, "loss_bbox": factor * (boxes - goal).abs().mean()}


def _detect(inputs, boxes, logits):
    results = []
    for sample, box, logit in zip(inputs, boxes.float(), logits.float(), strict=True):
        height, width = sample["height"], sample["width"]
        scale = box.new_tensor([width, height, width, height])
        result = Instances((height, width))
        result.pred_boxes = Boxes((box * scale)[None])
        result.scores, result.pred_classes = (v[None] for v in logit.softmax(-1).max(-1))
        results.append({"instances": result})
    return results


def write_data(folder: Path, count: int = 12) -> list[str]:
    """Write images and JSON; return the overrides that select them."""
    rng = np.random.RandomState(0)
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(count):
        label = i % 2
        pixels = rng.randint(0, 100, (16, 16, 3)) + 150 * label
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        images.append(dict(id=i, file_name=f"{i}.png", width=16, height=16))
        box = [2 + label, 3, 8, 9]
        annotations.append(
            dict(id=i + 1, image_id=i, category_id=7 + label, bbox=box, area=72, iscrowd=0)
        )
    categories = [dict(id=7 + i, name=name) for i, name in enumerate(CLASSES)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (folder / "data.json").write_text(json.dumps(content))
    return [
        override
        for split in ("train", "val")
        for override in (
            f"dataloader.dataset.{split}.json={folder / 'data.json'}",
            f"dataloader.dataset.{split}.images={folder}",
        )
    ]
