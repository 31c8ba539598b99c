"""Anchor DETR: where its queries start, what padding counts, and which arguments it takes."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import LazyCall as L

from detrex.modeling.queries import QueryGroup
from projects.anchor_detr.modeling import AnchorDETRTransformer
from tests.models import image, tiny

CONFIG = "projects/anchor_detr/configs/anchor_detr_r50_50ep.py"
BATCH = [image(64, 96, 3, seed=1), image(160, 64, 2, seed=2)]


def transformer(**options) -> AnchorDETRTransformer:
    sizes = dict(embed_dim=32, num_encoder_layers=1, num_decoder_layers=1, num_query_pattern=2)
    return AnchorDETRTransformer(**{**sizes, "num_query_position": 4, **options})


def test_every_pattern_starts_from_every_point() -> None:
    model = transformer()
    content, positions, points = model.queries()
    torch.testing.assert_close(points, model.position.weight.repeat(2, 1))
    for pattern, group in zip(model.pattern.weight, content.view(2, 4, -1), strict=True):
        torch.testing.assert_close(group, pattern.expand(4, -1))
    torch.testing.assert_close(positions[:4], positions[4:])
    x_place, y_place = positions.chunk(3, -1)[1:]
    torch.testing.assert_close(x_place, model.embed_1d(points[:, 0]))
    torch.testing.assert_close(y_place, model.embed_1d(points[:, 1]))


def test_a_grid_of_points_is_not_learned() -> None:
    model = transformer(spatial_prior="grid", num_query_position=5)
    expected = [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]
    assert model.points.tolist() == expected
    assert not any("position" in name or "grid" in name for name in model.state_dict())


def test_boxes_are_measured_from_the_points() -> None:
    model = tiny(CONFIG).eval()  # its box heads start at no offset, and sizes at sigmoid(-2)
    with torch.no_grad():
        found, _ = model.run(model.encode(model.preprocess(BATCH)))
    points = model.transformer.points.repeat(2, 1).expand(2, 2, -1, -1)
    torch.testing.assert_close(found.boxes[..., :2], points, atol=1e-3, rtol=0)
    size = torch.tensor(-2.0).sigmoid().expand(2, 2, 10, 2)
    torch.testing.assert_close(found.boxes[..., 2:], size)


def test_padding_counts_in_training_as_upstream_and_not_at_inference() -> None:
    model = tiny(CONFIG)
    images = model.preprocess(BATCH)
    with torch.no_grad():
        trained, used = model.train().encode(images), model.eval().encode(images)
    assert used.y.hidden.tolist() == [[False] * 2 + [True] * 3, [False] * 5]
    torch.testing.assert_close(trained.y.share, torch.full((2, 5), 0.2))
    expected = torch.tensor([[0.5] * 2 + [0.0] * 3, [0.2] * 5])
    torch.testing.assert_close(used.y.share, expected)


def test_groups_share_out_the_queries() -> None:
    groups = [L(QueryGroup)(size=5), L(QueryGroup)(name="_one2many", size=5, copies=2)]
    model = tiny(CONFIG, groups=groups).train()
    losses = model(BATCH)
    assert "loss_class_0_one2many" in losses and torch.stack(list(losses.values())).isfinite().all()
    model.eval()
    with torch.no_grad():
        first, _ = model.run(model.encode(model.preprocess(BATCH)))
        model.transformer.pattern.weight[1] += 1
        second, _ = model.run(model.encode(model.preprocess(BATCH)))
    assert first.logits.shape[2] == 5
    assert torch.equal(first.logits, second.logits)  # the second pattern trains only
    with pytest.raises(ValueError, match="model.groups have 7 queries, .* are 10"):
        tiny(CONFIG, groups=[L(QueryGroup)(size=7)])
