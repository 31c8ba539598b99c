"""Which weights runs start from and evaluations score, in this process."""

import json

import pytest
import torch

from detrex.checkpoint.model import trained_model
from detrex.checkpoint.weights import write_safetensors
from detrex.config.load import load_config
from detrex.utils.errors import InputError

FAIL = "model.fail_at=6"
EMA = "train.model_ema.enabled=true"


def test_evaluation_scores_exactly_the_given_file(tiny_run):
    tiny_run("a", "train.max_iter=200", "train.log_period=50", EMA, "train.model_ema.decay=0.999")
    folder = tiny_run.folder / "a"
    metrics = [json.loads(line) for line in (folder / "metrics.json").open()][-1]
    assert metrics["bbox/AP"] > metrics["ema_bbox/AP"]
    (folder / "last_checkpoint").write_text("somewhere_else.pth")
    file = f"train.init_checkpoint={folder / 'model_final.pth'}"
    scores = tiny_run("a", "--eval-only", file)
    assert scores["bbox"]["AP"] == pytest.approx(metrics["bbox/AP"])
    averaged = tiny_run(
        "a", "--eval-only", file, EMA, "train.model_ema.use_ema_weights_for_eval_only=true"
    )
    assert averaged["bbox"]["AP"] == pytest.approx(metrics["ema_bbox/AP"])


def test_weights_as_safetensors_start_runs_and_are_scored(tiny_run):
    tiny_run("a", "train.max_iter=200", "train.log_period=50")
    folder = tiny_run.folder / "a"
    cfg = load_config(str(folder / "config.yaml"))
    content = tiny_run.checkpoint("a")
    model = trained_model(cfg, "model_final.pth", content)
    path = folder / "weights.safetensors"
    write_safetensors(model, path, "", content["metadata"]["classes"])
    file = f"train.init_checkpoint={path}"
    tiny_run("b", file, "optimizer.lr=0.0", "train.max_iter=1")
    assert tiny_run.checkpoint("b")["model"]["norm.weight"].equal(model.norm.weight)
    metrics = [json.loads(line) for line in (folder / "metrics.json").open()][-1]
    averages = [EMA, "train.model_ema.use_ema_weights_for_eval_only=true"]
    for options in ([], averages):
        scores = tiny_run("a", "--eval-only", file, *options)
        assert scores["bbox"]["AP"] == pytest.approx(metrics["bbox/AP"])


def test_evaluation_refuses_what_it_cannot_score(tiny_run):
    with pytest.raises(InputError, match="train.init_checkpoint="):
        tiny_run("a", "--eval-only")
    tiny_run("a")
    path = tiny_run.folder / "a/model_final.pth"
    content = tiny_run.checkpoint("a")
    del content["model"]["norm.weight"]
    torch.save(content, path)
    with pytest.raises(InputError, match=r"1 missing \(norm.weight\); .*--allow-partial"):
        tiny_run("a", "--eval-only", f"train.init_checkpoint={path}")
    assert "bbox" in tiny_run(
        "a", "--eval-only", "--allow-partial", f"train.init_checkpoint={path}"
    )


def test_training_from_backbone_weights(tiny_run):
    tiny_run("a")
    weights = tiny_run.checkpoint("a")["model"]
    path = tiny_run.folder / "backbone.pth"
    torch.save({k[9:]: v for k, v in weights.items() if k.startswith("backbone.")}, path)
    tiny_run("b", f"train.init_checkpoint={path}", "optimizer.lr=0.0", "train.max_iter=1")
    assert torch.equal(
        tiny_run.checkpoint("b")["model"]["backbone.weight"], weights["backbone.weight"]
    )


def test_fine_tuning_by_class_names_with_a_frozen_backbone(tiny_run):
    tiny_run("a")
    path = tiny_run.folder / "a/model_final.pth"
    content = tiny_run.checkpoint("a")
    content["metadata"]["classes"] = ["Bright", "DARK"]  # the data set's are dark and bright
    torch.save(content, path)
    tiny_run("b", f"train.init_checkpoint={path}", "train.freeze=[backbone]", "train.max_iter=2")
    before, after = content["model"], tiny_run.checkpoint("b")["model"]
    assert torch.equal(after["backbone.weight"], before["backbone.weight"])
    assert not torch.equal(after["norm.weight"], before["norm.weight"])
    tiny_run("c", f"train.init_checkpoint={path}", "optimizer.lr=0.0", "train.max_iter=1")
    after = tiny_run.checkpoint("c")["model"]
    assert torch.equal(after["class_embed.weight"], before["class_embed.weight"].flip(0))
