import json
import os
import runpy
import sys

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from PIL import Image
from torchvision.transforms import v2

from detrex.data import DetrDatasetMapper, TorchvisionMapper, Window
from detrex.evaluation.coco_json import load_ground_truth
from detrex.inspect import pictures
from detrex.inspect.query_paths import query_indices, query_paths
from detrex.predict.predictor import Predictor
from detrex.predict.video import draw_video
from detrex.utils.errors import InputError
from tests import models
from tests.predict.clips import write_clip
from tests.report.fake_runs import CLASSES, detection, write_data, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, detections, and a small untrained Rank-DETR of two decoder layers with its config."""
    folder = tmp_path_factory.mktemp("looking")
    write_data(folder / "data")
    detections = [detection(1, 7, [0, 0, 30, 30], 0.9), detection(1, 3, [40, 10, 10, 10], 0.2)]
    (folder / "results.json").write_text(json.dumps(detections))
    (folder / "other.json").write_text(json.dumps([{**detections[0], "image_id": 99}]))
    (folder / "none.json").write_text("[]")
    write_model(folder, folder / "data")
    return folder


@pytest.fixture(scope="module")
def predictor(folder):
    return Predictor(None, folder / "model.pth", threshold=0)


# --- models -----------------------------------------------------------------------------------


def test_indices_follow_queries_through_new_orders():
    orders = [torch.tensor([[2, 0, 1]]), torch.tensor([[1, 2, 0]])]  # cab, then abc
    assert [p.tolist() for p in query_indices(orders, 3, 3)] == [[0, 1, 2], [1, 2, 0], [0, 1, 2]]
    assert [p.tolist() for p in query_indices([], 2, 3)] == [[0, 1, 2]] * 2


def test_paths_follow_each_query_through_the_ranking(folder, predictor):
    image = folder / "data/val/1.jpg"
    paths = query_paths(predictor, image)
    assert len(paths) == 10
    for layer in range(2):
        by_rank = sorted(paths, key=lambda p: p.ranks[layer])
        scores = [p.detections[layer].score for p in by_rank]
        assert scores == sorted(scores, reverse=True)
    assert any(p.ranks[0] != p.ranks[1] for p in paths)
    assert paths[0].detections[-1].score == pytest.approx(predictor(image).scores[0].item())
    # The box heads of an untrained model are zero: no query moves, whatever its rank becomes.
    assert len({tuple(p.detections[0].box) for p in paths}) > 1
    for path in paths:
        assert path.detections[0].box == pytest.approx(path.detections[1].box, abs=1e-3)


def test_a_model_without_queries_cannot_be_followed(predictor, monkeypatch):
    monkeypatch.setattr(predictor, "model", torch.nn.Identity())
    with pytest.raises(InputError, match="queries of a Identity cannot be followed"):
        query_paths(predictor, np.zeros((8, 8, 3), np.uint8))


# --- pictures ---------------------------------------------------------------------------------


def test_tiles_of_one_and_of_several_detectors(folder):
    truth = load_ground_truth(folder / "data/val.json")
    samples = pictures.dataset_samples(truth, folder / "data/val", count=2)
    assert [s.title for s in samples] == ["0.jpg", "1.jpg"]
    assert samples[0].truth == [((10, 10, 30, 30), "cat")]
    source = pictures.results_source(folder / "results.json", truth, threshold=0.3)
    one = list(pictures.side_by_side(samples, [source]))
    assert [len(item.predictions) for item in one] == [0, 1]
    assert one[1].predictions == [((0, 0, 30, 30), CLASSES[1], 0.9)] and len(one[1].truth) == 2
    two = list(pictures.side_by_side(samples, [source, source]))
    assert [bool(item.truth) for item in two] == [True, False, False] * 2
    assert two[1].title.endswith("/results") and two[4].predictions == one[1].predictions


@pytest.mark.parametrize(
    ("length", "count", "expected"), [(3, 16, "abc"), (3, 3, "abc"), (6, 2, "ad"), (0, 4, "")]
)
def test_spread_shows_no_entry_twice(length, count, expected):
    assert pictures.spread("abcdef"[:length], count) == list(expected)


def test_augmented_boxes_move_with_the_image(folder):
    mapper = DetrDatasetMapper([T.RandomFlip(prob=1.0)], None, img_format="BGR")
    files = str(folder / "data/val.json"), str(folder / "data/val")
    first = next(pictures.augmented(mapper, *files, count=3))
    assert first.truth == [([30.0, 10.0, 50.0, 30.0], "cat")]  # 60 wide, mirrored
    assert np.abs(np.array(first.image.getpixel((5, 5))) - (0, 90, 120)).max() < 4  # RGB again


def test_every_window_has_its_pictures(folder):
    windows = [Window(2, 4, [v2.RandomHorizontalFlip(1.0)]), Window(4, 6, [v2.Resize([20, 30])])]
    files = str(folder / "data/val.json"), str(folder / "data/val")
    mapper = TorchvisionMapper([], windows=windows)
    items = list(pictures.augmented(mapper, *files, count=3, max_iter=10))
    assert [item.title.split(", ")[1] for item in items[::3]] == [
        f"iterations {span}" for span in ("0 to 1", "2 to 3", "4 to 5", "6 to 9")
    ]
    boxes = [item.truth[0][0] for item in items[::3]]
    assert boxes[0] == boxes[3] == [10.0, 10.0, 30.0, 30.0] and boxes[1] == [30.0, 10.0, 50.0, 30.0]
    assert [item.image.size for item in items[::3]][1:3] == [(60, 40), (30, 20)]


def test_layers_have_a_colour_for_each_query(folder, predictor):
    sample = pictures.Sample(folder / "data/val/1.jpg", "1.jpg")
    truth, first, last = pictures.by_layer([sample], predictor, count=3)
    assert (truth.title, first.title, last.title) == ("1.jpg", "layer 1", "layer 2")
    assert [color for _, _, color in first.others] == [color for _, _, color in last.others]
    assert [label.split()[0] for _, label, _ in last.others] == ["#3", "#2", "#1"]


def test_video_has_every_frame_and_a_view_for_each_detector(tmp_path):
    av = pytest.importorskip("av")
    write_clip(tmp_path / "in.mp4", [0, 60, 120, 180])

    def left(sample, image):
        return [((8, 24, 40, 40), "cat", 0.9)]

    detectors = [("left", left), ("right", lambda sample, image: [])]
    assert draw_video(tmp_path / "in.mp4", tmp_path / "out.mp4", detectors) == 4
    with av.open(str(tmp_path / "out.mp4")) as reader:
        frames = [np.asarray(f.to_image()).astype(int) for f in reader.decode(video=0)]
        assert reader.streams.video[0].average_rate == 10
    assert len(frames) == 4 and frames[0].shape == (360, 960, 3)  # small ones are enlarged
    assert frames[3][337, 450:510, 0].min() > 130  # both views show the frame
    assert frames[3][240, 59:64, 1].max() > frames[3][240, 539:544, 1].max() + 40  # a box in one


def test_only_containers_of_video_are_read(tmp_path):
    """Playlists would have other files and addresses read."""
    pytest.importorskip("av")
    write_clip(tmp_path / "in.mp4", [0, 60])
    lines = "#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", "in.mp4", "#EXT-X-ENDLIST", ""
    (tmp_path / "list.mp4").write_text("\n".join(lines))
    os.mkfifo(tmp_path / "fifo.mp4")
    for name, reason in (("list", "cannot be read as a video"), ("fifo", "a FIFO")):
        with pytest.raises(InputError, match=f"{name}.mp4: {reason}"):
            draw_video(tmp_path / f"{name}.mp4", tmp_path / "out.mp4", [])
    assert not (tmp_path / "out.mp4").exists()


# --- the commands -----------------------------------------------------------------------------


def command(monkeypatch, tool, *arguments):
    monkeypatch.setattr(sys, "argv", [tool, *map(str, arguments)])
    runpy.run_path(str(models.ROOT / "tools" / tool), run_name="__main__")


def test_commands_write_sheets(folder, tmp_path, monkeypatch, capsys):
    data = "--json", folder / "data/val.json", "--images", folder / "data/val"
    out = tmp_path / "sheet.png"
    calls = [
        ("visualize_data.py", *data),
        ("visualize_data.py", "--config-file", folder / "config.yaml", "--augmented"),
        ("visualize_predictions.py", folder / "results.json", *data),
        ("visualize_predictions.py", folder / "model.pth", folder / "none.json", *data),
        ("visualize_predictions.py", folder / "model.pth", "--images", folder / "data/val"),
        ("visualize_predictions.py", folder / "model.pth", "--layers", "--count", 3),
    ]
    for tool, *arguments in calls:
        command(monkeypatch, tool, *arguments, "-o", out)
        assert f"wrote {out}: 3 images" in capsys.readouterr().out
        with Image.open(out) as sheet:
            assert min(sheet.size) > 300
        out.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{f}/other.json --json {f}/data/val.json --images {f}/data/val", "another data set"),
        ("{f}/gone.json --json {f}/data/val.json --images {f}/data/val", "gone.json: cannot be"),
        ("{f}/results.json", "give the ground truth"),
        ("{f}/results.json --images {f}/data/val", "need their ground truth"),
        ("{f}/results.json --json {f}/data/val.json", "--images FOLDER"),
        ("{f}/gone.pth", "gone.pth not found"),
        ("{f}/data/val.pth", "no config.yaml beside it"),
        ("{f}/model.pth --images {f}/data/val.json", "not a readable image"),
        ("{f}/model.pth --images {f}/gone.mp4", "gone.mp4: cannot be read as a video"),
        ("{f}/model.pth --images {f}/data/empty", "no image in this folder"),
        ("{f}/model.pth {f}/none.json --layers", "exactly one checkpoint"),
    ],
)
def test_bad_input_is_one_line(folder, tmp_path, monkeypatch, capsys, arguments, message):
    torch.save({"model": {"w": torch.zeros(1)}}, folder / "data/val.pth")
    (folder / "data/empty").mkdir(exist_ok=True)
    with pytest.raises(SystemExit) as status:
        command(
            monkeypatch, "visualize_predictions.py",
            *arguments.format(f=folder).split(), "-o", tmp_path / "x.png",
        )  # fmt: skip
    error = capsys.readouterr().err
    assert status.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_the_ending_of_a_sheet_is_its_format(folder, tmp_path, monkeypatch, capsys):
    data = "--json", folder / "data/val.json", "--images", folder / "data/val"
    command(monkeypatch, "visualize_data.py", *data, "-o", tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as sheet:
        assert sheet.format == "JPEG"
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, "visualize_data.py", *data, "-o", tmp_path / "x.sheet")
    assert "x.sheet: no known kind of picture: name it .png" in capsys.readouterr().err
