"""The mapper's two image backends against each other, PIL and detectron2's own functions."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from fvcore.transforms import ScaleTransform
from PIL import Image

from benchmarks.baseline.data import plain_mapper
from detrex.data import DetrDatasetMapper, image
from detrex.utils.errors import InputError

WIDTH, HEIGHT = 120, 90
PIXELS = np.random.RandomState(0).randint(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encoded(mode: str = "RGB", **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(stream, **{"format": "JPEG", **options})
    return stream.getvalue()


@pytest.fixture
def file(tmp_path):
    def write(content: bytes) -> str:
        path = tmp_path / "picture.jpg"
        path.write_bytes(content)
        return str(path)

    return write


@pytest.fixture
def by_pil(monkeypatch) -> list[str]:
    """The files that were left to PIL."""
    asked, original = [], image._decode_by_pil

    def decode(stream, image_format):
        asked.append(stream.name)
        return original(stream, image_format)

    monkeypatch.setattr(image, "_decode_by_pil", decode)
    return asked


def annotated(path: str, boxes, mode=BoxMode.XYWH_ABS, **extra) -> dict:
    annotations = [
        {"bbox": box, "bbox_mode": mode, "category_id": i, "iscrowd": int(i == 3), **extra}
        for i, box in enumerate(boxes)
    ]
    size = {"width": WIDTH, "height": HEIGHT}
    return {"file_name": path, "image_id": 1, **size, "annotations": annotations}


def random_boxes(count: int = 8) -> list[list[float]]:
    corners = np.random.RandomState(1).rand(count, 2, 2) * (WIDTH, HEIGHT)
    return np.concatenate([corners.min(1), np.ptp(corners, axis=1)], axis=1).tolist()


def augmentations() -> tuple[list, list]:
    resize = T.ResizeShortestEdge([50, 90, 140, 200], max_size=250, sample_style="choice")
    small = T.ResizeShortestEdge([60, 100], sample_style="choice")
    crop = T.RandomCrop("absolute_range", (20, 60))
    return [T.RandomFlip(), resize], [T.RandomFlip(), small, crop, resize]


@pytest.mark.parametrize("mode", [BoxMode.XYWH_ABS, BoxMode.XYXY_ABS])
def test_both_backends_draw_and_move_as_detectron2(file, mode):
    record = annotated(file(encoded(quality=95)), random_boxes(), mode)
    mappers = [DetrDatasetMapper(*augmentations(), image_backend=b) for b in ("torchvision", "pil")]
    dropped = 0
    for seed in range(40):
        np.random.seed(seed)
        expected = plain_mapper(record, *augmentations())
        state = np.random.get_state()[2]
        for mapper, levels in zip(mappers, (1, 0), strict=True):
            np.random.seed(seed)
            found = mapper(record)
            assert np.random.get_state()[2] == state, "the draws differ"
            assert found["image"].dtype == torch.uint8
            difference = found["image"].int() - expected["image"].int()
            assert difference.abs().max() <= levels
            boxes, classes = found["instances"].gt_boxes, found["instances"].gt_classes
            assert torch.equal(boxes.tensor, expected["instances"].gt_boxes.tensor)
            assert torch.equal(classes, expected["instances"].gt_classes)
            assert found["instances"].image_size == found["image"].shape[1:]
        dropped += len(classes) < 7
    assert 0 < dropped < 40  # the crop branch was taken, and not always


JPEGS = {
    "4:2:0": {"subsampling": 2},
    "4:4:4": {"subsampling": 0, "quality": 100},
    "progressive": {"progressive": True},
    "low quality": {"quality": 5},
    "grey": {"mode": "L"},
    "rgb": {"keep_rgb": True},
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_jpegs_decode_as_with_pil(file, by_pil, options):
    content = encoded(**options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(image.read_image(file(content), "RGB"), expected)
    assert np.array_equal(image.read_image(file(content), "BGR"), expected[:, :, ::-1])
    assert not by_pil


@pytest.mark.parametrize("orientation", range(1, 10))
def test_exif_orientation(file, by_pil, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = file(encoded(exif=exif))
    found = image.read_image(path, "RGB")
    assert not by_pil
    assert np.array_equal(found, detection_utils.read_image(path, "RGB"))
    assert (found.shape[:2] == (WIDTH, HEIGHT)) == (orientation in (5, 6, 7, 8))


def test_xmp_orientation(file):
    path = file(encoded(xmp=XMP))
    found = image.read_image(path, "RGB")
    assert found.shape == (WIDTH, HEIGHT, 3)
    assert np.array_equal(found, detection_utils.read_image(path, "RGB"))


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"></x:xmpmeta>'
BY_PIL = {
    "cmyk": {"mode": "CMYK"},
    "png": {"format": "PNG"},
}


@pytest.mark.parametrize("options", BY_PIL.values(), ids=BY_PIL)
def test_the_rest_is_read_by_pil(file, by_pil, options):
    path = file(encoded(**options))
    found = image.read_image(path, "RGB")
    assert by_pil == [path]
    assert np.array_equal(found, detection_utils.read_image(path, "RGB"))
    assert found.shape == (HEIGHT, WIDTH, 3)


def test_a_torchvision_without_decoders_leaves_reading_to_pil(file, by_pil, monkeypatch):
    monkeypatch.setattr(image, "decode_jpeg", None)
    path = file(encoded())
    found = DetrDatasetMapper([T.ResizeTransform(HEIGHT, WIDTH, 45, 60)], None)(annotated(path, []))
    assert by_pil == [path] and found["image"].shape == (3, 45, 60)


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
@pytest.mark.parametrize("part", [20, 700, -1])
def test_truncated_jpeg_is_one_line(file, backend, part):
    path = file(encoded()[:part])
    mapper = DetrDatasetMapper([], None, image_backend=backend)
    with pytest.raises(InputError, match=rf"^{path}: not a readable image \(.+\)$"):
        mapper(annotated(path, []))


@pytest.mark.parametrize("size", [(9, 12), (45, 300), (90, 121), (450, 600), (1, 1)])
def test_resize_is_within_one_grey_level_of_pil(size):
    move = T.ResizeTransform(HEIGHT, WIDTH, *size)
    found, expected = image.apply_image(move, PIXELS), move.apply_image(PIXELS)
    assert found.shape == (*size, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


class Negative(T.ResizeTransform):
    def apply_image(self, img, interp=None):
        return 255 - img


EXACT = {
    "nearest": T.ResizeTransform(HEIGHT, WIDTH, 40, 50, Image.NEAREST),
    "bicubic": T.ResizeTransform(HEIGHT, WIDTH, 40, 50, Image.BICUBIC),
    "subclass": Negative(HEIGHT, WIDTH, 40, 50),
    "vertical flip": T.VFlipTransform(HEIGHT),
    "horizontal flip": T.HFlipTransform(WIDTH),
    "list": T.TransformList([T.HFlipTransform(WIDTH), T.CropTransform(3, 4, 50, 40)]),
    "pad": T.PadTransform(1, 2, 3, 4),
    "float": ScaleTransform(HEIGHT, WIDTH, 40, 50, "bilinear"),
    "same size": T.ResizeTransform(HEIGHT, WIDTH, HEIGHT, WIDTH),
}


@pytest.mark.parametrize("move", EXACT.values(), ids=EXACT)
def test_other_transforms_are_detectron2s(file, move):
    record = annotated(file(encoded()), random_boxes())
    fast, plain = (
        DetrDatasetMapper([move], None, image_backend=backend)(record)
        for backend in ("torchvision", "pil")
    )
    assert torch.equal(fast["image"], plain["image"])
    expected = move.apply_image(detection_utils.read_image(record["file_name"], "RGB"))
    assert np.array_equal(fast["image"].permute(1, 2, 0).numpy(), expected)


def test_layout_and_memory(file):
    record = annotated(file(encoded()), [])
    for move in (T.CropTransform(3, 4, 50, 40), T.HFlipTransform(WIDTH)):
        fast = DetrDatasetMapper([move], None)(record)["image"]
        plain = DetrDatasetMapper([move], None, image_backend="pil")(record)["image"]
        assert fast.permute(1, 2, 0).is_contiguous() and plain.is_contiguous()
        # a sample that goes to another process must not take the uncropped image along
        assert fast.untyped_storage().nbytes() == fast.numel()


def test_wrong_size_for_a_resize_is_still_refused():
    with pytest.raises(AssertionError):
        image.apply_image(T.ResizeTransform(HEIGHT + 1, WIDTH, 40, 50), PIXELS)


def test_unknown_backend():
    with pytest.raises(InputError, match="image_backend='cv2' is unknown: use torchvision or pil"):
        DetrDatasetMapper([], None, image_backend="cv2")


def test_boxes_of_integers_are_not_rounded_down(file):
    record = annotated(file(encoded()), [[2, 3, 11, 9]], BoxMode.XYXY_ABS)
    other = annotated(file(encoded()), [[5.5, 3.0, 10.0, 20.0]], BoxMode.XYWH_ABS)
    record["annotations"] += other["annotations"]  # two box modes in one image
    found = DetrDatasetMapper([T.ResizeTransform(HEIGHT, WIDTH, 45, 60)], None)(record)
    expected = [[1, 1.5, 5.5, 4.5], [2.75, 1.5, 7.75, 11.5]]
    assert found["instances"].gt_boxes.tensor.tolist() == expected


def test_an_object_without_a_mask_is_dropped_when_masks_are_kept(file):
    record = annotated(file(encoded()), [[0, 0, 60, 60], [0, 0, 60, 60], [5, 5, 0, 9]])
    triangle = [[0.0, 0.0, 60.0, 0.0, 0.0, 60.0]]
    for annotation, polygon in zip(record["annotations"], ([], triangle, triangle), strict=True):
        annotation["segmentation"] = polygon
    flip = T.HFlipTransform(WIDTH)
    found = DetrDatasetMapper([flip], None, mask_on=True)(record)["instances"]
    assert found.gt_boxes.tensor.tolist() == [[60, 0, 120, 60]]
    assert found.gt_classes.tolist() == [1]
    assert [polygon[0].tolist() for polygon in found.gt_masks] == [[120, 0, 60, 0, 120, 60]]


def test_augmentations_of_a_config_hold_plain_lists_and_stay_as_they_were():
    config = L(DetrDatasetMapper)(
        augmentation=[L(T.ResizeShortestEdge)(short_edge_length=[4, 8], sample_style="choice")],
        augmentation_with_crop=None,
    )
    assert type(instantiate(config).augmentation[0].short_edge_length) is list
    resize = T.ResizeShortestEdge((4, 8))
    resize.short_edge_length = instantiate(config.augmentation)[0].short_edge_length
    before = resize.short_edge_length
    DetrDatasetMapper([resize], None)
    assert resize.short_edge_length is before and type(before) is not list


def test_16_bits_keep_their_upper_half(file):
    deep = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 6
    stream = io.BytesIO()
    Image.fromarray(deep).save(stream, "PNG")
    path = file(stream.getvalue())
    for found in (image.read_image(path, "RGB"), image.as_pixels(stream.getvalue())):
        assert np.array_equal(found, np.repeat(deep[..., None] // 256, 3, axis=2))


def test_no_memory_is_taken_for_what_a_header_announces(file):
    content = bytearray(encoded())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = b"\xff\xdc\xff\xdc"
    with pytest.raises(Image.DecompressionBombError):
        image.read_image(file(bytes(content)), "RGB")


def test_damaged_png_is_not_read_as_black_rows(file):
    content = bytearray(encoded(format="PNG"))
    content[len(content) // 2] ^= 255
    with pytest.raises(OSError):
        image.read_image(file(bytes(content)), "RGB")


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
@pytest.mark.parametrize("limit", [{"max_size": 133}, {}])
def test_resizing_a_line_leaves_a_picture(backend, limit):
    mapper = DetrDatasetMapper([T.ResizeShortestEdge(80, **limit)], None, image_backend=backend)
    found, transforms = mapper.augment(np.full((1, 20000, 3), 7, dtype=np.uint8))
    assert min(found.shape) > 0 and found.numel() <= 3 * image.MAX_PIXELS
    corners = transforms.apply_box(np.array([[0, 0, 20000, 1]]))[0]
    assert np.allclose(corners, [0, 0, found.shape[2], found.shape[1]])
