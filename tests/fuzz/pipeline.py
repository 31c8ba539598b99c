"""A spoiled data set through the program's own code, compared with the plain reading."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import itertools
import logging
import math
import re
from types import SimpleNamespace

import numpy as np
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import from_numpy

from detrex.config import get_config
from detrex.data import TrainLoader, register_custom_coco
from detrex.data.coco_format import read_coco
from detrex.data.coco_index import read_all
from detrex.data.oddities import Oddity, find_oddities
from detrex.evaluation import COCOEvaluator
from detrex.modeling.detector import Detector
from detrex.utils.errors import InputError
from tests.fuzz import plain
from tests.fuzz.case import Case

BACKENDS = ("torchvision", "pil")
# COCO's augmentation, an eighth of its size.
RESIZE = L(T.ResizeShortestEdge)(short_edge_length=[60, 80], max_size=166, sample_style="choice")
CROP = L(T.RandomCrop)(crop_type="absolute_range", crop_size=[48, 75])
AUGMENTED = {
    "augmentation": [L(T.RandomFlip)(), RESIZE],
    "augmentation_with_crop": [L(T.RandomFlip)(), RESIZE, CROP, RESIZE],
}


class Wrong(AssertionError):
    """The program did something else than its documentation says."""


def expect(condition: object, message: str) -> None:
    if not condition:
        raise Wrong(message)


class Log(logging.Handler):
    """Collects what the program warns of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> Log:
        logging.getLogger("detrex").addHandler(self)
        return self

    def __exit__(self, *args) -> None:
        logging.getLogger("detrex").removeHandler(self)


def check(case: Case, skip_broken: bool) -> str:
    """Return "survived" or "refused" once both image backends did what the plain reading demands.

    Raises Wrong, or whatever the program raises that is no InputError.
    """
    case.save()
    try:
        data = plain.read(case.json, case.images)
    except plain.Refused:
        data = None
    broken = data is None or any(picture.pixels is None for picture in data.pictures)
    trained = data is not None and any(picture.boxes for picture in data.pictures)
    expect(_passes_the_check(case) == (trained and not broken), "the checker says something else")
    outcomes = {backend: _outcome(case, data, backend, skip_broken) for backend in BACKENDS}
    expect(len(set(outcomes.values())) == 1, f"the backends differ: {outcomes}")
    return outcomes["pil"]


def _passes_the_check(case: Case) -> bool:
    """Whether ``check_dataset.py`` would print a command that trains on the data."""
    try:
        odd = find_oddities(read_all(str(case.json)), case.images)
        read_coco(str(case.json), str(case.images), training=True)
    except InputError:
        return False
    return not odd.keys() & {Oddity.MISSING, Oddity.UNREADABLE, Oddity.OTHER_SIZE}


def _outcome(case: Case, data: plain.Data | None, backend: str, skip_broken: bool) -> str:
    trained = [p for p in data.pictures if p.boxes] if data else []
    broken = {p.id for p in data.pictures if p.pixels is None} if data else set()
    sound = [p for p in trained if p.id not in broken]
    trainable = sound and (skip_broken or sound == trained)
    try:
        with Log() as log:
            config = _register(case, backend, skip_broken)
            expect(data is not None, "accepted, but it is no usable data set")
            _check_log(log.lines, data.dropped)
            _check_training(config.train, trained, broken)
            expect(trainable, "trained, but an image is broken")
            _check_evaluation(config.test, data, case)
            expect(not broken, "evaluated, but an image is broken")
    except InputError as error:
        _check_message(str(error), case)
        expect(not trainable or broken, f"refused, but it is usable: {error}")
        return "refused"
    return "survived"


def _check_message(message: str, case: Case) -> None:
    expect(message.isprintable(), f"not one printable line: {message!r}")
    names = (str(case.json), str(case.images), "no usable image")
    expect(any(name in message for name in names), f"names no file: {message}")


def _check_log(lines: list[str], dropped: int) -> None:
    counts = [int(n) for line in lines for n in re.findall(r"dropped (\d+) box", line)]
    both = [dropped] * 2 if dropped else []  # the data set is train and val
    expect(counts == both, f"{dropped} boxes cannot be used, the log says {counts}: {lines}")
    expect(all(line.isprintable() for line in lines), f"not one printable line: {lines}")


@functools.cache
def _shared_config():
    return get_config("common/data/coco_detr.py").dataloader


def _register(case: Case, backend: str, skip_broken: bool):
    """The shared COCO config on the case's data, without augmentation."""
    config = copy.deepcopy(_shared_config())
    files = {"json": str(case.json), "images": str(case.images)}
    config.dataset.update(name="fuzz", train=files, val=files, skip_broken_images=skip_broken)
    register_custom_coco(config.dataset)
    # Without groups, which keep images waiting, an epoch shows every image.
    config.train.update(total_batch_size=2, num_workers=0, aspect_ratio_grouping=False)
    config.test.num_workers = 0
    for part, name in ((config.train, "fuzz_train"), (config.test, "fuzz_val")):
        part.dataset.names = name
        part.mapper.update(image_backend=backend, augmentation=[], augmentation_with_crop=None)
    return config


def _check_training(node, trained: list[plain.Picture], broken: set[int]) -> None:
    """One epoch without augmentation must give the pictures; then one with it must pass."""
    by_id = {p.id: p for p in trained}
    loader = instantiate(node)
    expect(loader.batches.size == len(trained), f"{loader.batches.size} images to train on")
    for sample in _epoch(loader):
        _compare(sample, by_id[sample["image_id"]])
    skipped = {p.id for p in trained if str(p.path) in map(str, loader.skipped)}
    expect(len(skipped) == len(loader.skipped), f"names of skipped images: {loader.skipped}")
    expect(skipped <= broken, f"skipped {loader.skipped}")
    node.mapper.update(**AUGMENTED)
    for sample in _epoch(instantiate(node)):
        _check_targets(sample)


def _epoch(loader: TrainLoader) -> list[dict]:
    length = math.ceil(loader.batches.size / loader.batches.batch_size)
    return [sample for batch in itertools.islice(loader, length) for sample in batch]


def _compare(sample: dict, picture: plain.Picture) -> None:
    pixels = sample["image"].permute(1, 2, 0).numpy()
    expect(np.array_equal(pixels, picture.pixels), f"other pixels: {picture.path}")
    expect((sample["width"], sample["height"]) == picture.size, f"other size: {picture.path}")
    boxes = np.array(picture.boxes, dtype=np.float64).astype(np.float32)
    found = sample["instances"]
    expect(np.array_equal(found.gt_boxes.tensor.numpy(), boxes), f"other boxes: {picture.path}")
    expect(found.gt_classes.tolist() == picture.classes, f"other classes: {picture.path}")
    _check_targets(sample)


def _check_targets(sample: dict) -> None:
    """What the models train on is finite and within the image."""
    (targets,) = Detector.prepare_targets(SimpleNamespace(device="cpu"), [sample["instances"]])
    boxes = targets["boxes"]
    expect(min(sample["image"].shape) > 0, "an image without pixels")
    expect(((boxes >= 0) & (boxes <= 1)).all(), f"targets outside [0, 1]: {boxes.tolist()}")
    expect((boxes[:, 2:] > 0).all(), f"targets without area: {boxes.tolist()}")


def _check_evaluation(node, data: plain.Data, case: Case) -> None:
    """The boxes themselves as detections must score what pycocotools says of the plain reading."""
    node.mapper.augmentation = [RESIZE]
    evaluator = COCOEvaluator("fuzz_val", case.root / "results", per_class=True)
    by_id = {p.id: p for p in data.pictures}
    for (sample,) in instantiate(node):
        evaluator.process([sample], [{"instances": _detections(by_id[sample["image_id"]])}])
    found = evaluator.evaluate()["bbox"]
    for name, expected in _plain_scores(data).items():
        same = math.isclose(found[name], expected, abs_tol=1e-9)
        both_none = math.isnan(found[name]) and expected < 0
        expect(same or both_none, f"{name} is {found[name]}, should be {expected}")


def _detections(picture: plain.Picture) -> Instances:
    result = Instances((picture.size[1], picture.size[0]))
    boxes = np.array(picture.boxes, dtype=np.float32).reshape(-1, 4)
    result.pred_boxes = Boxes(from_numpy(boxes))
    result.scores = from_numpy(np.linspace(1, 0.5, len(boxes), dtype=np.float32))
    result.pred_classes = from_numpy(np.array(picture.classes, dtype=np.int64))
    return result


def _plain_scores(data: plain.Data) -> dict[str, float]:
    coco, found = COCO(), []
    truth = [{**a, "id": i} for i, a in enumerate((a for p in data.pictures for a in p.scored), 1)]
    coco.dataset = {
        "images": [{"id": p.id} for p in data.pictures],
        "annotations": truth,
        "categories": [{"id": i} for i in data.categories],
    }
    for picture in data.pictures:
        result = _detections(picture)
        boxes = result.pred_boxes.tensor.numpy()
        boxes[:, 2:] -= boxes[:, :2]
        scores = result.scores.tolist()
        for box, score, label in zip(boxes.tolist(), scores, picture.classes, strict=True):
            category = data.categories[label]
            found.append(dict(image_id=picture.id, category_id=category, bbox=box, score=score))
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {"AP": 100 * run.stats[0], "AR100": 100 * run.stats[8]}
