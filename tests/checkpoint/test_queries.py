"""Checkpoints of fewer or more queries than the model has."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from detrex.checkpoint import load_weights
from detrex.modeling.queries import QueryGroup
from detrex.utils.errors import InputError
from tests import models


class Queries(nn.Module):
    """Every kind of query weight, and one that is none."""

    def __init__(self, *groups: QueryGroup, classes: int = 3) -> None:
        super().__init__()
        self.groups, count = groups, sum(group.size for group in groups)
        self.query_embed, self.refpoint_embed = nn.Embedding(count, 4), nn.Embedding(count, 2)
        self.rank_aware_content_query = nn.ModuleList([nn.Embedding(count, 4)])
        self.rank_adaptive_classhead_emb = nn.ModuleList([nn.Embedding(count, classes)])
        self.class_embed = nn.Linear(4, classes)
        self.other = nn.Linear(2, count)


LEARNED = ("query_embed.weight", "refpoint_embed.weight")
RANKS = ("rank_aware_content_query.0.weight", "rank_adaptive_classhead_emb.0.weight")
H = QueryGroup(name="_one2many", size=5, copies=6)


def load(tmp_path, old: nn.Module, new: nn.Module, **options) -> tuple[dict, dict, dict]:
    """Weights of the checkpoint, of the model before it was loaded, and after."""
    torch.save({"model": old.state_dict(), **options.pop("content", {})}, tmp_path / "old.pth")
    before = {name: value.clone() for name, value in new.state_dict().items()}
    load_weights(new, tmp_path / "old.pth", strict=False, **options)
    return old.state_dict(), before, new.state_dict()


@pytest.mark.parametrize(
    ("old", "new", "rows"),
    [
        # of each row of the model: the checkpoint's row, or -1 for a new one
        ([QueryGroup(size=2)], [QueryGroup(size=4)], [0, 1, -1, -1]),
        ([QueryGroup(size=4)], [QueryGroup(size=3)], [0, 1, 2]),
        ([QueryGroup(size=2), H], [QueryGroup(size=4), H], [0, 1, -1, -1, 2, 3, 4, 5, 6]),
        ([QueryGroup(size=4), H], [QueryGroup(size=2), H], [0, 1, 4, 5, 6, 7, 8]),
        ([QueryGroup(size=4, blocks=2)], [QueryGroup(size=6, blocks=2)], [0, 1, -1, 2, 3, -1]),
    ],
)
def test_which_row_goes_where(tmp_path, caplog, old, new, rows):
    with caplog.at_level(logging.WARNING):
        old, before, after = load(tmp_path, Queries(*old), Queries(*new))
    for name in LEARNED:
        expected = [before[name][i] if row < 0 else old[name][row] for i, row in enumerate(rows)]
        assert torch.equal(after[name], torch.stack(expected))
    last = []
    for row in rows:  # a new rank is like the one before
        last.append(last[-1] if row < 0 else row)
    for name in RANKS:
        assert torch.equal(after[name], old[name][last])
    assert torch.equal(after["other.weight"], before["other.weight"])
    text = f"weights of {len(old[LEARNED[0]])} queries, the model of {len(rows)}"
    assert text in caplog.text


def test_queries_and_classes_at_once(tmp_path):
    old, new = Queries(QueryGroup(size=2), classes=2), Queries(QueryGroup(size=4), classes=3)
    content = {"metadata": {"classes": ["ant", "bee"]}}
    old, before, after = load(tmp_path, old, new, content=content, classes=["bee", "cat", "ant"])
    name = RANKS[1]
    columns = [old[name][[0, 1, 1, 1], 1], before[name][:, 1], old[name][[0, 1, 1, 1], 0]]
    assert torch.equal(after[name], torch.stack(columns, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([QueryGroup(size=3)], [QueryGroup(size=4), H]),  # fewer rows than the other group has
        ([QueryGroup(size=3)], [QueryGroup(size=4, blocks=2)]),  # not of equal blocks
    ],
)
def test_other_layouts_start_anew(tmp_path, old, new):
    _, before, after = load(tmp_path, Queries(*old), Queries(*new))
    for name in (*LEARNED, *RANKS):
        assert torch.equal(after[name], before[name])


def test_a_strict_load_refuses_other_queries(tmp_path):
    torch.save({"model": Queries(QueryGroup(size=2)).state_dict()}, tmp_path / "old.pth")
    with pytest.raises(InputError, match="query_embed.weight"):
        load_weights(Queries(QueryGroup(size=4)), tmp_path / "old.pth", strict=True)


ONE_GROUP = {"num_queries": 15}
GROWN = {
    models.RANK_DETR: {"num_queries_one2one": 15, "transformer__two_stage_num_proposals": 35},
    "projects/dab_detr/configs/dab_detr_r50_50ep.py": ONE_GROUP,
    "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py": ONE_GROUP,
    "projects/group_detr/configs/group_detr_r50_50ep.py": ONE_GROUP,
    "projects/rank_detr/configs/rank_dino_r50_4scale_12ep.py": ONE_GROUP,
}


@pytest.mark.parametrize("config", GROWN)
def test_every_weight_of_a_grown_detector_is_loaded(tmp_path, config):
    old, new = models.tiny(config), models.tiny(config, **GROWN[config])
    assert sum(g.size for g in new.groups) > sum(g.size for g in old.groups)
    torch.save({"model": old.state_dict()}, tmp_path / "old.pth")
    report, _ = load_weights(new, tmp_path / "old.pth", strict=False)
    assert report, report.differences()
