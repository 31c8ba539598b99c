"""Runs that cannot begin, or not go on: the message names the key or the file."""

import os

import pytest
import torch

from tests.refusals import refused
from tests.train.runs import TinyRuns


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("optimizer._target_=torch.optim.SGD", ["optimizer", "'betas'"]),
        ("optimizer.lr=-1", ["optimizer", "-1"]),
        ("optimizer.params.lr_factors.1.names=5", ["names", "5"]),
        ("train.amp.enabled=true train.amp.dtype=half", ["train.amp.dtype=half"]),
        ("dataloader.train.start_iteration=5", ["dataloader.train.start_iteration=5"]),
        ("dataloader.train.total_batch_size=null", ["dataloader.train.total_batch_size=None"]),
        ("dataloader.train.total_batch_size=0", ["dataloader.train.total_batch_size=0"]),
        ("dataloader.train.dataset=null", ["dataloader.train", "dataset"]),
    ],
)
def test_a_key_with_which_no_run_begins_is_named(tiny_run, option, names):
    with refused(*names):
        tiny_run("a", *option.split())


def test_training_without_training_data_names_the_keys(tmp_path, tiny_data):
    with refused("dataloader.dataset.train.{json,images}"):
        TinyRuns(tmp_path, tiny_data[2:])("a")


@pytest.mark.parametrize("name", [".lock", "metrics.json", "log.txt"])
def test_a_pipe_where_a_run_would_write_is_named(tiny_run, name):
    (tiny_run.folder / "a").mkdir()
    os.mkfifo(tiny_run.folder / "a" / name)
    with refused(name, "regular file"):
        tiny_run("a")


def trainer_of(**state):
    return lambda content: content["trainer"].update(**state)


def optimizer_of(**state):
    return lambda content: content["trainer"]["optimizer"].update(**state)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (trainer_of(optimizer=5), []),
        (optimizer_of(param_groups=[5, 5]), []),
        (optimizer_of(state=[]), []),
        (trainer_of(hooks=5), []),
        (
            lambda content: content["trainer"]["hooks"]["LRScheduler"].update(last_epoch="x"),
            [],
        ),
        (trainer_of(grad_scaler={"scale": "x"}), []),
        (lambda content: content.update(metrics=5), []),
        (lambda content: content.update(metrics=[[5]]), []),
        (lambda content: content.update(metrics=[[{"total_loss": "x"}]]), []),
        (lambda content: [content.pop(key) for key in {*content} - {"model"}], ["training"]),
    ],
)
def test_a_file_that_cannot_be_resumed_is_named(tiny_run, change, names):
    tiny_run("a", "train.max_iter=1")
    path = tiny_run.folder / "a/model_final.pth"
    content = tiny_run.checkpoint("a")
    change(content)
    torch.save(content, path)
    with refused("model_final.pth", *names):
        tiny_run("a", "train.max_iter=2", "--resume")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["train.max_iter=1", "--resume"], ["train.max_iter=1", "model_final.pth", "2 iter"]),
        (["model.width=4", "--resume"], ["model_final.pth", "backbone.weight"]),
        (["optimizer._target_=torch.optim.Adam", "--resume"], ["AdamW", "Adam"]),
        (["--eval-only", "train.init_checkpoint={}"], ["class 1", "'bright'", "'white'"]),
    ],
)
def test_a_config_that_does_not_fit_the_checkpoint_is_named(tiny_run, options, names):
    tiny_run("a", "train.max_iter=2")
    path = tiny_run.folder / "a/model_final.pth"
    content = tiny_run.checkpoint("a")
    content["metadata"]["classes"] = ["dark", "white" if "--eval-only" in options else "bright"]
    torch.save(content, path)
    with refused(*names):
        tiny_run("a", *(option.format(path) for option in options))
