import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from detrex.data.sample import files as sample_data
from detrex.data.sample import scene as sample_scene
from detrex.data.sample.files import load_digit_scans, load_photographs, make_sample_data
from detrex.data.sample.scene import LUMA, MAX_COVERED, MIN_CONTRAST, compose, render_stroke
from detrex.utils.errors import InputError
from tests.refusals import refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "data"
    make_sample_data(path, train=12, val=6, seed=3)
    return path


def _digests(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes_other_seed_other_pictures(folder, tmp_path):
    make_sample_data(tmp_path / "again", train=12, val=6, seed=3)
    assert _digests(tmp_path / "again") == _digests(folder)
    make_sample_data(tmp_path / "other", train=1, val=1, seed=4)
    assert (tmp_path / "other/train/000001.jpg").read_bytes() != (
        folder / "train/000001.jpg"
    ).read_bytes()
    assert not list(tmp_path.glob(".*"))  # no temporary folder is left


@pytest.mark.parametrize("split, count", [("train", 12), ("val", 6)])
def test_coco_file_describes_the_pictures(folder, split, count):
    coco = json.loads((folder / f"{split}.json").read_text())
    assert {"info", "licenses", "images", "annotations", "categories"} <= coco.keys()
    assert [c["name"] for c in coco["categories"]] == list("0123456789")
    assert len(coco["images"]) == count == len(list((folder / split).iterdir()))
    for image in coco["images"]:
        with Image.open(folder / split / image["file_name"]) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert picture.size == (image["width"], image["height"]) == (256, 256)
        objects = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        assert 1 <= len(objects) <= 6
        for annotation in objects:
            x, y, w, h = annotation["bbox"]
            assert x >= 0 and y >= 0 and x + w <= 256 and y + h <= 256
            assert 16 <= max(w, h) <= 96
            assert annotation["area"] == w * h and annotation["iscrowd"] == 0
            assert 0 <= annotation["covered"] <= MAX_COVERED
    ids = [a["id"] for a in coco["annotations"]]
    assert len(set(ids)) == len(ids) and min(ids) == 1


def test_train_and_val_share_no_photograph_and_no_digit():
    for a in load_photographs("train"):
        for b in load_photographs("val"):
            assert a.shape != b.shape or np.abs(a - b).mean() > 0.1
    train, val = (load_digit_scans(split)[0].reshape(-1, 64) for split in ("train", "val"))
    assert len(train) + len(val) == 1797
    assert not {scan.tobytes() for scan in train} & {scan.tobytes() for scan in val}


@pytest.mark.parametrize("side", [17, 40, 96])
def test_stroke_is_tight_and_as_long_as_asked(side):
    scans, _ = load_digit_scans("val")
    for scan, tilt in zip(scans[:20], np.linspace(-30, 30, 20), strict=True):
        opacity = render_stroke(scan, side, tilt)
        assert max(opacity.shape) == side
        assert opacity.min() >= 0 and opacity.max() == 1
        for edge in (opacity[0], opacity[-1], opacity[:, 0], opacity[:, -1]):
            assert edge.max() > 0.1
        # as much ink as the scan has, within what a steep ramp does to grey
        assert 0.15 < opacity.mean() < 0.9


def test_boxes_are_tight_around_pixels_that_changed(monkeypatch):
    """Without photographs the stroke is all there is: a plain scan of the pixels finds the box."""
    monkeypatch.setattr(sample_scene, "_cover_one", lambda *args: None)
    grey = [np.full((256, 256, 3), 0.5, dtype=np.float32)]
    for i in range(20):
        scene = compose(np.random.default_rng(i), grey, load_digit_scans("train"), 256)
        changed = np.abs(scene.pixels - 0.5).max(-1) > 0.2
        inside = np.zeros_like(changed)
        for digit in scene.digits:
            x, y, w, h = digit.box
            inside[y : y + h, x : x + w] = True
            if digit.covered == 0:
                rows = changed[y : y + h, x : x + w].any(1)
                assert rows[:2].any() and rows[-2:].any()
        assert not (changed & ~inside).any()


def test_occlusion_is_counted_by_visible_pixels_and_limited():
    photographs, digits = load_photographs("val"), load_digit_scans("val")
    covered = []
    for i in range(40):
        scene = compose(np.random.default_rng(i), photographs, digits, 256)
        covered += [digit.covered for digit in scene.digits]
    assert max(covered) <= MAX_COVERED
    assert 0.03 < np.mean(np.array(covered) > 0.05) < 0.5


def test_ink_stands_out_from_what_is_under_it():
    for i in range(200):
        rng = np.random.default_rng(i)
        under = rng.uniform(0, 1, 3) * np.ones((50, 3))
        ink = sample_scene._ink(rng, under)
        assert ink.min() >= -1e-6 and ink.max() <= 1 + 1e-6
        assert abs((ink - under.mean(0)) @ LUMA) >= MIN_CONTRAST - 1e-4


def test_complete_data_is_reused_and_other_content_is_never_touched(folder, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    meta = make_sample_data(folder, train=12, val=6, seed=3)
    assert meta == json.loads((folder / "sample_data.json").read_text())
    with pytest.raises(InputError, match="holds sample data of"):
        make_sample_data(folder, train=12, val=6, seed=5)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        make_sample_data(tmp_path, train=1, val=1)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_crash_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_data, "compose", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_sample_data(tmp_path / "data", train=1, val=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sizes", "name"),
    [
        ({"train": 0}, "'train': 0"),
        ({"val": 0}, "'val': 0"),
        ({"size": 64}, "'size': 64"),
        ({"seed": -1}, "'seed': -1"),
        ({"train": 12, "val": 6, "seed": 3}, "incomplete: holds"),
    ],
)
def test_senseless_sizes_and_incomplete_data_are_named(folder, tmp_path, sizes, name):
    shutil.copytree(folder, tmp_path / "incomplete")
    (tmp_path / "incomplete/train/000002.jpg").unlink()
    with refused(name):
        make_sample_data(tmp_path / "incomplete", **sizes)
