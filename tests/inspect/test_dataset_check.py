"""tools/check_dataset.py on real files, and the command that it prints, pasted."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.config import instantiate
from omegaconf import OmegaConf
from PIL import Image

from detrex.config import config_differences, json_config
from detrex.config.load import load_config
from detrex.utils.device import resolve_device
from tests.data import layouts
from tests.models import RANK_DETR, ROOT

SMALL = "projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py"
PATHS = [f"{split}.{key}" for split in ("train", "val") for key in ("json", "images")]
BASE = f"""from detrex.config import model_config
dataloader, lr_multiplier, model, optimizer, train = model_config({SMALL!r})
train.init_checkpoint = ""
"""


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Runs the tool in an empty folder; returns what it printed, on stderr if it must fail."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.py").write_text(BASE)

    def call(*arguments: str, fails: bool = False, model: str = "base.py") -> str:
        words = ["check_dataset.py", *arguments, "--model", model]
        monkeypatch.setattr(sys, "argv", words)
        if fails:
            with pytest.raises(SystemExit, match="2"):
                runpy.run_path(str(ROOT / "tools/check_dataset.py"), run_name="__main__")
        else:
            runpy.run_path(str(ROOT / "tools/check_dataset.py"), run_name="__main__")
        return capsys.readouterr()[fails]

    return call


def test_a_yolo_folder_is_reported_converted_and_trained_on(tmp_path, check):
    data = tmp_path / "bugs"
    layouts.write_yolo(data)
    shutil.copy(data / "images/train/a.jpg", data / "images/val/e.jpg")
    with (data / "labels/train/b.txt").open("a") as stream:
        stream.write("9 0.5 0.5 0.1 0.1\n")
    text = check("bugs")
    for line in (
        "bugs: YOLO layout",
        "train: 3 images (1 without objects), 3 boxes (at most 2 in an image); small 3, medium 0,"
        " large 0",
        "val: 2 images (1 without objects), 1 boxes (at most 1 in an image); small 1, medium 0,",
        "3 classes, boxes in train, val:\n  ant         1        1\n  bee         1        0\n",
        "! train: 1 lines that are not class, x, y, width, height, left out: bugs/labels/train/"
        "b.txt:2: class 9, there are 3",
        "! 1 images in training and validation: bugs/images/train/a.jpg = bugs/images/val/e.jpg",
    ):
        assert line in text
    output = tmp_path / "output/data/bugs"
    report = json.loads((output / "report.json").read_text())
    assert report["train"]["sizes"] == [3, 0, 0] and report["val"]["image_count"] == 2
    names = {path.name for path in output.iterdir()}
    pictures = {"train.png", "val.png", "classes.png"}
    assert names == {"train.json", "val.json", "report.json", "base.py", *pictures}
    assert all(Image.open(output / name).size[0] > 300 for name in pictures)
    train_on_it(tmp_path, text, (output / "base.py").read_text())


def train_on_it(folder: Path, text: str, config: str) -> None:
    """Paste the command, shortened, into a shell."""
    command = text.split("train on it:\n\n")[1].strip()
    assert f"    {command}\n" in config and 'train.max_iter = "3334ep"' in config
    assert command.endswith("/tools/train_net.py --config-file output/data/bugs/base.py")
    command = command.replace("python", sys.executable, 1)  # the path is as seen from here
    tiny = "model.num_queries_one2one=8 model.num_queries_one2many=8"
    tiny += " model.transformer.encoder.num_layers=1 model.transformer.decoder.num_layers=1"
    tiny += " model.transformer.two_stage_num_proposals=16"
    tiny += " train.max_iter=1 train.eval_period=1 dataloader.train.total_batch_size=1"
    tiny += " dataloader.train.num_workers=0 dataloader.test.num_workers=0"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", f"{command} {tiny}"], cwd=folder, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    rate = "learning rate 0.00025: optimizer.lr=0.001 is for 4 images an iteration, this run has 1"
    assert rate in done.stdout.decode()
    run_folder = folder / "output/bugs_base"
    assert (run_folder / "model_final.pth").is_file()
    scores = (run_folder / "metrics.json").read_text()
    assert re.search(r'"bbox/AP50": ', scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["data", "-o", "data/x"], "data/x: is inside the data; choose another folder with -o"),
        (
            ["data/annotations/instances_val2017.json", "-o", "data/annotations"],
            "data/annotations: is inside the data; choose another folder with -o",
        ),
    ],
)
def test_unusable_arguments(tmp_path, check, arguments, message):
    layouts.write_coco(tmp_path / "data")
    assert check(*arguments, fails=True) == f"error: {message}\n"
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["birds/data.yaml"], "birds"),
        (["birds.v2"], "birds_v2"),
        (["coco/annotations/instances_train2017.json"], "coco"),
        (["bugs/train/_annotations.coco.json", "--images", "coco/train2017"], "bugs"),
    ],
)
def test_the_output_folder_is_named_after_the_data(tmp_path, check, arguments, name):
    layouts.write_yolo(tmp_path / "birds")
    layouts.write_yolo(tmp_path / "birds.v2")
    layouts.write_coco(tmp_path / "coco")
    (tmp_path / "bugs/train").mkdir(parents=True)
    file = tmp_path / "coco/annotations/instances_train2017.json"
    shutil.copy(file, tmp_path / "bugs/train/_annotations.coco.json")
    assert f"wrote output/data/{name}/" in check(*arguments)


def test_another_data_set_is_not_overwritten(tmp_path, check):
    for parent in ("a", "b"):
        layouts.write_yolo(tmp_path / parent / "bugs")
    check("a/bugs")
    (tmp_path / "b/bugs/labels/train/a.txt").unlink()
    converted = tmp_path / "output/data/bugs/train.json"
    before = converted.read_text()
    error = check("b/bugs", fails=True)
    assert error.startswith("error: output/data/bugs: holds what was made of ") and "-o" in error
    assert str(tmp_path / "a/bugs") in error and converted.read_text() == before
    check("a/bugs")  # again, after changes to it
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/train.json").write_text("mine")
    assert "mine: holds a train.json" in check("b/bugs", "-o", "mine", fails=True)
    assert (tmp_path / "mine/train.json").read_text() == "mine"


def test_images_that_would_end_a_run_end_the_check(tmp_path, check):
    layouts.write_coco(tmp_path / "data")
    image = tmp_path / "data/train2017/a.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    error = check("data", "-o", "out", fails=True)
    assert "1 of 3 images do not open, which ends a run: mend or remove them, or train" in error
    assert "skip_broken_images=True: a.jpg: not a readable image (" in error
    image.write_bytes((tmp_path / "data/train2017/b.jpg").read_bytes())
    error = check("data", "-o", "out", fails=True)
    assert "1 of 3 images have another size than stated, which ends a run" in error
    assert "a.jpg: 40x30, the file 30x40" in error and error.count("\n") == 1


def test_a_class_of_crowd_regions_is_said_and_crowds_alone_are_refused(tmp_path, check):
    layouts.write_coco(tmp_path / "data")
    file = tmp_path / "data/annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = annotation["category_id"] == content["categories"][0]["id"]
    file.write_text(json.dumps(content))
    text = check("data", "-o", "out")
    assert "classes that are never trained on: 'ant': its 1 boxes are crowd regions" in text
    assert "1 boxes are not trained on, 1 are crowd regions" in text
    for annotation in content["annotations"]:
        annotation["iscrowd"] = True
    file.write_text(json.dumps(content))
    assert "to train on: it has 3 crowd regions (iscrowd 1)" in check(
        "data", "-o", "out", fails=True
    )


def test_more_objects_than_the_model_looks_for(tmp_path, check):
    layouts.write_coco(tmp_path / "data")
    file = tmp_path / "data/annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    box = content["annotations"][0]
    content["annotations"] += [
        {**box, "id": 1000 + i, "bbox": [i % 20, i % 9, 10, 12], "area": 120} for i in range(180)
    ]
    file.write_text(json.dumps(content))
    text = check("data", "-o", "out")
    (line,) = [line for line in text.splitlines() if line.startswith("! up to")]
    most = 182
    assert line.startswith(f"! up to {most} objects in an image, {most - 1} of one class, but ")
    settings = line.rsplit(": the config file sets ", 1)[1].split()
    cfg = load_config("out/base.py")
    assert all(str(OmegaConf.select(cfg, k)) == n for k, n in (s.split("=") for s in settings))
    assert cfg.model.num_queries_one2one == cfg.model.select_box_nums_for_evaluation == most
    assert cfg.dataloader.evaluator.max_dets == most - 1
    assert cfg.model.transformer.two_stage_num_proposals == 120 + most
    instantiate(cfg.model)


@pytest.mark.parametrize("fault", ["1 of 3 images are missing", "bbox is not four numbers: [1]"])
def test_what_would_stop_a_training_stops_the_check(tmp_path, check, fault):
    layouts.write_coco(tmp_path / "data")
    file = tmp_path / "data/annotations/instances_train2017.json"
    if "bbox" in fault:
        file.write_text(file.read_text().replace("[4, 3, 10, 12]", "[1]"))
    else:
        (tmp_path / "data/train2017/b.jpg").unlink()
    error = check("data", "-o", "out", fails=True)
    assert fault in error and error.count("\n") == 1
    assert ("take them out of the JSON" in error) == ("missing" in fault)
    if "missing" in fault:
        assert Image.open(tmp_path / "out/train.png").size[0] > 300


def test_missing_images_are_left_out_of_the_splits_it_makes(tmp_path, check):
    layouts.write_coco(tmp_path / "bugs")
    (tmp_path / "bugs/train2017/c.jpg").unlink()
    text = check("bugs/annotations/instances_train2017.json", "-o", "out")
    assert "1 images that are missing, left out: c.jpg" in text and "train on it:" in text
    parts = [json.loads((tmp_path / f"out/{name}.json").read_text()) for name in ("train", "val")]
    assert sorted(i["file_name"] for part in parts for i in part["images"]) == ["a.jpg", "b.jpg"]


def test_a_checkpoint_that_is_not_there_is_named_at_once(tmp_path, check):
    layouts.write_yolo(tmp_path / "bugs")
    error = check("bugs", "--init-checkpoint", "gone.pth", fails=True)
    assert error == "error: checkpoint gone.pth not found\n"
    assert not (tmp_path / "output").exists()


def test_the_default_config_is_there_from_any_folder(tmp_path, check):
    layouts.write_yolo(tmp_path / "bugs")
    text = check("bugs", model="rank_detr_r50")
    assert ("--model small is for a CPU" in text) == (resolve_device("auto") == "cpu")
    assert "val: 1 images (0 without objects)" in text and "\n  from images/val\n" in text
    _, script, *rest = shlex.split(text.split("train on it:")[1])
    assert Path(script).samefile(ROOT / "projects/rank_detr/train_net.py")
    assert rest == ["--config-file", "output/data/bugs/r50.py"]
    cfg, base = load_config(rest[1]), load_config(str(ROOT / RANK_DETR))
    assert len(Path(rest[1]).read_text().splitlines()) <= 25
    changed = {line.split(":")[0] for line in config_differences(*map(json_config, (cfg, base)))}
    assert changed - {"dataloader.test.num_workers"} == {
        *(f"dataloader.dataset.{key}" for key in ("name", *PATHS)),
        *("dataloader.train.num_workers", "dataloader.train.total_batch_size"),
        *("optimizer.reference_batch_size", "train.output_dir", "train.max_iter"),
        *("train.eval_period", "train.checkpointer.period"),
    }
    assert cfg.optimizer.reference_batch_size == 16 and cfg.optimizer.lr == 2e-4


def test_a_config_file_that_was_changed_stays(tmp_path, check):
    layouts.write_yolo(tmp_path / "bugs")
    check("bugs")
    file = tmp_path / "output/data/bugs/base.py"
    written = file.read_text()
    file.write_text(written + "train.log_period = 1\n")
    assert "output/data/bugs/base.py was there and stays" in check("bugs")
    assert file.read_text() == written + "train.log_period = 1\n"
    assert "wrote output/data/bugs/base.py" in check("bugs", "--overwrite")
    assert file.read_text() == written


def test_a_folder_of_any_name_is_named_in_the_config(tmp_path, check):
    name = 'my ${data} "caf\u00e9" \\N'
    layouts.write_yolo(tmp_path / name / "bugs")
    check(f"{name}/bugs", "-o", f"{name}/out")
    val = load_config(f"{name}/out/base.py").dataloader.dataset.val
    assert val.images == str(tmp_path / name / "bugs/images/val") and Path(val.json).is_file()


def test_one_image_is_converted_before_it_is_too_few(tmp_path, check):
    layouts.write_image(tmp_path / "bug/a.jpg", (40, 30))
    (tmp_path / "bug/a.txt").write_text("0 0.5 0.5 0.5 0.5")
    assert "bug: one image cannot be trained and validated on" in check("bug", fails=True)
    assert len(json.loads((tmp_path / "output/data/bug/train.json").read_text())["images"]) == 1


def test_names_without_glyphs_are_no_warning(tmp_path, check, recwarn):
    layouts.write_yolo(tmp_path / "bugs")
    file = tmp_path / "bugs/data.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("ant", "\u8681"), encoding="utf-8")
    check("bugs")
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_boxes_without_a_size_have_no_size_class(tmp_path, check):
    layouts.write_coco(tmp_path / "data")
    file = tmp_path / "data/annotations/instances_train2017.json"
    file.write_text(file.read_text().replace("[4, 3, 10, 12]", "[4, 3, NaN, 12]"))
    text = check("data")
    assert "3 boxes (at most 1 in an image); small 2, medium 0, large 0" in " ".join(text.split())
    assert "1 boxes are not trained on, 0 are crowd regions" in text


@pytest.mark.parametrize("write", [layouts.write_yolo, layouts.write_coco])
def test_some_of_the_classes(tmp_path, check, write):
    write(tmp_path / "bugs")
    everything = check("bugs")
    whole = json.loads((tmp_path / "output/data/bugs/report.json").read_text())
    text = check("bugs", "--classes", "Bee")
    assert "1 classes, boxes in train, val:\n  bee" in text and "ant" in everything
    folder = tmp_path / "output/data/bugs_Bee"
    report = json.loads((folder / "report.json").read_text())
    for split in ("train", "val"):
        full = json.loads(Path(whole[split]["json_file"]).read_text())
        part = json.loads((folder / f"{split}.json").read_text())
        (bee,) = [c for c in full["categories"] if c["name"] == "bee"]
        assert part["categories"] == [bee] and len(part["images"]) == len(full["images"])
        boxes = [a for a in full["annotations"] if a["category_id"] == bee["id"]]
        assert [a["id"] for a in part["annotations"]] == [a["id"] for a in boxes]
        assert report[split]["boxes"] == len(boxes)
    cfg = load_config(str(folder / "base.py"))
    assert cfg.dataloader.dataset.train.json.endswith("bugs_Bee/train.json")
    assert "'beetle'" in check("bugs", "--classes", "beetle", fails=True)
    other = check("bugs", "--classes", "ant", "-o", "output/data/bugs_Bee", fails=True)
    assert "output/data/bugs_Bee" in other and "Bee" in other
