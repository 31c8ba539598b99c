"""Every small file of a run's folder, spoiled in many ways: read, or refused with one line."""

import json
import os
import random
import shutil

import pytest

from detrex.checkpoint import last_checkpoint
from detrex.evaluation.origin import write_origin
from detrex.report import write_report
from detrex.report.runs import read_run
from detrex.train.folder import check_output_folder, rewind_metrics
from detrex.utils.errors import InputError
from tests.report.fake_runs import alignment, calibration, detection, write_data, write_run

FILES = (
    "run.json",
    "config.yaml",
    "metrics.json",
    "best.json",
    "last_checkpoint",
    "coco_instances_results.json",
    "evaluation.json",
    "alignment.json",
    "calibration.json",
)
VALUES = (None, True, -1, 1e400, 10**40, float("nan"), "", "<b>${oc.env:HOME}", [], {}, [[1]])
TEXTS = (
    b"",
    b"\xff\xfe\x00",
    b"[" * 5000,
    b"null",
    b"1" * 5000,
    b"&a [*a]",
    b"a: &a [*b]",
    b"\0" * 100,
)


def spoil_value(rng, content):
    """Put an odd value somewhere into nested lists and dicts."""
    while True:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        if not keys:
            return
        key = rng.choice(list(keys))
        if not isinstance(content[key], list | dict) or rng.random() < 0.3:
            content[key] = rng.choice(VALUES)
            return
        content = content[key]


def spoil_values(rng, path):
    lines = path.read_text().splitlines() if path.name == "metrics.json" else [path.read_text()]
    contents = [json.loads(line) for line in lines]
    spoil_value(rng, contents)
    path.write_text("\n".join(json.dumps(content) for content in contents))


def spoil_bytes(rng, path):
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])


def replace(rng, path):
    path.write_bytes(rng.choice(TEXTS))


def put_something_else(rng, path):
    path.unlink()
    rng.choice((path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("nowhere")))()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("original")
    write_data(root / "data")
    run = write_run(root / "run", root / "data", [detection(0, 3, [10, 10, 20, 20], 0.9)])
    write_origin(
        run, root / "data/val.json", {"checkpoint": None, "iteration": 20, "averaged": False}
    )
    alignment().save(run)
    calibration().save(run)
    (run / "best.json").write_text(json.dumps({"metric": "bbox/AP", "value": 1.0}))
    (run / "last_checkpoint").write_text("model_final.pth")
    return run


def use(folder, page):
    """All that reads the folder; returns what was refused."""
    refused = []
    for read in (
        lambda: write_report([read_run(folder)], page, images=1),
        lambda: check_output_folder(folder, {}, resume=True, reuse=False),
        lambda: last_checkpoint(folder),
        lambda: rewind_metrics(folder, 15, 15),
    ):
        try:
            read()
        except InputError as error:
            refused.append(str(error))
    return refused


@pytest.mark.parametrize("file", FILES)
def test_spoiled_files_of_a_run_are_read_or_refused_with_one_line(original, tmp_path, file):
    rng, refused = random.Random(file), []
    for number in range(12):
        folder = tmp_path / str(number)
        shutil.copytree(original, folder)
        ways = [spoil_bytes, replace, put_something_else]
        if file.endswith(".json"):
            ways += [spoil_values] * 3
        rng.choice(ways)(rng, folder / file)
        if file == "coco_instances_results.json":  # else it would be left out unread
            (folder / "evaluation.json").unlink()
        messages = use(folder, tmp_path / "page.html")
        assert all("\n" not in text and str(folder) in text for text in messages), messages
        refused += messages
    assert refused or file == "last_checkpoint"  # of which warnings are logged
    assert use(original, tmp_path / "page.html") == []
