"""Groups are isolated, and each group is supervised by itself."""

from __future__ import annotations

import torch
from torch import nn

from detrex.modeling.criterion import Predictions
from detrex.modeling.queries import QueryGroup
from tests.models import image, tiny

CONFIG = "projects/group_detr/configs/group_detr_r50_50ep.py"
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]


def group_detr() -> nn.Module:
    return tiny(CONFIG, group_nums=3).train()


def predict(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        memory = model.encode(model.preprocess(BATCH))
        queries = model.make_queries(memory, None)
        return model.decode(queries, memory)[:2]


def test_a_group_does_not_reach_the_others() -> None:
    model = group_detr()
    nn.init.normal_(model.bbox_embed.layers[-1].weight, std=0.1)
    before = predict(model)
    with torch.no_grad():
        model.query_embed.weight[10:20] += 1.0
    after = predict(model)
    for x, y in zip(before, after, strict=True):
        assert x.shape[2] == 30
        for others in (slice(0, 10), slice(20, 30)):
            assert torch.equal(x[:, :, others], y[:, :, others])
        assert not torch.allclose(x[:, :, 10:20], y[:, :, 10:20])


def test_inference_keeps_the_first_group() -> None:
    model = group_detr()
    assert [x.shape[2] for x in predict(model)] == [30, 30]
    assert [x.shape[2] for x in predict(model.eval())] == [10, 10]
    # Decoders see padding in training, as upstream, so one image at a time is compared.
    for x, y in zip(*(alone(model.train(mode)) for mode in (True, False)), strict=True):
        torch.testing.assert_close(x[:, :, :10], y, atol=1e-5, rtol=1e-5)


def alone(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        memory = model.encode(model.preprocess(BATCH[:1]))
        return model.decode(model.make_queries(memory, None), memory)[:2]


def test_losses_are_the_mean_over_groups_matched_apart() -> None:
    model = group_detr()
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 2, 30, 5, generator=generator)
    boxes = torch.rand(2, 2, 30, 4, generator=generator) * 0.5 + 0.2
    targets = model.targets(BATCH)
    together = model.criterion.losses_of_sets(
        [Predictions(logits, boxes, model.groups[0])], targets
    )
    one = QueryGroup(size=10)
    apart = [
        model.criterion.losses_of_sets(
            [Predictions(logits[:, :, at : at + 10], boxes[:, :, at : at + 10], one)], targets
        )
        for at in (0, 10, 20)
    ]
    assert set(together) == {f"loss_{k}{n}" for k in ("class", "bbox", "giou") for n in ("", "_0")}
    for name, loss in together.items():
        torch.testing.assert_close(loss, sum(part[name] for part in apart) / 3)
