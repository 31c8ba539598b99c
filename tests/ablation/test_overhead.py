"""What the parts of Rank-DETR cost: parameters as published, FLOPs by formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import instantiate
from torch import nn

from detrex.ablation import overhead
from detrex.ablation.jobs import load_variant
from detrex.ablation.plan import load_preset
from tests import models

BATCH = [models.image(64, 96, 2)]


def test_parameters_of_the_paper() -> None:
    """47.56 M to 49.10 M at inference (Rank-DETR, R50), which count COCO's 91 class ids."""
    variants = load_preset(overhead.PRESET).resolve([], []).variants
    plain, rank = (
        overhead.parameters(instantiate(load_variant(variant).model))
        for variant in (variants[0], variants[-1])
    )
    assert (round(plain[1] / 1e6, 2), round(rank[1] / 1e6, 2)) == (47.56, 49.10)
    # 1,800 ranks in training, 300 at inference; 6 layers with a bias, 5 gaps with an embedding
    linear = 5 * (256 * 256 + 256 + 512 * 256 + 256)
    assert rank[0] - plain[0] == 1800 * (6 * 91 + 5 * 256) + linear
    assert rank[1] - plain[1] == 300 * (6 * 91 + 5 * 256) + linear
    assert plain[0] - plain[1] == 1500 * 256  # contents of the one-to-many queries


def test_flops_of_the_query_rank_layer() -> None:
    layer = "transformer__decoder__query_rank_layer"
    on, off = (
        overhead.flops(models.tiny(**{layer: switch}).eval(), BATCH) for switch in (True, False)
    )
    assert on - off == 1 * 10 * (256 * 256 + 512 * 256)  # one gap between two layers, 10 queries


class Attention(nn.Module):
    def forward(self, batch: list[dict]) -> torch.Tensor:
        x = batch[0]["image"].float()[:, :, :8]
        return F.scaled_dot_product_attention(x, x[:, :5], x[:, :5])


def test_flops_of_attention() -> None:
    assert overhead.flops(Attention(), BATCH) == 2 * 3 * 64 * 5 * 8


def test_latencies_are_medians_of_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([9.0, 9.0, 1.0, 2.0, 2.0, 3.0, 1.0, 1.0])  # an unmeasured round, then three
    monkeypatch.setattr(overhead, "_seconds", lambda model, batch: next(seconds))
    assert overhead.latency_ratios([None, None], BATCH, 3) == [1.0, 1.5]
