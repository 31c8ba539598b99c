"""Where tiles lie, which of their boxes stay, and that one tile changes nothing."""

import json
import random

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

import detrex
from detrex.predict import Tiles
from tests.predict.test_predictions import predict
from tests.refusals import refused
from tests.report.fake_runs import write_data, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    write_data(folder)
    write_model(folder, folder)
    return folder


@pytest.mark.parametrize("side, overlap", [(100, 0.2), (64, 0.5), (99, 0), (1, 0.9), (37, 0.9)])
@pytest.mark.parametrize("length", [37, 99, 100, 101, 180, 181, 523])
def test_tiles_cover_the_image_and_overlap(side, overlap, length):
    whole, *tiles = Tiles(side, overlap).windows(50, length)
    columns = sorted({x for x, _ in tiles})
    assert (whole.x[:2], whole.y[:2]) == ((0, length), (0, 50))
    if length <= side and side >= 50:
        assert not tiles
        return
    assert columns[0].start == 0 and columns[-1].stop == length
    assert {x.stop - x.start for x in columns} == {min(side, length)}
    for a, b in zip(columns, columns[1:], strict=False):
        assert (a.after, b.before) == (b.start, a.stop)
        assert a.stop - b.start >= int(overlap * side) and b.start > a.start
    # As few as this overlap allows: one tile less would leave a gap somewhere.
    step = max(1, int(side * (1 - overlap)))
    assert len(columns) == 1 or side + (len(columns) - 2) * step < length


def instances(size, *entries):
    """Entries are (box, score, label)."""
    boxes, scores, labels = zip(*entries, strict=True) if entries else ((), (), ())
    result = Instances(size)
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
    result.scores = torch.tensor(scores, dtype=torch.float32)
    result.pred_classes = torch.tensor(labels, dtype=torch.long)
    return result


# An image of 180 x 100 in two tiles of 100, from 0 and from 80: 20 columns are in both.
LEFT, RIGHT = (0, 0), (80, 0)
WHOLE = None
CASES = {
    "one object in both tiles: the better box": (
        [(LEFT, [82, 10, 97, 30], 0.6, 0), (RIGHT, [83, 10, 97, 30], 0.8, 0)],
        [1],
    ),
    "of two classes": (
        [(LEFT, [82, 10, 97, 30], 0.6, 0), (RIGHT, [83, 10, 97, 30], 0.8, 1)],
        [1, 0],
    ),
    "of one tile, which are the model's own": (
        [(LEFT, [2, 10, 30, 30], 0.6, 0), (LEFT, [3, 10, 30, 30], 0.8, 0)],
        [1, 0],
    ),
    "cut, in the overlap: the neighbour's, whatever the scores": (
        [(LEFT, [90, 10, 100, 30], 0.9, 0), (RIGHT, [90, 10, 120, 30], 0.3, 0)],
        [1],
    ),
    "cut, in the overlap, of the other border": (
        [(RIGHT, [80, 10, 95, 30], 0.9, 0), (LEFT, [60, 10, 95, 30], 0.3, 0)],
        [1],
    ),
    "larger than the overlap: that of the whole image": (
        [(LEFT, [50, 5, 100, 90], 0.7, 0), (RIGHT, [80, 5, 150, 90], 0.6, 0),
         (WHOLE, [50, 5, 150, 90], 0.8, 0)],
        [2],
    ),
    "larger than the overlap, hardly seen in the whole image": (
        [(LEFT, [10, 5, 100, 90], 0.9, 0), (WHOLE, [10, 5, 150, 90], 0.1, 0)],
        [0],
    ),
    "apart": (
        [(LEFT, [10, 10, 30, 30], 0.6, 0), (RIGHT, [140, 10, 160, 30], 0.8, 0)],
        [1, 0],
    ),
    "at the border of the image, which cuts nothing": (
        [(RIGHT, [150, 10, 180, 30], 0.6, 0), (WHOLE, [100, 10, 180, 30], 0.8, 0)],
        [1, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_which_boxes_stay(case):
    entries, expected = CASES[case]
    tiles = Tiles(100, 0.2)
    windows = tiles.windows(100, 180)
    detections = []
    for i, window in enumerate(windows):
        start = (window.x.start, window.y.start)
        shift = np.array(start * 2)
        mine = [e for e in entries if (e[0] == start if i else e[0] is WHOLE)]
        size = window.y.stop - window.y.start, window.x.stop - window.x.start
        detections.append(instances(size, *((list(b - shift), s, c) for _, b, s, c in mine)))
    merged = tiles.merge((100, 180), windows, detections)
    assert merged.image_size == (100, 180)
    stayed = [entries[i] for i in expected]
    assert merged.pred_boxes.tensor.tolist() == [list(map(float, e[1])) for e in stayed]
    assert merged.scores.tolist() == pytest.approx([e[2] for e in stayed])
    assert merged.pred_classes.tolist() == [e[3] for e in stayed]


def plain_merge(windows, detections, side):
    """The rules of the docstring, box by box."""
    boxes, edge = [], side / 100
    for number, (window, found) in enumerate(zip(windows, detections, strict=True)):
        fields = found.pred_boxes.tensor.tolist(), found.scores.tolist(), found.pred_classes
        for (x0, y0, x1, y1), score, label in zip(*fields, strict=True):
            cut = elsewhere = False
            for low, high, (start, stop, before, after) in zip(
                (x0, y0), (x1, y1), window, strict=True
            ):
                low, high = low + start, high + start
                if before > 0 and low <= start + edge:
                    cut, elsewhere = True, elsewhere or high < before - edge
                if after < 1e9 and high >= stop - edge:
                    cut, elsewhere = True, elsewhere or low > after + edge
            dx, dy = window.x.start, window.y.start
            if not elsewhere:
                box = (x0 + dx, y0 + dy, x1 + dx, y1 + dy)
                boxes.append((score, box, int(label), number, cut))
    boxes.sort(key=lambda entry: -entry[0])
    stay = []
    for entry in boxes:
        if not any(covers(better, entry) for better in stay):
            stay.append(entry)
    return [entry[:3] for entry in stay]


def covers(better, entry):
    (*_, a, label, number, _), (*_, b, other_label, other_number, cut) = better, entry
    if label != other_label or number == other_number:
        return False
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    common = width * height
    return common / (area_a + area_b - common) > 0.5 or (cut and common / area_b > 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_merging_is_the_plain_loop(seed):
    draw, tiles, size = random.Random(seed), Tiles(40, 0.3), (70, 90)
    windows, detections = tiles.windows(*size), []
    for x, y in windows:
        width, height = x.stop - x.start, y.stop - y.start
        entries = []
        for _ in range(30):
            x0, y0 = draw.uniform(0, width - 6), draw.uniform(0, height - 6)
            corner = min(width, x0 + draw.uniform(5, 30)), min(height, y0 + draw.uniform(5, 30))
            entries.append(([x0, y0, *corner], draw.random(), draw.randrange(2)))
        detections.append(instances((height, width), *entries))
    merged = tiles.merge(size, windows, detections)
    expected = plain_merge(windows, detections, 40)
    assert 50 < len(merged) < sum(map(len, detections)) - 50
    assert merged.scores.tolist() == pytest.approx([score for score, *_ in expected])
    assert merged.pred_classes.tolist() == [label for *_, label in expected]
    torch.testing.assert_close(
        merged.pred_boxes.tensor, torch.tensor([box for _, box, _ in expected])
    )


def equal(a, b):
    return a.image_size == b.image_size and all(
        torch.equal(x, y)
        for x, y in (
            (a.pred_boxes.tensor, b.pred_boxes.tensor),
            (a.scores, b.scores),
            (a.pred_classes, b.pred_classes),
        )
    )


def test_one_tile_is_plain_prediction(folder):
    predictor = detrex.Predictor(folder / "config.yaml", folder / "model.pth", threshold=0)
    files = [folder / f"val/{i}.jpg" for i in range(3)]
    plain = [predictor(file) for file in files]
    for side in (60, 1024):
        predictor.tiles = Tiles(side)
        merged = predictor(files)
        assert all(equal(*pair) for pair in zip(merged, plain, strict=True))


def test_tiles_are_predicted_like_images(folder):
    predictor = detrex.Predictor(folder / "config.yaml", folder / "model.pth", threshold=0)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    tiles = Tiles(64, 0.25)
    windows = tiles.windows(70, 90)
    views = [pixels[y.start : y.stop, x.start : x.stop] for x, y in windows]
    assert [view.shape[:2] for view in views] == [(70, 90)] + [(64, 64)] * 4
    expected = tiles.merge((70, 90), windows, predictor(views))
    predictor.tiles = tiles
    merged = predictor(pixels)
    assert equal(merged, expected) and len(merged) > 20


def test_the_command_cuts_large_images_and_names_small_ones(folder, tmp_path, monkeypatch, capsys):
    options = "-o", tmp_path, "--json", tmp_path / "found.json", "--threshold", 0
    pixels = np.random.default_rng(0).integers(0, 256, (60, 120, 3), np.uint8)
    large = tmp_path / "large.png"
    Image.fromarray(pixels).save(large)
    predict(monkeypatch, folder, folder / "val/0.jpg", large, *options, "--tile", 64)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--tile 64: 1 of 2 images" in error
    records = json.loads((tmp_path / "found.json").read_text())
    predictor = detrex.Predictor(folder / "config.yaml", folder / "model.pth", threshold=0)
    predictor.tiles = Tiles(64, 0.2)
    assert records[1]["detections"] == predictor.to_dict(predictor(pixels))["detections"]


def test_numbers_that_are_no_tiles():
    with refused("side 0"):
        Tiles(0)
    for overlap in (-0.1, 1.0, float("nan")):
        with refused(f"overlap {overlap}"):
            Tiles(64, overlap)


def test_only_some_classes(folder, tmp_path, monkeypatch, capsys):
    predictor = detrex.Predictor(folder / "config.yaml", folder / "model.pth", threshold=0)
    image = folder / "val/1.jpg"
    everything = predictor(image)
    predictor.only(["Cat"])
    cats = everything[everything.pred_classes == 0]
    assert 0 < len(cats) < len(everything) and equal(predictor(image), cats)
    with refused("'cta'", "cat"):
        predictor.only(["cta"])
    found = tmp_path / "found.json"
    predict(monkeypatch, folder, image, "-o", tmp_path, "--json", found, "--classes", "cat")
    (record,) = json.loads(found.read_text())
    assert {entry["class"] for entry in record["detections"]} <= {"cat"}
