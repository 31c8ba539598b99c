from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from detrex.data import DetrDatasetMapper
from tests.refusals import refused


def record(path, box=(2, 3, 12, 11), size=(40, 30), **extra) -> dict:
    annotation = {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 5, "iscrowd": 0}
    width, height = size
    return {
        "file_name": str(path),
        "image_id": 1,
        "width": width,
        "height": height,
        "annotations": [annotation],
        **extra,
    }


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 255, (30, 40, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


def test_flip_and_resize_values(picture):
    path, pixels = picture
    mapper = DetrDatasetMapper([T.RandomFlip(prob=1.0), T.ResizeShortestEdge(60, 1333)], None)
    out = mapper(record(path))
    assert out["image"].dtype == torch.uint8 and out["image"].shape == (3, 60, 80)
    assert (out["height"], out["width"], out["image_id"]) == (30, 40, 1)
    # Flip: x -> 40 - x; then everything doubles.
    expected = [(40 - 12) * 2, 3 * 2, (40 - 2) * 2, 11 * 2]
    assert out["instances"].gt_boxes.tensor.tolist() == [expected]
    assert out["instances"].gt_classes.tolist() == [5]
    assert out["instances"].image_size == (60, 80)
    plain = DetrDatasetMapper([T.RandomFlip(prob=1.0)], None)(record(path))["image"]
    assert np.array_equal(plain.numpy(), pixels[:, ::-1].transpose(2, 0, 1))


def test_crop_clips_boxes_and_drops_empty_ones(picture):
    path, _ = picture
    item = record(path)
    item["annotations"].append({**item["annotations"][0], "bbox": [30, 20, 39, 29]})
    item["annotations"].append({**item["annotations"][0], "iscrowd": 1})
    crop = T.CropTransform(5, 5, 20, 15)
    out = DetrDatasetMapper([crop], None)(item)
    assert out["instances"].gt_boxes.tensor.tolist() == [[0, 0, 7, 6]]
    assert len(item["annotations"]) == 3, "the given dict must stay as it was"


def test_crop_branch_is_taken_half_of_the_time_and_only_in_training(picture):
    path, _ = picture
    plain, crop = [T.ResizeTransform(30, 40, 30, 40)], [T.CropTransform(0, 0, 10, 10)]
    mapper = DetrDatasetMapper(plain, crop)
    np.random.seed(0)
    expected = [np.random.rand() > 0.5 for _ in range(60)]
    np.random.seed(0)
    assert [mapper(record(path))["image"].shape[1] == 30 for _ in range(60)] == expected
    assert 15 < sum(expected) < 45
    test = DetrDatasetMapper(plain, crop, is_train=False)
    assert {test(record(path))["image"].shape[1] for _ in range(20)} == {30}


def test_evaluation_needs_no_annotations(picture):
    mapper = DetrDatasetMapper([], None, is_train=False)
    item = record(picture[0])
    assert "annotations" not in mapper(item) and "instances" not in mapper(item)
    del item["annotations"]
    assert mapper(item)["image"].shape == (3, 30, 40)


def test_image_without_objects_gives_empty_instances(picture):
    out = DetrDatasetMapper([T.RandomFlip()], None)(record(picture[0], annotations=[]))
    assert out["instances"].gt_boxes.tensor.shape == (0, 4)
    assert out["instances"].gt_classes.shape == (0,)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA"])
def test_other_colour_modes_are_read_as_rgb(tmp_path, mode):
    path = tmp_path / ("x.jpg" if mode in ("L", "CMYK") else "x.png")
    grey = Image.new("RGB", (40, 30), (128, 128, 128))
    (grey.quantize() if mode == "P" else grey.convert(mode)).save(path, quality=100)
    image = DetrDatasetMapper([], None)(record(path))["image"]
    assert image.shape == (3, 30, 40)
    assert (image.int() - 128).abs().max() <= 3


def test_bgr_reverses_the_channels(picture):
    path, pixels = picture
    image = DetrDatasetMapper([], None, img_format="BGR")(record(path))["image"]
    assert np.array_equal(image.numpy(), pixels[:, :, ::-1].transpose(2, 0, 1))


def test_masks_are_kept_when_asked(picture):
    item = record(picture[0])
    item["annotations"][0]["segmentation"] = [[2.0, 3.0, 12.0, 3.0, 12.0, 11.0]]
    assert not DetrDatasetMapper([], None)(item)["instances"].has("gt_masks")
    masks = DetrDatasetMapper([], None, mask_on=True)(item)["instances"].gt_masks
    assert masks.polygons[0][0].tolist() == [2, 3, 12, 3, 12, 11]


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("broken.jpg", (40, 30), "not a readable image"),
        ("truncated.png", (40, 30), "not a readable image"),
        ("absent.jpg", (40, 30), "not a readable image"),
        ("picture.png", (41, 30), "(41, 30)"),  # it has (40, 30)
    ],
)
def test_an_image_that_cannot_be_used_is_named(picture, tmp_path, name, size, reason):
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "truncated.png").write_bytes(picture[0].read_bytes()[:600])
    with refused(f"{tmp_path / name}", reason):
        DetrDatasetMapper([], None)(record(tmp_path / name, size=size))
