"""What runs make of the data sets, the loaders and the evaluator that a config names."""

import itertools
import json

import pytest
from detectron2.utils.env import seed_all_rng

from detrex.config.load import load_config
from detrex.evaluation.origin import foreign, read_origin
from detrex.train.data import build_loader, prepare_data, read_train_set
from detrex.utils.errors import InputError
from tests.train.runs import CONFIG, TinyRuns
from tests.train.tiny import write_data

EMA = "train.model_ema.enabled=true"


@pytest.mark.parametrize("without", ["data", "evaluator"])
def test_a_run_without_validation_is_not_evaluated(tmp_path, tiny_data, without):
    data = tiny_data[:2] if without == "data" else [*tiny_data, "dataloader.evaluator=null"]
    runs = TinyRuns(tmp_path, data)
    runs("a", "train.eval_period=3", EMA)
    folder = tmp_path / "a"
    lines = [json.loads(line) for line in (folder / "metrics.json").open()]
    assert lines[-1]["iteration"] == 7 and not any("bbox/AP" in line for line in lines)
    assert not (folder / "best.json").exists() and not (folder / "model_best.pth").exists()
    assert (folder / "log.txt").read_text().count("nothing is evaluated") == 1
    runs("a", "train.max_iter=10", "--resume")
    assert runs.checkpoint("a")["iteration"] == 9
    runs("again", "--config-file", str(folder / "config.yaml"))
    with pytest.raises(InputError, match=r"dataloader\.(dataset\.val\.|evaluator)"):
        runs("a", "--eval-only", f"train.init_checkpoint={folder / 'model_final.pth'}")


def test_validation_data_may_come_after_the_training(tmp_path, tiny_data):
    runs = TinyRuns(tmp_path, tiny_data[:2])
    runs("a")
    weights = f"train.init_checkpoint={tmp_path / 'a/model_final.pth'}"
    config = ["--config-file", str(tmp_path / "a/config.yaml")]
    assert "AP" in runs("a", *config, *tiny_data[2:], "--eval-only", weights)["bbox"]


def test_a_run_without_an_evaluator_does_not_look_for_validation_data(tmp_path, tiny_data):
    data = [*tiny_data, "dataloader.dataset.val.json=absent.json"]
    TinyRuns(tmp_path, data)("a", "dataloader.evaluator=null")


@pytest.mark.parametrize(
    "option, message",
    [
        ("dataloader.evaluator.backend=fastest", "unknown evaluator 'fastest'"),
        ("dataloader.evaluator.max_dets=10", "max_dets must be more than 10, got 10"),
        ("dataloader.evaluator.max_dets=all", "max_dets must be more than 10, got 'all'"),
        ("dataloader.evaluator.diagnose={min_iou: 2}", "min_iou"),
        ("dataloader.test.mapper.image_backend=cv2", "image_backend='cv2' is unknown"),
    ],
)
def test_an_evaluation_that_cannot_be_made_ends_a_run_before_it_starts(tiny_run, option, message):
    with pytest.raises(InputError, match=message):
        tiny_run("a", option)
    assert not (tiny_run.folder / "a" / "run.json").exists()


def test_ground_truth_is_not_read_before_it_is_needed(tiny_run, monkeypatch):
    read = []
    monkeypatch.setattr("detrex.evaluation.coco.load_ground_truth", lambda path: read.append(path))
    with pytest.raises(InputError, match="train.accumulation_steps=3"):
        tiny_run("a", "dataloader.evaluator.diagnose=true", "train.accumulation_steps=3")
    assert not read


def image_ids(cfg, start_iteration, count=5):
    seed_all_rng(cfg.train.seed)
    loader = build_loader(cfg, read_train_set(cfg), start_iteration)
    return [x["image_id"] for batch in itertools.islice(loader, count) for x in batch]


def test_a_loaders_own_seed_is_obeyed(tiny_data):
    cfg = load_config(str(CONFIG), tiny_data)
    prepare_data(cfg, [], ["train"])
    given = image_ids(cfg, 0)
    cfg.dataloader.train.seed = cfg.train.seed
    assert image_ids(cfg, 0) == given
    cfg.dataloader.train.seed = 3
    assert image_ids(cfg, 0) != given


def test_a_loader_that_cannot_continue_does_not_repeat_its_first_images(tiny_data, caplog):
    cfg = load_config(str(CONFIG.with_name("tiny_fork.py")), tiny_data)
    prepare_data(cfg, [], ["train"])
    first = image_ids(cfg, 0)
    assert image_ids(cfg, 0) == first and "start_iteration" not in caplog.text
    second = image_ids(cfg, 4)
    assert image_ids(cfg, 4) == second != first
    assert [r.levelname for r in caplog.records if "start_iteration" in r.message] == [
        "WARNING"
    ] * 2


def test_a_broken_validation_image_ends_a_run_that_continues_once_it_is_mended(tmp_path, tiny_data):
    runs = TinyRuns(tmp_path, [*tiny_data[:2], *write_data(tmp_path / "val")[2:]])
    image, options = tmp_path / "val/5.png", ["train.eval_period=3", "train.checkpointer.period=0"]
    sound = image.read_bytes()
    image.write_bytes(sound[:-30])
    with pytest.raises(InputError, match="5.png: not a readable image"):
        runs("a", *options, "dataloader.dataset.skip_broken_images=true")
    image.write_bytes(sound)
    runs("a", *options, "--resume")
    lines = [json.loads(line) for line in (tmp_path / "a/metrics.json").open()]
    assert [line["iteration"] for line in lines if "bbox/AP" in line] == [3, 6, 8]


def test_files_of_an_evaluation_are_the_models_and_beside_them_its_averages(tiny_run, caplog):
    tiny_run("plain", "train.seed=3", "dataloader.evaluator.diagnose=true")
    decay = "train.model_ema.decay=0.999"
    tiny_run("a", "train.seed=3", "dataloader.evaluator.diagnose=true", EMA, decay)
    folder = tiny_run.folder / "a"
    for name in ("coco_instances_results.json", "alignment.json"):
        assert (folder / name).read_text() == (tiny_run.folder / "plain" / name).read_text()
        assert (folder / name).read_text() != (folder / "ema" / name).read_text()
    assert not (tiny_run.folder / "plain" / "ema").exists()
    file = f"train.init_checkpoint={folder / 'model_final.pth'}"
    use = "train.model_ema.use_ema_weights_for_eval_only=true"
    averaged = (folder / "ema" / "coco_instances_results.json").read_text()
    for options, told in ([], True), ([EMA, use], False):
        caplog.clear()
        tiny_run("a", "--eval-only", file, *options)
        assert (use in caplog.text) == told
        written = (folder / "eval_model_final" / "coco_instances_results.json").read_text()
        assert (written == averaged) != told


def files(folder):
    return {p: p.read_bytes() for p in folder.glob("*.json") if p.name != "run.json"}


def test_detections_say_of_which_weights_and_data_they_are(tiny_run, tmp_path):
    tiny_run("a", EMA)
    folder = tiny_run.folder / "a"
    before, config = files(folder), ["--config-file", str(folder / "config.yaml")]
    assert read_origin(folder)["iteration"] == 8 and read_origin(folder)["checkpoint"] is None
    assert read_origin(folder / "ema")["averaged"] and not read_origin(folder)["averaged"]
    path = folder / "model_0000003.pth"
    tiny_run("a", *config, "--eval-only", f"train.init_checkpoint={path}")
    assert files(folder) == before
    origin = read_origin(folder / "eval_model_0000003")
    assert origin["checkpoint"] == str(path) and origin["iteration"] == 4
    json_file = origin["annotations"]["file"]
    assert foreign(folder, json_file, 8) is None
    assert "iteration 8, its scores of 4" in foreign(folder, json_file, 4)
    assert "of other data than" in foreign(folder, str(folder / "run.json"), 8)
    (folder / "coco_instances_results.json").write_text("[]")
    assert "is another one than" in foreign(folder, json_file, 8)
    assert "are of " + str(path) in foreign(folder / "eval_model_0000003", json_file, 8)
    assert foreign(tmp_path / "none", json_file, 8) is None


def test_a_new_run_has_no_detections_of_the_old_one(tiny_run):
    tiny_run("a", EMA, "dataloader.evaluator.diagnose=true")
    folder = tiny_run.folder / "a"
    before = {path.name for path in folder.iterdir()}
    tiny_run("a", "train.max_iter=1", "dataloader.evaluator=null", "--reuse-output")
    left = {"coco_instances_results.json", "evaluation.json", "alignment.json", "ema", "best.json"}
    assert left <= before and not left & {path.name for path in folder.iterdir()}
    assert left <= {path.name for path in (folder / "replaced/1").iterdir()}
