"""The mapper that augments with torchvision, alone and with RT-DETR's augmentations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import BoxMode
from PIL import Image
from torchvision.transforms import v2

from detrex.config import get_config
from detrex.data import TorchvisionMapper


@pytest.fixture
def record(tmp_path) -> dict:
    """A picture of 40x30 with a white rectangle that one box frames, a small box and a crowd."""
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    pixels[3:11, 2:12] = 255
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    boxes = {5: (2, 3, 10, 8), 1: (30, 20, 0.5, 5), 2: (0, 0, 40, 30)}
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": label, "iscrowd": label == 2}
        for label, box in boxes.items()
    ]
    size = dict(file_name=str(tmp_path / "picture.png"), height=30, width=40, image_id=1)
    return {**size, "annotations": annotations}


def test_image_and_boxes_move_together(record) -> None:
    steps = [
        v2.RandomHorizontalFlip(1.0),
        v2.Resize([60, 60]),
        v2.SanitizeBoundingBoxes(min_size=1),
    ]
    found = TorchvisionMapper(steps)(record)
    assert found["image"].dtype == torch.uint8 and found["image"].shape == (3, 60, 60)
    assert type(found["image"]) is torch.Tensor
    # x: 40 - x, then 1.5 times; y twice. The second box is 0.75 pixels wide, the third a crowd.
    assert found["instances"].gt_boxes.tensor.tolist() == [[42, 6, 57, 22]]
    assert found["instances"].gt_classes.tolist() == [5]
    assert (found["height"], found["width"], found["image_id"]) == (30, 40, 1)
    assert "annotations" in record and "annotations" not in found


def test_a_record_without_a_size_gets_one(record) -> None:
    bare = {key: value for key, value in record.items() if key not in ("height", "width")}
    result = TorchvisionMapper([])(bare)
    assert (result["height"], result["width"]) == (30, 40) and "height" not in bare


def test_an_image_without_objects_stays(record) -> None:
    transforms = get_config("common/recipes/rt_detr.py").dataloader.train.mapper
    found = instantiate(transforms)({**record, "annotations": []})
    assert found["image"].shape == (3, 640, 640) and len(found["instances"]) == 0


def test_boxes_of_the_recipe_follow_their_objects_and_the_seed(record) -> None:
    mapper = instantiate(get_config("common/recipes/rt_detr.py").dataloader.train.mapper)
    seen = 0
    for seed in range(12):
        torch.manual_seed(seed)
        first = mapper(record)
        torch.manual_seed(seed)
        assert torch.equal(first["image"], mapper(record)["image"])
        for x0, y0, x1, y1 in first["instances"].gt_boxes.tensor[:1].round().long().tolist():
            if first["instances"].gt_classes[0] != 5:
                continue
            inside = first["image"][:, y0 + 4 : y1 - 4, x0 + 4 : x1 - 4].float().mean()
            assert inside > 3 * first["image"].float().mean().clamp(min=20)
            seen += 1
    assert seen > 4


def test_norms_and_biases_do_not_decay() -> None:
    optimizer = get_config("common/recipes/rt_detr.py").optimizer
    optimizer.params.lr_factors = []
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer.params.model = model
    groups = instantiate(optimizer).param_groups
    decays = {p: group["weight_decay"] for group in groups for p in group["params"]}
    expected = {model[0].weight: 1e-4, model[0].bias: 0.0, model[1].weight: 0.0, model[1].bias: 0.0}
    assert decays == expected
