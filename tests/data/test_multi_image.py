"""Augmentations in windows: boxes against the pixels that they frame and against plain formulas,
and the same batches for any number of workers and processes and after a resume."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm
from omegaconf import OmegaConf
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from detrex.config import get_config
from detrex.data import (
    CopyBlend,
    MixUp,
    Mosaic,
    TorchvisionMapper,
    Window,
    build_train_loader,
    load_coco,
)
from detrex.data.windows import check_windows
from tests.refusals import refused

BOX = (30, 20, 70, 50)  # of a bright object


def sample(width: int = 100, height: int = 80, box: tuple = BOX, label: int = 5) -> dict:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, box[1] : box[3], box[0] : box[2]] = 255
    corners = torch.tensor([box], dtype=torch.float32)
    return {
        "image": tv_tensors.Image(image),
        "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(height, width)),
        "labels": torch.tensor([label]),
        "file_name": "picture.png",
    }


def frame(image: torch.Tensor) -> list[int]:
    """The frame of the bright pixels of an image."""
    grey = image.float().mean(0)
    y, x = (grey > (grey.max() + grey.min()) / 2).nonzero().T
    return [x.min().item(), y.min().item(), x.max().item() + 1, y.max().item() + 1]


STEPS = {
    "flip": v2.RandomHorizontalFlip(1.0),
    "resize": v2.Resize([120, 90]),
    "photometric": v2.RandomPhotometricDistort(p=1.0),
    "zoom out": v2.RandomZoomOut(fill=0, p=1.0),
    "crop": v2.RandomIoUCrop(),
    "shift and scale": v2.RandomAffine(0, translate=(0.1, 0.1), scale=(0.5, 1.5), fill=0),
}


@pytest.mark.parametrize("name", STEPS)
def test_boxes_frame_the_pixels_of_their_objects(name: str) -> None:
    sizes = set()
    for seed in range(10):
        torch.manual_seed(seed)
        result = v2.SanitizeBoundingBoxes(min_size=1)(STEPS[name](sample()))
        if len(result["labels"]):
            expected = frame(result["image"])
            assert result["boxes"][0].tolist() == pytest.approx(expected, abs=1.01)
            sizes.add(tuple(expected))
    assert len(sizes) > 4 or name in ("flip", "resize", "photometric")


def test_a_turned_box_is_the_frame_of_its_corners() -> None:
    """Around the image's centre (50, 40), by 10 degrees, 1.2 times as large."""
    turn = v2.RandomAffine((10, 10), scale=(1.2, 1.2), fill=0)
    result = turn(sample())
    x0, y0, x1, y1 = BOX
    cos, sin = 1.2 * math.cos(math.radians(10)), 1.2 * math.sin(math.radians(10))
    corners = [(x - 50, y - 40) for x in (x0, x1) for y in (y0, y1)]
    xs = [50 + cos * x - sin * y for x, y in corners]
    ys = [40 + sin * x + cos * y for x, y in corners]
    expected = [min(xs), min(ys), max(xs), max(ys)]
    assert result["boxes"][0].tolist() == pytest.approx(expected, abs=0.05)
    assert frame(result["image"]) == pytest.approx(expected, abs=1.5)


def test_every_tile_has_its_boxes() -> None:
    """Sides of 20 pixels: the widest tile is 40, the highest 30, so the canvas is 80 x 60."""
    others = iter([sample(40, 20, (4, 4, 20, 16), 1), sample(20, 30, (2, 2, 10, 20), 2)] * 2)
    first = {**sample(label=7), "further": lambda tile: tile(next(others))}
    result = Mosaic(20)(first)
    assert result["image"].shape == (3, 60, 80) and result["labels"].tolist() == [7, 1, 2, 1]
    scaled = [[7.5, 5, 17.5, 12.5], [4, 4, 20, 16], [2, 2, 10, 20], [4, 4, 20, 16]]
    corners = [(0, 0), (40, 0), (0, 30), (40, 30)]
    for box, (dx, dy), actual in zip(scaled, corners, result["boxes"], strict=True):
        expected = [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy]
        assert actual.tolist() == pytest.approx(expected)
        quarter = result["image"][:, dy : dy + 30, dx : dx + 40]
        assert frame(quarter) == pytest.approx(box, abs=1.01)
    assert result["image"][:, 20:30, 40:].max() == 0  # below the second tile


def record(level: int, boxes: list, side: int = 60) -> dict:
    image = torch.full((3, side, side), level, dtype=torch.uint8)
    corners = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    labels = torch.arange(len(boxes)) + level
    return {
        "image": image,
        "instances": Instances((side, side), gt_boxes=corners, gt_classes=labels),
    }


def test_mixup_is_the_weighted_sum_and_all_objects() -> None:
    one, other = record(100, [[1, 2, 30, 40]]), record(31, [[5, 5, 9, 9], [0, 0, 60, 60]])
    mixed = MixUp()(one, other, 0.47)
    assert mixed["image"].unique().tolist() == [round(0.47 * 100 + 0.53 * 31)]
    assert mixed["instances"].gt_classes.tolist() == [100, 31, 32]
    assert mixed["instances"].gt_boxes.tensor.tolist() == [
        [1, 2, 30, 40],
        [5, 5, 9, 9],
        [0, 0, 60, 60],
    ]
    assert one["image"].unique().tolist() == [100] and len(one["instances"]) == 1
    assert len(MixUp()(record(1, []), record(2, []), 0.5)["instances"]) == 0


def test_blended_objects_stand_in_their_boxes() -> None:
    boxes = [[10.5, 12, 30.5, 28], [40, 40, 45, 45], [0, 0, 60, 60], [20, 0, 52, 11.25]]
    other = record(200, boxes)
    places = set()
    for seed in range(20):
        random.seed(seed)
        torch.manual_seed(seed)
        one = record(100, [[1, 1, 5, 5]])
        mixed = CopyBlend(objects=1, min_area=100)(one, other, 0.45)
        label, box = mixed["instances"].gt_classes[1] - 200, mixed["instances"].gt_boxes.tensor[1]
        assert label in (0, 2, 3), "the second is smaller than 100 square pixels"
        source = torch.tensor(boxes[label])
        shift = box - source
        assert shift[0] == shift[2] == shift[0].round() and shift[1] == shift[3] == shift[1].round()
        assert box.min() >= 0 and box.max() <= 60
        changed = mixed["image"][0] != 100
        assert mixed["image"][0][changed].unique().tolist() == [round(0.45 * 100 + 0.55 * 200)]
        y, x = changed.nonzero().T
        area = torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert len(x) == (area[2] - area[0]) * (area[3] - area[1]), "a rectangle"
        margin = (area - box) * torch.tensor([-1, -1, 1, 1])
        size = (source[2:] - source[:2]).repeat(2)
        assert (margin >= -1e-4).all() and (margin <= 0.25 * size + 1).all()
        places.add(tuple(box.tolist()))
        assert one["image"].unique().tolist() == [100]
    assert len(places) > 10
    assert len(CopyBlend()(record(1, []), record(2, []), 0.5)["instances"]) == 0


def test_windows_hold_from_start_to_stop() -> None:
    flip, crop = v2.RandomHorizontalFlip(1.0), v2.RandomIoUCrop()
    mapper = TorchvisionMapper(
        [], windows=[Window(2, 4, [flip]), Window(5, None, [crop], [MixUp()])]
    )
    names = []
    for mapper.iter in range(7):
        names.append([type(t).__name__ for t in (*mapper.window.transforms, *mapper.window.pairs)])
    late = ["RandomIoUCrop", "MixUp"]
    assert names == [[], [], *[["RandomHorizontalFlip"]] * 2, [], late, late]


WINDOWS = [
    Window(
        0, 3, [v2.RandomChoice([Mosaic(16), v2.RandomZoomOut(fill=0)], p=[0.5, 0.5])], [MixUp()]
    ),
    Window(4, 8, [v2.RandomPhotometricDistort()], [MixUp(0.5), CopyBlend(0.9, min_area=4)]),
]


def loader(coco, windows: list = WINDOWS, **options):
    mapper = TorchvisionMapper(
        [v2.RandomHorizontalFlip(), v2.Resize([24, 24]), v2.SanitizeBoundingBoxes(min_size=1)],
        windows=windows,
    )
    data = load_coco(coco.save(), str(coco.images))
    return build_train_loader(data, mapper, 4, aspect_ratio_grouping=False, seed=3, **options)


def take(iterable, count: int, start: int = 0) -> list[dict]:
    return list(itertools.chain(*itertools.islice(iterable, start, count)))


def assert_same(actual: list[dict], expected: list[dict]) -> None:
    assert len(actual) == len(expected) > 0
    for x, y in zip(actual, expected, strict=True):
        assert x["file_name"] == y["file_name"] and torch.equal(x["image"], y["image"])
        boxes = (z["instances"].gt_boxes.tensor for z in (x, y))
        assert torch.equal(*boxes)
        assert torch.equal(x["instances"].gt_classes, y["instances"].gt_classes)


def test_batches_are_the_same_for_workers_processes_and_resumed_runs(coco, monkeypatch) -> None:
    one = take(loader(coco), 9)
    assert_same(take(loader(coco, num_workers=2), 9), one)
    for start in (2, 6):
        assert_same(take(loader(coco, start_iteration=start), 9 - start), one[4 * start :])
    counts = [len(x["instances"]) for x in one]
    assert max(counts[:12]) > 3 and max(counts[12:16]) == 1 and max(counts[16:32]) > 1
    assert max(counts[32:]) == 1
    for world in (2, 4):
        monkeypatch.setattr(comm, "get_world_size", lambda world=world: world)
        shares = []
        for rank in range(world):
            monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
            shares.append(itertools.islice(iter(loader(coco)), 9))
        assert_same([x for batches in zip(*shares, strict=True) for b in batches for x in b], one)


def test_windows_count_iterations_not_passes(coco) -> None:
    windows = [Window(2, 4, [v2.Resize([5, 5])])]
    data = load_coco(coco.save(), str(coco.images))
    mapper = TorchvisionMapper([], windows=windows)
    batches = build_train_loader(data, mapper, 2, False, seed=3, passes=3, start_iteration=3)
    small = [all(x["image"].shape[1:] == (5, 5) for x in b) for b in itertools.islice(batches, 11)]
    assert small == [False] * 3 + [True] * 6 + [False] * 2


@pytest.mark.parametrize("content", ["nonsense", "too small"])
def test_broken_images_are_no_tiles(coco, content: str) -> None:
    data = load_coco(coco.save(), str(coco.images))
    broken = Path(data[3]["file_name"])
    if content == "nonsense":
        broken.write_bytes(b"nonsense")
    else:
        Image.fromarray(np.zeros((2, 80, 3), dtype=np.uint8)).save(broken)
        data[3].update(width=80, height=2)
    mapper = TorchvisionMapper([v2.Resize([9, 9])], windows=[Window(0, None, [Mosaic(8)])])
    options = dict(total_batch_size=2, aspect_ratio_grouping=False, seed=1)
    made = build_train_loader(data, mapper, skip_broken=True, **options)
    assert len(take(made, 9)) == 18 and made.skipped == {str(broken)}
    with refused(str(broken)):
        take(build_train_loader(data, mapper, **options), 9)


def test_an_image_too_small_for_a_tile_names_the_key() -> None:
    with refused("picture.png", "100 x 3", "dataloader.train.mapper.windows", "size=320"):
        Mosaic(320).tile(sample(100, 3, (0, 0, 9, 2)))


def test_images_of_different_sizes_are_not_mixed() -> None:
    with refused("dataloader.train.mapper.windows", "MixUp", "(60, 60)", "(30, 30)"):
        MixUp()(record(1, []), record(2, [], side=30), 0.5)


def windows_config(*spans: tuple, max_iter: int = 100, **loader: object) -> OmegaConf:
    cfg = get_config("common/train.py")
    cfg.train.max_iter = max_iter
    windows = [L(Window)(start=start, stop=stop) for start, stop in spans]
    mapper = L(TorchvisionMapper)(transforms=[], windows=windows)
    node = L(loader.get("target", build_train_loader))(mapper=mapper)
    cfg.dataloader = {"train": node}
    return cfg


def test_windows_that_touch_or_are_empty() -> None:
    check_windows(windows_config((0, 10), (10, 10), (10, 100)))
    short = windows_config((50, 90), max_iter=20)
    short.train.fast_dev_run.enabled = True
    check_windows(short)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 10), (9, 20)], ["windows.1", "start=9", "10"]),
        ([(20, 30), (0, 10)], ["windows.1", "start=0", "30"]),
        ([(10, 5)], ["windows.0", "stop=5", "start=10"]),
        ([(0, 101)], ["windows.0", "0 to 101", "train.max_iter=100"]),
        ([(0, 5), (101, None)], ["windows.1", "101", "train.max_iter=100"]),
    ],
)
def test_windows_that_a_run_cannot_have_are_named(spans: list, expected: list[str]) -> None:
    with refused("dataloader.train.mapper.", *expected):
        check_windows(windows_config(*spans))


def test_windows_need_the_loader_that_counts() -> None:
    def other(mapper):
        return mapper

    with refused("dataloader.train.mapper.windows.0", "build_train_loader"):
        check_windows(windows_config((0, 5), target=other))


def test_a_built_recipe_maps_an_image(tmp_path) -> None:
    Image.fromarray(sample()["image"].permute(1, 2, 0).numpy()).save(tmp_path / "picture.png")
    box = {"bbox": BOX, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    data = {"file_name": str(tmp_path / "picture.png"), "width": 100, "height": 80, "image_id": 1}
    cfg = get_config("common/recipes/deim.py").dataloader.train
    for window, (start, stop) in zip(cfg.mapper.windows, [(0, 2), (2, 3)], strict=True):
        window.update(start=start, stop=stop)
    made = build_train_loader(
        [{**data, "annotations": [box]}] * 4, instantiate(cfg.mapper), 2, False, seed=4
    )
    batches = list(itertools.islice(made, 4))
    assert all(x["image"].shape == (3, 640, 640) for batch in batches for x in batch)
    counts = [[len(x["instances"]) for x in batch] for batch in batches]
    assert max(max(counts[:2])) > 1 and counts[3] == [1, 1]
