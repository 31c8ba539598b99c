import io
import json
import shutil

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

import detrex
from detrex.checkpoint import files as files_of_checkpoints
from detrex.config import config_yaml
from detrex.config.load import load_config
from detrex.data.image import as_pixels
from detrex.predict.predictor import registered_data_set
from detrex.predict.selection import Selection
from detrex.train import main
from detrex.utils.errors import InputError
from tests.report.fake_runs import CLASSES, write_model

SIZES = [(60, 40), (40, 60), (60, 40), (52, 52), (60, 40)]  # width, height


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Rank-DETR with its config and five images of noise, three of one size."""
    folder = tmp_path_factory.mktemp("predictor")
    (folder / "val").mkdir()
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"val/{i}.jpg")
    images = [
        {"id": i, "file_name": f"{i}.jpg", "width": w, "height": h}
        for i, (w, h) in enumerate(SIZES)
    ]
    box = {"id": 1, "image_id": 0, "category_id": 3, "bbox": [5, 5, 20, 20], "area": 400}
    categories = [{"id": 3, "name": CLASSES[0]}, {"id": 7, "name": CLASSES[1]}]
    coco = {"images": images, "annotations": [{**box, "iscrowd": 0}], "categories": categories}
    (folder / "val.json").write_text(json.dumps(coco))
    write_model(folder, folder)
    return folder


@pytest.fixture(scope="module")
def files(folder):
    return [folder / f"val/{i}.jpg" for i in range(len(SIZES))]


@pytest.fixture(scope="module")
def predictor(folder):
    return detrex.Predictor(folder / "config.yaml", folder / "model.pth", threshold=0)


def assert_close(found, expected, tolerance=1e-6):
    """Scores, and boxes in parts of the image."""
    height, width = expected.image_size
    size = torch.tensor([width, height] * 2)
    assert found.image_size == expected.image_size and len(found) == len(expected)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=tolerance)
    boxes = found.pred_boxes.tensor / size, expected.pred_boxes.tensor / size
    torch.testing.assert_close(*boxes, rtol=0, atol=tolerance)
    assert found.pred_classes.tolist() == expected.pred_classes.tolist()


def test_a_checkpoint_is_read_once(folder, monkeypatch):
    read, paths = files_of_checkpoints._read_torch, []
    monkeypatch.setattr(
        files_of_checkpoints, "_read_torch", lambda path: (paths.append(path), read(path))[1]
    )
    detrex.Predictor(folder / "config.yaml", folder / "model.pth")
    assert paths == [folder / "model.pth"]


def test_predictions_are_those_of_eval_only(folder, files, predictor, tmp_path):
    main([
        "--config-file", str(folder / "config.yaml"), "--eval-only", "train.device=cpu",
        f"train.init_checkpoint={folder / 'model.pth'}", f"train.output_dir={tmp_path}",
        "dataloader.test.num_workers=0",
    ])  # fmt: skip
    results = json.loads((tmp_path / "coco_instances_results.json").read_text())
    for i, found in enumerate(predictor(files)):
        expected = Instances(SIZES[i][::-1])
        mine = [entry for entry in results if entry["image_id"] == i]
        boxes = torch.tensor([entry["bbox"] for entry in mine])
        boxes[:, 2:] += boxes[:, :2]
        expected.pred_boxes = Boxes(boxes)
        expected.scores = torch.tensor([entry["score"] for entry in mine])
        labels = [{3: 0, 7: 1}[entry["category_id"]] for entry in mine]
        expected.pred_classes = torch.tensor(labels)
        assert len(mine) == 20
        assert_close(found, expected)


def test_a_batch_is_of_one_size_and_results_keep_their_order(files, predictor, monkeypatch):
    batches, model = [], predictor.model

    def watched(inputs):
        batches.append([tuple(x["image"].shape[1:]) for x in inputs])
        return model(inputs)

    monkeypatch.setattr(predictor, "model", watched)
    with pytest.raises(InputError, match="batch_size 0: give 1 or more"):
        predictor(files, batch_size=0)
    together = predictor(files, batch_size=2)
    assert sorted(batches) == sorted([[(64, 96)] * 2, [(64, 96)], [(96, 64)], [(64, 64)]])
    for file, found in zip(files, together, strict=True):
        assert_close(predictor(file), found)
    assert predictor([]) == []


def test_any_kind_of_image_gives_the_same(files, predictor):
    image = Image.open(files[0])
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    kinds = [str(files[0]), files[0].read_bytes(), image, array, tensor]
    for found in predictor(kinds):
        assert_close(found, predictor(files[0]))


def test_layers_end_with_what_the_model_finds(files, predictor):
    first, last = predictor.layers(files[1])
    assert_close(last, predictor(files[1]))
    assert not torch.equal(first.scores, last.scores)


def test_only_scores_over_the_threshold_best_first(folder, predictor, monkeypatch):
    found = Instances((8, 8), scores=torch.tensor([0.2, 0.9, 0.5]))
    found.pred_boxes = Boxes(torch.arange(12.0).view(3, 4))
    found.pred_classes = torch.tensor([0, 1, 0])
    monkeypatch.setattr(predictor, "model", lambda inputs: [{"instances": found}])
    monkeypatch.setattr(predictor, "selection", Selection(0.5))
    kept = predictor(np.zeros((8, 8, 3), np.uint8))
    assert predictor.labelled(kept) == [
        ([4, 5, 6, 7], CLASSES[1], pytest.approx(0.9)), ([8, 9, 10, 11], CLASSES[0], 0.5),
    ]  # fmt: skip
    assert predictor.to_dict(kept)["detections"][1] == {
        "class": CLASSES[0], "label": 0, "score": 0.5, "box": [8, 9, 10, 11],
        "category_id": None, "bbox": [8, 9, 2, 2],
    }  # fmt: skip


def test_a_config_may_want_bgr(folder, tmp_path):
    text = (folder / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("img_format: RGB", "img_format: BGR"))
    bgr = detrex.Predictor(tmp_path / "config.yaml", folder / "model.pth")
    red = np.full((64, 64, 3), (255, 0, 7), np.uint8)
    assert bgr.inputs(red)["image"][:, 0, 0].tolist() == [7, 0, 255]


def test_names_of_classes(folder, tmp_path):
    weights = torch.load(folder / "model.pth")["model"]
    torch.save({"model": weights}, tmp_path / "nameless.pth")
    shutil.copy(folder / "config.yaml", tmp_path)
    assert detrex.Predictor(None, folder / "model.pth").name(1) == CLASSES[1]
    assert detrex.Predictor(None, tmp_path / "nameless.pth").name(1) == "1"


def test_names_of_a_known_data_set():
    config = load_config("projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py")
    assert registered_data_set(config).classes[:2] == ["person", "bicycle"]
    config.model.num_classes = 91
    assert registered_data_set(config) is None


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_supervision(files, predictor):
    pytest.importorskip("supervision")
    found = predictor(files[0])
    detections = predictor.to_supervision(found)
    assert np.array_equal(detections.xyxy, found.pred_boxes.tensor.numpy())
    assert np.array_equal(detections.confidence, found.scores.numpy())
    names = [CLASSES[label] for label in found.pred_classes]
    assert detections.data["class_name"].tolist() == names and len(set(names)) == 2
    assert len(predictor.to_supervision(found[:0])) == 0


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "checkpoint", "given", "message"),
    [
        (None, "gone.pth", {}, "gone.pth not found"),
        ("gone.yaml", "model.pth", {}, "gone.yaml"),
        (None, "val/0.jpg", {}, "0.jpg is an image"),
        ("five.yaml", "model.pth", {}, r"num_classes=5, but .*model.pth has 2 classes \(cat"),
        ("five.yaml", "other.pth", {}, r"of another shape \(.*is it of this config"),
        (None, "model.pth", {"device": "gpu7"}, "device=gpu7: give one of auto, "),
        (None, "model.pth", {"threshold": 30}, "threshold 30: scores are numbers between 0 and 1"),
        (None, "model.pth", {"threshold": "0.5"}, "threshold '0.5': scores are numbers"),
        ("no_mapper.yaml", "model.pth", {}, "must be a DetrDatasetMapper: it is a NoneType"),
    ],
)
def test_models_that_cannot_be(folder, config, checkpoint, given, message):
    unnamed = torch.load(folder / "model.pth")["model"]
    torch.save({"model": unnamed}, folder / "other.pth")
    text = (folder / "config.yaml").read_text()
    (folder / "five.yaml").write_text(text.replace("num_classes: 2", "num_classes: 5"))
    cfg = load_config(str(folder / "config.yaml"))
    cfg.dataloader.test.mapper = None
    (folder / "no_mapper.yaml").write_text(config_yaml(cfg))
    with pytest.raises(InputError, match=message) as error:
        detrex.Predictor(config and folder / config, folder / checkpoint, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("/gone.jpg", "^/gone.jpg: not a readable image"),
        (b"text", "^image 1: not a readable image"),
        (np.zeros((8, 8, 3)), r"float64 values of shape \(8, 8, 3\): arrays must be uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"shape \(2, 8, 8, 3\)"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), "tensors uint8"),
        (np.zeros((0, 8, 3), np.uint8), "it has no pixels"),
        (None, "object values of shape"),
    ],
)
def test_images_that_are_none(predictor, image, message):
    with pytest.raises(InputError, match=message):
        predictor([np.zeros((8, 8), np.uint8), image])


# --- pixels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("png", mode) for mode in ("RGB", "L", "P", "RGBA")]
    + [("jpeg", mode) for mode in ("RGB", "L", "CMYK")],
)
def test_pixels_of_every_mode(kind, mode):
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind)
    expected = np.asarray(Image.open(stream).convert("RGB"))
    assert np.array_equal(as_pixels(stream.getvalue()), expected)
    assert np.array_equal(as_pixels(Image.open(stream)), expected)


def test_exif_turns_the_image():
    image = Image.new("RGB", (24, 16))
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    stream = io.BytesIO()
    image.save(stream, "jpeg", exif=exif)
    for given in (stream.getvalue(), Image.open(stream)):
        assert as_pixels(given).shape == (24, 16, 3)
    assert as_pixels(np.zeros((16, 24), np.uint8)).shape == (16, 24, 3)
    assert as_pixels(torch.zeros(1, 16, 24, dtype=torch.uint8)).shape == (16, 24, 3)
