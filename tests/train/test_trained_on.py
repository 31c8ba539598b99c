"""Runs know what they are trained on: between starts and between processes."""

import json

import pytest
from detectron2.utils import comm

from detrex.data.fingerprint import fingerprint
from detrex.train import trained_on
from detrex.train.folder import read_record
from detrex.train.trained_on import check_processes_agree, data_differences, on_all_processes
from detrex.utils.errors import InputError
from tests.train.tiny import write_data

RECORD = {
    "file_name": "/data/a.jpg",
    "image_id": 3,
    "height": 4,
    "width": 5,
    "annotations": [{"bbox": [0, 1, 2, 3], "category_id": 0, "iscrowd": 0}],
}
TRAIN = {"images": 2, "boxes": 3, "hash": "a"}
DATA = {"classes": ["a", "b"], "category_ids": [1, 2], "train": TRAIN, "val": None}


def test_a_fingerprint_changes_with_the_content_not_with_the_folder():
    whole = fingerprint([RECORD])
    assert whole["images"] == whole["boxes"] == 1 and len(whole["hash"]) == 16
    assert fingerprint([{**RECORD, "file_name": "/moved/a.jpg"}]) == whole
    box = RECORD["annotations"][0]
    changes = [{"file_name": "/data/b.jpg"}, {"image_id": 4}, {"width": 6}, {"annotations": []}]
    changes += [{"annotations": [{**box, "bbox": [0, 1, 2, 3.5]}]}]
    changes += [{"annotations": [{**box, key: 1}]} for key in ("category_id", "iscrowd")]
    hashes = {fingerprint([{**RECORD, **change}])["hash"] for change in changes}
    assert len(hashes - {whole["hash"]}) == len(changes)
    two = [RECORD, {**RECORD, "image_id": 1}]
    assert fingerprint(two)["hash"] != fingerprint(two[::-1])["hash"]


def test_differences_are_told_and_the_unknown_is_none():
    assert not [*data_differences(DATA, DATA)] and not [*data_differences(DATA, {"val": TRAIN})]
    other = {**DATA, "classes": ["a", "c", "d"], "train": {**TRAIN, "hash": "b"}}
    assert [*data_differences(other, DATA)] == [
        "3 classes, not 2",
        "class 1 is 'c', not 'b'",
        "train data of 2 images with 3 boxes, not 2 images with 3 boxes (other contents)",
    ]


@pytest.fixture
def four_processes(monkeypatch):
    """Makes collectives return what the four processes are said to have."""
    monkeypatch.setattr(trained_on.socket, "gethostname", lambda: "here")

    def say(*values):
        monkeypatch.setattr(comm, "all_gather", lambda value: list(values))

    return say


def test_processes_with_other_data_are_named(four_processes):
    other = {**DATA, "train": {**TRAIN, "images": 1}}
    four_processes(("a", DATA), ("a", DATA), ("b", other), ("b", other))
    with pytest.raises(InputError) as error:
        check_processes_agree(DATA)
    assert str(error.value) == (
        "rank 2, 3 (b) has read other data than rank 0, 1 (a): train data of 1 images with 3 "
        "boxes, not 2 images with 3 boxes: give every machine the same files"
    )
    four_processes(*[(host, DATA) for host in "aabb"])
    check_processes_agree(DATA)


def test_what_fails_on_one_machine_ends_all(four_processes):
    def fail():
        raise InputError("x is missing")

    four_processes(None, "on there: x is missing", None, None)
    with pytest.raises(InputError, match="^on there: x is missing"):
        on_all_processes(lambda: 1)
    with pytest.raises(InputError, match="^x is missing"):
        on_all_processes(fail)
    four_processes(None, None, None, None)
    assert on_all_processes(lambda: 1) == 1


def change(folder, function):
    path = folder / "data.json"
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def contents(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".txt")
    return {p: p.read_bytes() for p in files}


def exchange_names(content):
    first, second = content["categories"]
    first["name"], second["name"] = second["name"], first["name"]


def renumber(content):
    for entry in content["categories"]:
        entry["id"] += 1
    for entry in content["annotations"]:
        entry["category_id"] += 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (exchange_names, "class 0 is 'bright', not 'dark'"),
        (renumber, "category id of class 0 is 8, not 7"),
    ],
)
def test_a_run_is_not_resumed_with_other_classes(tiny_run, tmp_path, function, message):
    tiny_run.data = write_data(tmp_path / "own")
    tiny_run("a")
    folder = tiny_run.folder / "a"
    before = contents(folder)
    change(tmp_path / "own", function)
    with pytest.raises(InputError, match=f"^--resume: .*model_final.pth .*{message}"):
        tiny_run("a", "train.max_iter=10", "--resume")
    assert contents(folder) == before


def test_data_that_has_changed_is_told_and_noted(tiny_run, tmp_path):
    tiny_run.data = write_data(tmp_path / "own")
    tiny_run("a", "train.max_iter=4")
    folder = tiny_run.folder / "a"
    record = read_record(folder)["data"]
    metadata = tiny_run.checkpoint("a")["metadata"]
    assert record["classes"] == ["dark", "bright"] and record["train"]["images"] == 12
    assert record == {key: metadata[key] for key in record} and record["val"] == record["train"]
    tiny_run("a", "train.max_iter=6", "--resume")
    assert "changed data" not in (folder / "log.txt").read_text()
    assert read_record(folder)["data"] == record
    change(tmp_path / "own", lambda content: content["annotations"].pop())
    tiny_run("a", "train.max_iter=8", "--resume")
    size = "11 images with 11 boxes, not 12 images with 12 boxes"
    log = (folder / "log.txt").read_text()
    assert f"resuming on changed data: train data of {size}; val data of 12 im" in log
    now = read_record(folder)["data"]
    assert now["train"]["images"] == 11
    assert now["earlier"] == [{"train": record["train"], "val": record["val"]}]
    assert tiny_run.checkpoint("a")["metadata"]["earlier"] == now["earlier"]
