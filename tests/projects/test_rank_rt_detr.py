"""Rank-DETR's parts on RT-DETR: without them it is RT-DETR, and each does its own."""

from __future__ import annotations

import pytest
import torch

from tests.models import image, tiny

RANK = "projects/rank_rt_detr/configs/rank_rtdetr_r50vd_6x_coco.py"
PLAIN = "projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py"
BATCH = [image(64, 64, 3, seed=1), image(64, 64, 2, seed=2)]
OFF = {
    "rank_adaptive_classhead": False,
    "transformer__decoder__query_rank_layer": False,
    "criterion__GIoU_aware_class_loss": False,
}
FACTORS = {"criterion__weight_dict__loss_class": 1.0}


def losses(model: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    with torch.no_grad():
        return model.train()(BATCH)


def ranked(**switches) -> torch.nn.Module:
    """The ranking model with the weights of the plain one where it has them."""
    model = tiny(RANK, **FACTORS, **switches)
    model.load_state_dict(tiny(PLAIN).state_dict(), strict=False)
    return model


def test_without_its_parts_it_is_rt_detr() -> None:
    plain, model = tiny(PLAIN), ranked(**OFF)
    assert model.state_dict().keys() == plain.state_dict().keys()
    expected = losses(plain)
    values = losses(model)
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value)


@pytest.mark.parametrize(
    ("switch", "part"),
    [
        ("rank_adaptive_classhead", "rank_adaptive_classhead_emb"),
        ("transformer__decoder__query_rank_layer", "rank_aware_content_query"),
    ],
)
def test_a_part_has_weights_only_where_it_is_on(switch: str, part: str) -> None:
    for on in (False, True):
        names = ranked(**{**OFF, switch: on}).state_dict()
        assert any(part in name for name in names) == on


def test_inference_of_fewer_layers_reads_the_bias_of_those() -> None:
    model = ranked(transformer__decoder__eval_layers=1).eval()
    with torch.no_grad():
        images = model.preprocess(BATCH)
        plain = model.run(model.encode(images))[0].logits
        for i, table in enumerate(model.rank_adaptive_classhead_emb):
            table.weight.fill_(i + 1.0)
        biased = model.run(model.encode(images))[0].logits
    assert len(plain) == 1
    torch.testing.assert_close(biased, plain + 1.0)


def test_the_giou_aware_loss_is_the_matching_queries_only() -> None:
    expected, values = (
        losses(ranked(**{**OFF, "criterion__GIoU_aware_class_loss": on})) for on in (False, True)
    )
    changed = {name for name, value in expected.items() if not torch.equal(values[name], value)}
    assert changed == {"loss_class_0", "loss_class"}


def test_the_high_order_cost_starts_when_it_is_told() -> None:
    model = ranked(criterion__matcher__matcher_change_iter=10)
    by_iteration = []
    for iteration in (9, 10):
        model.criterion.matcher.iter = iteration
        by_iteration.append(losses(model))
    boxes = [name for name in by_iteration[0] if "bbox" in name and "dn" not in name]
    assert any(not torch.equal(by_iteration[0][name], by_iteration[1][name]) for name in boxes)


def test_the_loss_of_the_small_model_falls() -> None:
    config = "projects/rank_rt_detr/configs/rank_rtdetr_efficientnet_lite0_sample_data.py"
    model = tiny(config, neck__embed_dim=64).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    history = []
    for _ in range(20):
        loss = sum(model(BATCH).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.1)
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.85 * sum(history[:5]), history
