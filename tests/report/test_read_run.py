import json

import pytest

from detrex.evaluation.alignment import AlignmentReport
from detrex.report.runs import read_run
from tests.refusals import refused

LINES = (
    '{"iteration": 9, "total_loss": 4.0}',
    '{"iteration": 19, "total_loss": 3.0}',
    '{"iteration": 19, "bbox/AP": 10.0, "ema_bbox/AP": 12.0}',
    '{"iteration": 29, "total_loss": 9.0}',
    '{"iteration": 19, "total_loss": 2.5}',  # interrupted, resumed from iteration 10
    '{"iteration": 40, "bbox/AP": 30.0, "bbox/APl": NaN}',
)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run_a"
    folder.mkdir()
    (folder / "config.yaml").write_text("train: {output_dir: x, seed: 0}\ncopy: ${train.seed}\n")
    (folder / "run.json").write_text(json.dumps({"command": "train", "epoch_length": 10}))
    (folder / "metrics.json").write_text("\n".join(LINES) + "\n")
    return folder


def test_a_run_is_read(folder):
    run = read_run(folder)
    assert run.name == "run_a" and run.config["copy"] == 0 and run.epoch_length == 10
    iterations, values = run.curves["total_loss"]
    assert iterations.tolist() == [9, 19, 29] and values.tolist() == [4.0, 2.5, 9.0]
    assert run.evaluations[19] == {"AP": 10.0, "ema_bbox/AP": 12.0}
    assert run.last == run.best() == 40 and run.iterations == 30 and run.seconds is None
    assert run.best("ema_bbox/") == 19 and run.detections is None and run.alignment is None


def test_classes_in_a_config_are_read_as_names(folder):
    text = "block: !!python/name:package.Block ''\nsizes: !!python/tuple [1, 2]\nlr: 1.0e-05\n"
    (folder / "config.yaml").write_text(text)
    assert read_run(folder).config == {"block": "package.Block", "sizes": [1, 2], "lr": 1e-5}


def test_a_run_that_is_still_going_on(folder):
    with open(folder / "metrics.json", "a") as stream:
        stream.write('{"iteration": 49, "tot')
    assert read_run(folder).curves["total_loss"][0].tolist() == [9, 19, 29]
    (folder / "metrics.json").unlink()
    assert read_run(folder).curves == {} and read_run(folder).best() is None


def test_what_later_commands_add_is_found(folder):
    (folder / "coco_instances_results.json").write_text("[]")
    AlignmentReport("detections", 3, 5, {}, [], [], [], {}).save(folder / "alignment")
    run = read_run(folder)
    assert run.detections == folder / "coco_instances_results.json"
    assert run.alignment.images == 3


def test_references_are_followed_and_nothing_of_the_reader_is_told(folder, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    (folder / "config.yaml").write_text(
        "root: {data: /data, seeds: [3, 4], env: '${oc.env:SECRET}'}\n"
        "json: ${root.data}/val.json\nseed: ${root.seeds[1]}\nsame: ${.seed}\n"
        "val: {data: '${..root.data}', more: '${.data}', train: '${root}'}\n"
        "name: ${names.x}\nself: ${self}\nkey: '${oc.${name}:SECRET}'\ncopy: ${val.train.seeds.0}\n"
    )
    config = read_run(folder).config
    root = {"data": "/data", "seeds": [3, 4], "env": "${oc.env:SECRET}"}
    assert config == {
        "root": root,
        "json": "/data/val.json",
        "seed": 4,
        "same": 4,
        "val": {"data": "/data", "more": "/data", "train": root},
        "name": "${names.x}",
        "self": "${self}",
        "key": "${oc.${names.x}:SECRET}",
        "copy": 3,
    }


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        ("metrics.json", '{"iteration": 1}\n{"iter\n{"iteration": 2}\n', "line 2"),
        ("metrics.json", '{"iteration": 1}\n[1]\n{"iteration": 2}\n', "line 2"),
        ("metrics.json", '{"iteration": 1, "total_loss": "x"}\n', "line 1"),
        ("metrics.json", '{"iteration": 1.5}\n', "line 1"),
        ("metrics.json", '{"total_loss": 1}\n', "line 1"),
        ("run.json", "{", "JSON"),
        ("run.json", "[]", "list"),
        ("run.json", '{"versions": [1]}', "versions"),
        ("run.json", '{"git": "x"}', "git"),
        ("run.json", '{"git": {"commit": null, "changed_files": []}}', "git"),
        ("run.json", '{"epoch_length": "x"}', "epoch_length"),
        ("run.json", None, "missing"),
        ("config.yaml", "[1]", "list"),
        ("config.yaml", "a: [", "YAML"),
        ("config.yaml", "a: ['${a}', '${a}']", "references"),
    ],
)
def test_damaged_files_are_named(folder, file, content, place):
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with refused(file, place):
        read_run(folder)
