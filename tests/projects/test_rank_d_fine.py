"""Rank-DETR's parts on D-FINE: without them it is D-FINE, and each does its own."""

from __future__ import annotations

import pytest
import torch

from tests.models import image, tiny
from tests.predict.graphs import fill_zeros

RANK = "projects/rank_d_fine/configs/rank_dfine_efficientnet_lite0_sample_data.py"
PLAIN = "projects/d_fine/configs/dfine_efficientnet_lite0_sample_data.py"
BATCH = [image(64, 64, 3, seed=1), image(64, 64, 2, seed=2)]
OFF = {
    "rank_adaptive_classhead": False,
    "transformer__decoder__query_rank_layer": False,
    "criterion__GIoU_aware_class_loss": False,
}
FACTORS = {"criterion__weight_dict__loss_class": 1.0}


def losses(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        return model.train()(BATCH)


@pytest.fixture(scope="module")
def plain() -> torch.nn.Module:
    model = tiny(PLAIN)
    fill_zeros(model)
    return model


def ranked(plain: torch.nn.Module, **switches) -> torch.nn.Module:
    """The ranking model with the weights of the plain one where it has them."""
    model = tiny(RANK, **FACTORS, **{**OFF, **switches})
    model.load_state_dict(plain.state_dict(), strict=False)
    return model


def test_without_its_parts_it_is_d_fine(plain: torch.nn.Module) -> None:
    model, expected = ranked(plain), losses(plain)
    assert model.state_dict().keys() == plain.state_dict().keys()
    for name, value in losses(model).items():
        torch.testing.assert_close(value, expected[name])


def test_sorting_alone_changes_no_loss(plain: torch.nn.Module) -> None:
    """The biases by rank are zero: queries, their distributions and outputs only change places."""
    model, expected = ranked(plain, rank_adaptive_classhead=True), losses(plain)
    with torch.no_grad():
        outputs, _ = model.eval().run(model.encode(model.preprocess(BATCH)))
    in_order = torch.arange(outputs.place.shape[2])[:, None].expand_as(outputs.place[0])
    assert torch.equal(outputs.place[0], in_order)
    assert not torch.equal(outputs.place[1], in_order)
    values = losses(model)
    assert values.keys() == expected.keys()
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)


def test_the_query_rank_layer_trains(plain: torch.nn.Module) -> None:
    model = ranked(plain, rank_adaptive_classhead=True, transformer__decoder__query_rank_layer=True)
    torch.manual_seed(0)
    sum(model.train()(BATCH).values()).backward()
    for name in ("rank_aware_content_query", "post_racq_trans", "rank_adaptive_classhead_emb"):
        grads = [p.grad for key, p in model.named_parameters() if name in key]
        assert grads and all(g is not None and g.abs().max() > 0 for g in grads), name


def test_the_giou_aware_loss_is_the_matching_queries_only(plain: torch.nn.Module) -> None:
    expected = losses(plain)
    values = losses(ranked(plain, criterion__GIoU_aware_class_loss=True))
    changed = {name for name, value in expected.items() if not torch.equal(values[name], value)}
    assert changed == {"loss_class_0", "loss_class", "loss_class_pre"}
