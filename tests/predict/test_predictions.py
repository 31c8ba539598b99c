"""The tools that show detections: predict.py, and demo.py in a real browser."""

import functools
import importlib.util
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

import detrex
from detrex.evaluation.coco_json import load_detections, load_ground_truth
from detrex.inspect.contact_sheet import SheetItem, draw_item
from detrex.predict.video import draw_video
from detrex.report.figures import COLORS
from detrex.utils import images
from tests.models import ROOT
from tests.predict.clips import write_clip
from tests.refusals import refused
from tests.report.browser import needs_browser, open_browser
from tests.report.fake_runs import CLASSES, write_data, write_model

ORANGE = (255, 133, 27)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images of 60x40 and a small untrained Rank-DETR."""
    folder = tmp_path_factory.mktemp("predict")
    write_data(folder)
    write_model(folder, folder)
    return folder


def predict(monkeypatch, folder, *arguments):
    given = folder / "config.yaml", folder / "model.pth", *arguments
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, given)])
    runpy.run_path(str(ROOT / "tools/predict.py"), run_name="__main__")


def drawn(path, original):
    """Whether the picture is the original, enlarged to 480 pixels, with orange lines on it."""
    with Image.open(path) as picture, Image.open(original) as image:
        scale = 480 / max(image.size)
        assert picture.format == image.format
        image = image.resize([round(n * scale) for n in image.size])
        assert picture.size == image.size
        away = np.abs(np.asarray(picture).astype(int) - ORANGE).sum(-1)
    return (away < 90).sum() > 20


def test_pictures_and_json(folder, tmp_path, monkeypatch, capsys):
    Image.open(folder / "val/1.jpg").resize((90, 50)).save(folder / "x.png")
    found = tmp_path / "found.json"
    options = "-o", tmp_path, "--json", found, "--threshold", 0.4
    predict(monkeypatch, folder, folder / "val", folder / "x.png", *options)
    sources = [folder / f"val/{i}.jpg" for i in range(3)] + [folder / "x.png"]
    output = capsys.readouterr().out
    predictor = detrex.Predictor(folder / "config.yaml", folder / "model.pth", threshold=0.4)
    expected = predictor(sources)
    records = json.loads(found.read_text())
    assert [record["file"] for record in records] == list(map(str, sources))
    assert (records[3]["width"], records[3]["height"]) == (90, 50)
    for source, record, one in zip(sources, records, expected, strict=True):
        target = tmp_path / f"{source.stem}_found{source.suffix}"
        assert len(one) > 0 and drawn(target, source)
        assert record["detections"] == predictor.to_dict(one)["detections"]
        line = next(x for x in output.splitlines() if x.startswith(f"{target}: "))
        assert f"{one.pred_classes.tolist().count(1)} x {CLASSES[1]}" in line


def test_video(folder, tmp_path, monkeypatch, capsys):
    av = pytest.importorskip("av")
    write_clip(tmp_path / "clip.mp4", [0, 200])
    out, found = tmp_path / "out", tmp_path / "found.json"
    predict(monkeypatch, folder, "--video", tmp_path / "clip.mp4", "-o", out, "--json", found)
    records = json.loads(found.read_text())
    assert [(r["frame"], r["width"], r["height"]) for r in records] == [(0, 64, 48), (1, 64, 48)]
    assert records[0]["detections"] != records[1]["detections"]
    with av.open(str(out / "clip_found.mp4")) as reader:
        assert len(list(reader.decode(video=0))) == 2


@pytest.fixture
def server(tmp_path):
    """The address of a server of this folder's files."""
    (tmp_path / "served").mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_stream(folder, tmp_path, server, monkeypatch, capsys):
    av = pytest.importorskip("av")
    write_clip(tmp_path / "served/cam.mp4", [0, 60, 120, 200])
    (tmp_path / "served/list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\ncam.mp4\n#EXT-X-ENDLIST\n")
    found = tmp_path / "found.json"
    options = "-o", tmp_path, "--json", found
    predict(monkeypatch, folder, "--video", f"{server}/cam.mp4?a=b", "--frames", 3, *options)
    records = json.loads(found.read_text())
    assert [(r["file"], r["frame"]) for r in records] == [
        (f"{server}/cam.mp4?a=b", i) for i in range(3)
    ]
    with av.open(str(tmp_path / "cam_found.mp4")) as reader:
        assert len(list(reader.decode(video=0))) == 3
    with pytest.raises(SystemExit, match="2"):
        predict(monkeypatch, folder, "--video", f"{server}/list.m3u8", *options)
    assert "list.m3u8: cannot be read as a video" in capsys.readouterr().err


def test_ctrl_c_ends_a_stream_and_what_is_drawn_stays(tmp_path, server):
    av = pytest.importorskip("av")
    write_clip(tmp_path / "served/cam.mp4", [0, 60, 120, 200])
    seen = []

    def detect(sample, image):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(image.size)
        return []

    assert draw_video(f"{server}/cam.mp4", tmp_path / "out.mp4", [("", detect)]) == 2
    with av.open(str(tmp_path / "out.mp4")) as reader:
        assert len(list(reader.decode(video=0))) == 2
    with pytest.raises(KeyboardInterrupt):  # of a file the rest is still there
        draw_video(tmp_path / "served/cam.mp4", tmp_path / "file.mp4", [("", detect)])
    assert not (tmp_path / "file.mp4").exists()


def test_a_camera_is_opened_as_one(monkeypatch):
    av = pytest.importorskip("av")
    opened = []

    def camera(name, **options):
        opened.append((name, options))
        raise av.FFmpegError(1, "busy")

    monkeypatch.setattr(av, "open", camera)
    with refused("/dev/null", "busy"):
        draw_video("/dev/null", "out.mp4", [])
    assert opened == [("/dev/null", {"format": "v4l2"})]


def test_unreadable_images_are_left_out_with_a_warning(folder, tmp_path, monkeypatch, capsys):
    photos = tmp_path / "photos"
    shutil.copytree(folder / "val", photos)
    (photos / "1.jpg").write_text("text")
    before = {path: path.read_bytes() for path in photos.iterdir()}
    with pytest.raises(SystemExit, match="1"):  # into the folder of the photographs themselves
        predict(monkeypatch, folder, photos, "-o", photos, "--json", tmp_path / "found.json")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "1.jpg: not a readable image" in error
    records = json.loads((tmp_path / "found.json").read_text())
    assert [Path(record["file"]).name for record in records] == ["0.jpg", "2.jpg"]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert {path.name for path in photos.iterdir()} - {path.name for path in before} == {
        "0_found.jpg",
        "2_found.jpg",
    }


def test_every_file_of_a_folder_is_predicted_or_named(folder, tmp_path, monkeypatch, capfd):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    with Image.open(folder / "val/1.jpg") as image:
        for name, kind in (("a.JPG", "JPEG"), ("a.gif", "GIF"), ("b.jfif", "JPEG"), ("c", "PNG")):
            image.save(photos / name, kind)
    (photos / "d.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (photos / "e\x1b[31m.jpg").write_bytes(b"%!PS-Adobe")
    (photos / "f.txt").write_text("text")
    os.mkfifo(photos / "g.jpg")
    with pytest.raises(SystemExit, match="1"):
        predict(monkeypatch, folder, photos, "-o", tmp_path / "out")
    drawn = {path.name for path in (tmp_path / "out").iterdir()}
    assert drawn == {"a_found.JPG", "a.gif_found.png", "b_found.jfif", "c_found.png"}
    out, error = capfd.readouterr()
    for words in ("2 left out, no images: f.txt, more", "d.heic: not a readable image (a ",
                  "e\\x1b[31m.jpg: not a readable image (an EPS", "g.jpg: a FIFO"):  # fmt: skip
        assert words in error
    assert "\x1b" not in out + error


def test_addresses(folder, tmp_path, monkeypatch, capsys):
    asked = []

    def fetch(address):
        asked.append(address)
        return (folder / "val/1.jpg").read_bytes()

    monkeypatch.setattr(images, "_fetch", fetch)
    addresses = ["https://a/x.jpg?size=1", "http://b/%2e%2e/%2e%2e%2fetc", "http://b"]
    predict(monkeypatch, folder, *addresses, "-o", tmp_path, "--json", tmp_path / "found.json")
    assert asked == addresses
    records = json.loads((tmp_path / "found.json").read_text())
    assert [record["file"] for record in records] == addresses
    names = {"x_found.jpg", "etc_found.png", "image_found.png", "found.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_records_are_coco_results_of_the_data(folder, tmp_path):
    content = torch.load(folder / "model.pth")
    content["metadata"]["category_ids"] = [3, 7]
    torch.save(content, tmp_path / "model.pth")
    predictor = detrex.Predictor(folder / "config.yaml", tmp_path / "model.pth", threshold=0)
    truth = json.loads((folder / "val.json").read_text())
    results = [
        {"image_id": image["id"], **entry}
        for image in truth["images"]
        for entry in predictor.to_dict(predictor(folder / "val" / image["file_name"]))["detections"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    read = load_detections(tmp_path / "results.json", load_ground_truth(folder / "val.json"))
    assert {d["category_id"] for d in read} == {3, 7}
    for d in read:
        x0, y0, w, h = d["bbox"]
        assert d["box"] == pytest.approx([x0, y0, x0 + w, y0 + h])
        assert d["category_id"] == [3, 7][d["label"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "nothing to look at"),
        ("{f}/gone.jpg", "gone.jpg: not a readable image"),
        ("{f}/text.jpg", "text.jpg: not a readable image"),
        ("{f}/val.json", "val.json: not a readable image (no format"),
        ("{f}/empty", "no image in this folder"),
        ("{f}/val/0.jpg {f}/val", "0.jpg: several images of this name"),
        ("{f}/val/0.jpg {f}/0_found.jpg -o {f}", "0_found.jpg: would be overwritten"),
        ("{f}/val/0.jpg --threshold 2", "threshold 2.0"),
        ("{f}/val/0.jpg -o {f}/text.jpg", "text.jpg is not a folder"),
        ("{f}/val/0.jpg --json {f}/empty", "empty is a folder: name a file"),
        ("--video http://127.0.0.1:9/b.mp4", "http://127.0.0.1:9/b.mp4: cannot be read as a video"),
        ("--video file:///etc/passwd", "file:///etc/passwd: cannot be read as a video"),
        ("--video {f}/gone.mp4", "gone.mp4: cannot be read as a video"),
        ("--video /dev/null", "/dev/null: cannot be read as a video"),
        ("{f}/val/0.jpg --overlap 0.5", "--tile"),
        ("{f}/val/0.jpg --tile 64 --overlap 1", "overlap 1.0"),
        ("{f}/val/0.jpg --classes dog", "'dog'"),
        ("--video {f}/text.jpg", "text.jpg: cannot be read as a video"),
    ],
)
def test_bad_input_is_one_line(folder, tmp_path, monkeypatch, capsys, arguments, message):
    for name in ("text.jpg", "0_found.jpg"):
        (folder / name).write_text("text")
    (folder / "empty").mkdir(exist_ok=True)
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as status:
        predict(monkeypatch, folder, *arguments.format(f=folder).split())
    error = capsys.readouterr().err
    assert status.value.code == 2 and message in error and error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before and not list(tmp_path.rglob("*.*"))


# --- the web demo -----------------------------------------------------------------------------


@pytest.fixture
def address(folder):
    """Of a running demo."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "tools/demo.py", folder / "config.yaml", folder / "model.pth"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [*map(str, command), "--port", str(port)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        line = server.stdout.readline()
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGTERM)
    assert f"127.0.0.1:{port}" in line


def until(check, seconds=60):
    """The first true value of ``check``."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, "the page did not change"
        time.sleep(0.1)
    return value


@needs_browser
def test_demo(folder, address):
    picture = """
        const img = document.querySelector('#picture img');
        const canvas = document.createElement('canvas');
        if (!img || !img.complete) return null;
        [canvas.width, canvas.height] = [img.naturalWidth, img.naturalHeight];
        const context = canvas.getContext('2d');
        context.drawImage(img, 0, 0);
        const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
        const counts = {};
        for (let i = 0; i < pixels.length; i += 4) {
            const [r, g, b] = [0, 1, 2].map(k => pixels[i + k].toString(16).padStart(2, '0'));
            const color = `#${r}${g}${b}`;
            counts[color] = (counts[color] ?? 0) + 1;
        }
        return [img.src, img.naturalWidth, arguments[0].map(color => counts[color] ?? 0)];
    """

    def look(page):
        return page.execute_script(picture, COLORS[:2])  # of the two classes

    with open_browser(address) as page:
        find = "return document.querySelector('input[type=file]')"
        until(lambda: page.execute_script(find)).send_keys(str(folder / "val/1.jpg"))
        shown = [until(lambda: look(page))]
        for slider, value in (("layer", 1), ("threshold", 0.6), ("threshold", 1)):
            box = page.find_element("css selector", f"#{slider} input[type=number]")
            box.clear()
            box.send_keys(f"{value}\n")
            old = shown[-1][0]
            shown.append(until(lambda old=old: (s := look(page)) and s[0] != old and s))
        assert all(width == 480 for _, width, _ in shown)
        *boxes, none = [counts for _, _, counts in shown]
        assert all(sum(counts) > 100 for counts in boxes) and none == [0, 0]
        heading = page.find_element("css selector", "h1").text
        assert heading == "RankDETR, model.pth" and "2 classes: cat" in page.page_source
        assert len(page.find_elements("css selector", ".gallery-item")) == 3  # of the data
        (folder / "text.jpg").write_text("no image")
        page.find_element(
            "css selector", "button[aria-label='Remove Image'], button[aria-label='Clear']"
        ).click()
        until(lambda: page.execute_script(find)).send_keys(str(folder / "text.jpg"))
        until(lambda: "text.jpg: not a readable image (no format" in page.page_source)
        logged = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
        sent = [e["params"]["request"]["url"] for e in logged if e["method"].endswith("WillBeSent")]
        assert all(url.startswith((address, "data:", "blob:")) for url in sent)


def test_labels_do_not_hide_each_other():
    image = Image.new("RGB", (400, 400))
    colors = [f"#0000{i:02x}" for i in range(40, 46)]
    boxes = [
        ([x, x, x + 99, x + 99], "a long name 0.5", color)
        for x, color in zip(range(100, 154, 9), colors, strict=True)
    ]
    together = draw_item(SheetItem(image, others=boxes), 400)
    for entry in boxes:  # a plate that another one lies on would have fewer pixels
        alone = draw_item(SheetItem(image, others=[entry]), 400)
        plates = [
            (np.asarray(picture) == ImageColor.getrgb(entry[2])).all(-1).sum()
            for picture in (alone, together)
        ]
        assert plates[1] > 0.75 * plates[0]


def test_a_page_for_a_model_of_one_layer(folder):
    gradio = pytest.importorskip("gradio")
    page = runpy.run_path(str(ROOT / "tools/demo.py"))["page"]
    predictor = detrex.Predictor(folder / "config.yaml", folder / "model.pth", threshold=0)
    predictor.layers = lambda image: [predictor(image)]
    blocks = page(gradio, predictor, "a/model.pth")
    sliders = [block for block in blocks.blocks.values() if isinstance(block, gradio.Slider)]
    assert [slider.visible for slider in sliders] == [True, False]
    assert blocks.delete_cache == (900, 3600)
