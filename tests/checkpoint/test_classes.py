from __future__ import annotations

import logging

import pytest
import torch
from detectron2.data import MetadataCatalog
from torch import nn

from detrex.checkpoint import load_weights
from detrex.checkpoint.classes import CLASS_COLUMNS, CLASS_ROWS
from detrex.data.class_names import matching
from tests import models

DINO = "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py"
ANIMALS, BIRDS = ["ant", "bee", "crow"], ["dove", "Crow", "owl", "ANT"]


class Heads(nn.Module):
    """Every kind of class weight: rows, rows and one for none, columns, proposals by row 0."""

    class_agnostic_head = "class_embed.1"

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.class_embed = nn.ModuleList(nn.Linear(2, classes) for _ in range(2))
        self.label_encoder = nn.Embedding(classes + 1, 2)
        self.rank_adaptive_classhead_emb = nn.ModuleList([nn.Embedding(4, classes)])
        self.other = nn.Linear(classes, 2)


def saved(tmp_path, model: nn.Module, classes: list[str] | None) -> str:
    path = tmp_path / "weights.pth"
    metadata = {} if classes is None else {"metadata": {"classes": classes}}
    torch.save({"model": model.state_dict(), **metadata}, path)
    return str(path)


def test_rows_of_equal_names_are_carried_over_and_the_rest_starts_anew(tmp_path, caplog):
    old, new = Heads(3), Heads(4)
    path, fresh = saved(tmp_path, old, ANIMALS), {k: v.clone() for k, v in new.state_dict().items()}
    with caplog.at_level(logging.INFO):
        report, _ = load_weights(new, path, strict=False, classes=BIRDS)
    ours, theirs = new.state_dict(), old.state_dict()
    for name in ("class_embed.0.weight", "class_embed.0.bias", "label_encoder.weight"):
        rows = [fresh[name][0], theirs[name][2], fresh[name][2], theirs[name][0]]
        rows += [theirs[name][3]] if "label" in name else []
        assert torch.equal(ours[name], torch.stack(rows))
    name = "rank_adaptive_classhead_emb.0.weight"
    columns = [fresh[name][:, 0], theirs[name][:, 2], fresh[name][:, 2], theirs[name][:, 0]]
    assert torch.equal(ours[name], torch.stack(columns, 1))
    name = "class_embed.1.weight"
    assert torch.equal(ours[name], torch.cat([theirs[name], fresh[name][3:]]))
    assert list(report.misshaped) == ["other.weight"]
    assert torch.equal(ours["other.weight"], fresh["other.weight"])
    assert "2 of 4 classes carried over by name: Crow, ANT" in caplog.text
    assert "2 of 4 classes start anew: dove, owl" in caplog.text
    assert "2 classes are spelt differently in the checkpoint: Crow = crow, ANT = ant" in (
        caplog.text
    )
    assert "other.weight not loaded: (2, 3) in the file, (2, 4) in the model" in caplog.text


def test_equally_many_classes_in_another_order(tmp_path):
    old, new = Heads(3), Heads(3)
    path = saved(tmp_path, old, ANIMALS)
    load_weights(new, path, strict=False, classes=ANIMALS[::-1])
    assert torch.equal(new.class_embed[0].weight, old.class_embed[0].weight.flip(0))
    load_weights(new, path, strict=False, classes=ANIMALS)
    assert torch.equal(new.class_embed[0].weight, old.class_embed[0].weight)


def test_a_file_without_names_is_coco_s_where_it_has_80_rows_and_the_model_has_not(tmp_path):
    old, new = Heads(80), Heads(2)
    names = MetadataCatalog.get("coco_2017_train").thing_classes
    load_weights(new, saved(tmp_path, old, None), strict=False, classes=["Tooth-Brush", "unicorn"])
    assert torch.equal(new.class_embed[0].bias[0], old.class_embed[0].bias[79])
    assert names[79] == "toothbrush"
    same = Heads(80)  # as many: they are taken for the same
    load_weights(
        same, saved(tmp_path, old, None), strict=False, classes=[str(i) for i in range(80)]
    )
    assert torch.equal(same.class_embed[0].bias, old.class_embed[0].bias)


def test_nameless_classes_keep_what_belongs_to_none(tmp_path):
    old, new = Heads(3), Heads(4)
    fresh = new.class_embed[0].weight.clone()
    load_weights(new, saved(tmp_path, old, None), strict=False, classes=BIRDS)
    assert torch.equal(new.class_embed[0].weight, fresh)
    assert torch.equal(new.class_embed[1].weight[:3], old.class_embed[1].weight)
    assert torch.equal(new.label_encoder.weight[-1], old.label_encoder.weight[-1])


@pytest.mark.parametrize(
    ("trained", "classes", "expected"),
    [
        (["Person", "Cell Phone"], ["cell phone", "person", "dog"], [1, 0, None]),
        (["Moniter/TV", "Orange/Tangerine"], ["orange", "tv"], [1, 0]),
        (["Cup/Glass", "glass"], ["glass", "cup"], [1, 0]),  # whole names first
        (["traffic_light", "鳥"], ["Traffic Light", "鳥"], [0, 1]),
        (["", ""], ["a", ""], [None, None]),
        ([""], [""], [None]),
        (["cat", "Cat"], ["Cat", "cat", "CAT"], [1, 0, None]),  # exact names first
        (["Cat", "cat"], ["CAT"], [None]),  # two of the checkpoint could be meant
        (["Cat"], ["cat", "CAT"], [None, None]),  # two could mean it
        (["cat", "cat"], ["cat", "cat", "dog"], [None, None, None]),
        (["कि", "की"], ["कि", "की", "कु"], [0, 1, None]),  # vowel signs
        (["קָ"], ["ק"], [None]),
        (["1.5 mg", "15 mg", "1 5 mg"], ["15 mg", "1.5mg", "20 mg"], [1, 0, None]),
        (["C"], ["C++", "C#", "c"], [None, None, 0]),
        (["A", "B-"], ["A-", "B", "a"], [None, None, 0]),
        (["-1"], ["1"], [None]),
        (["1,5 mg", "1/2"], ["5 mg", "1", "2"], [None, None, None]),
        (["👍", "👎🏽"], ["👍", "👎", "✋"], [0, None, None]),
        (["résumé"], ["resume"], [None]),
        (["re\u0301sume\u0301"], ["R\u00c9SUM\u00c9"], [0]),  # one letter, written in two ways
        (["m²"], ["m2"], [None]),
        (["a_b", "a b"], ["a b", "a_b", "A B"], [1, 0, None]),
        (["a_b", "a b"], ["A B"], [1]),  # white space before other signs
        (["a_b", "a-b"], ["a b"], [None]),
        (["traffic\u00a0light"], ["traffic  light "], [0]),
        (["Cup/Glass", "Glass/Bottle"], ["glass", "bottle"], [None, 1]),
    ],
)
def test_matching_by_name(trained, classes, expected):
    assert matching(trained, classes) == expected


@pytest.mark.parametrize(
    "config",
    [
        "projects/rank_detr/configs/rank_dino_r50_4scale_12ep.py",
        "projects/dn_deformable_detr/configs/dn_deformable_detr_r50_12ep.py",
        "projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py",
        "projects/d_fine/configs/dfine_hgnetv2_s_coco.py",
        "projects/co_detr/configs/co_deformable_detr_r50_1x_coco.py",
    ],
)
def test_every_weight_that_grows_with_the_classes_is_known(config):
    few, more = (models.tiny(config, num_classes=count).state_dict() for count in (3, 4))
    grown = [name for name, value in few.items() if value.shape != more[name].shape]
    known = [n for n in grown if CLASS_ROWS.search(n) or CLASS_COLUMNS.search(n)]
    # Boxes by class of an auxiliary head: they start anew.
    assert all("box_predictor.bbox_pred" in name for name in set(grown) - set(known))
    assert len(known) > 3


@pytest.mark.parametrize("config", [models.RANK_DETR, DINO])
def test_fine_tuning_starts_anew_with_the_classes_alone(tmp_path, config):
    old, new = (models.tiny(config, num_classes=count) for count in (80, 3))
    path = saved(tmp_path, old, None)
    report, _ = load_weights(new, path, strict=False, classes=["dog", "unicorn", "person"])
    assert report  # every tensor has its place
    for i, head in enumerate(new.class_embed):
        row_0_is_any = config == models.RANK_DETR and i == len(new.class_embed) - 1
        rows = [0, 1, 2] if row_0_is_any else [16, None, 0]
        for ours, theirs in enumerate(rows):
            if theirs is not None:
                assert torch.equal(head.weight[ours], old.class_embed[i].weight[theirs])
    assert old.class_embed[0].weight[0].ne(new.class_embed[0].weight[1]).all()
