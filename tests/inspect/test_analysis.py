"""Parameters, FLOPs and kept bytes against formulas worked out by hand."""

from __future__ import annotations

import runpy

import pytest
import torch
from torch import nn

from detrex.inspect.analysis import (
    REST,
    activation_bytes,
    flops_by_part,
    parameters,
    parameters_by_part,
)
from detrex.utils.errors import InputError
from tests import models

BATCH = [models.image(64, 96, 2)]
TOKENS = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2  # strides 8, 16, 32 and one more convolution


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def test_parameters_by_part() -> None:
    model = models.tiny()
    found = parameters_by_part(model)
    attention = linear(256, 256) * 3 + linear(256, 128)  # values, output, offsets; 8 x 4 x 4
    ffn, norm = linear(256, 32) + linear(32, 256), 2 * 256
    assert found["transformer.encoder"] == (attention + ffn + 2 * norm,) * 2
    levels = sum(linear(channels, 256) + norm for channels in (32, 48, 64, 9 * 64))
    assert found["neck"] == (levels, levels)
    assert sum(all_ for all_, _ in found.values()) == parameters(model)[0]
    assert found["backbone"][0] - found["backbone"][1] == 3 * 7 * 7 * 16  # the frozen stem
    heads = sum(p.numel() for name, p in model.named_parameters() if "_embed" in name)
    assert found[REST][0] > heads > 0


def test_tables_by_query_are_read_as_far_as_inference_goes() -> None:
    """As many queries in all as channels: other weights of that length are read whole."""
    queries = dict(num_queries_one2one=64, num_queries_one2many=192)
    config = "projects/h_deformable_detr/configs/h_deformable_detr_r50_two_stage_12ep.py"
    model = models.tiny(config, **queries, transformer__two_stage_num_proposals=256)
    everything, read = parameters(model)
    assert everything - read == 192 * 256


def test_flops_of_encoder_and_neck() -> None:
    found = flops_by_part(models.tiny().eval(), BATCH)
    projections = 3 * 256 * 256 + 256 * 128
    samples = 4 * 8 * 4 * 4 * 32  # bilinear; heads, levels, points, channels of a head
    ffn, norms = 2 * 256 * 32, 2 * 5 * 256
    assert found["transformer.encoder"] == TOKENS * (projections + samples + ffn + norms)
    levels = 96 * 32 * 256 + 24 * 48 * 256 + 6 * 64 * 256 + 2 * 9 * 64 * 256
    assert found["neck"] == levels + TOKENS * 5 * 256
    assert sum(found.values()) == 2 * found["total"]


def test_layers_listed_by_the_transformer_itself() -> None:
    model = models.tiny("projects/anchor_detr/configs/anchor_detr_r50_50ep.py").eval()
    rows, columns, width = 2, 3, 256
    tokens = rows * columns
    projections = (4 * tokens + rows + columns) * width**2  # queries twice, values, output; keys
    means, weights = 2 * tokens * width, tokens * (rows + columns) * width
    sums = tokens * (tokens + rows) * width  # along the rows, then along the columns
    ffn, norms = tokens * 2 * width * 32, tokens * 2 * 5 * width
    expected = projections + means + weights + sums + ffn + norms
    assert flops_by_part(model, BATCH)["transformer.encoder"] == pytest.approx(expected, rel=1e-5)
    attention, norm = linear(256, 5 * 256) + linear(256, 256), 2 * 256
    expected = attention + linear(256, 32) + linear(32, 256) + 2 * norm
    assert parameters_by_part(model)["transformer.encoder"] == (expected, expected)


class TwoSquares(nn.Module):
    """Keeps its input for the first square, the square for the second, and a weight for neither."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10, 4))

    def forward(self, batch: list[torch.Tensor]) -> torch.Tensor:
        x = batch[0] * self.weight  # keeps the batch and the weight
        return (x.pow(2).pow(2) + x).sum()


def test_activation_bytes() -> None:
    batch = [torch.randn(10, 4)]
    assert activation_bytes(TwoSquares(), batch) == 3 * 10 * 4 * 4  # batch, x, its square


def test_activations_grow_with_the_image() -> None:
    small, large = (
        activation_bytes(models.tiny(), [models.image(side, side, 2)]) for side in (64, 128)
    )
    assert 2 * small < large < 4 * small  # queries cost the same


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    tool = runpy.run_path(str(models.ROOT / "tools/analyze_model.py"))
    config = str(models.ROOT / "projects/detr/configs/detr_r50_300ep.py")
    line = ["analyze_model.py", "--config-file", config, "--size"]
    monkeypatch.setattr("sys.argv", [*line, "64", "96"])
    tool["main"]()
    printed = capsys.readouterr().out
    assert "| total" in printed and "41.52" in printed and "GiB" in printed
    monkeypatch.setattr("sys.argv", [*line, "8", "8"])
    with pytest.raises(InputError, match="--size 8 8: give at least 32"):
        tool["main"]()
