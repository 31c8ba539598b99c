"""The fast paths (attention by rows, C or Triton kernels, folded norms) against the plain ones, in
fp32 and bf16; activation checkpointing and torch.compile against neither."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from detrex.modeling import detector
from detrex.modeling.queries import QueryGroup, isolation_mask
from detrex.modeling.transformer import decoder
from tests.models import image, tiny

# Without two stages there is no ranking that rounding could turn over.
CONFIG = "projects/deformable_detr/configs/deformable_detr_r50_with_box_refinement_50ep.py"
GROUPS = (
    QueryGroup(size=6),
    QueryGroup("_one2many", size=8, blocks=2, copies=2),
    QueryGroup("_sighted", size=4, sees=("",)),
)
BATCH = [image(64, 96, 3), image(80, 64, 2, seed=1)]


def build() -> nn.Module:
    """A model whose samples lie off the pixel centres, where the gradient has kinks, and whose
    frozen norms do something."""
    model = tiny(CONFIG, groups=list(GROUPS)).train()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in (*model.named_parameters(), *model.backbone.named_buffers()):
        if "sampling_offsets" in name or "norm" in name:
            tensor.data += 0.1 * torch.rand(tensor.shape, generator=generator)
    return model


def predict(model: nn.Module, bf16: bool, batch: list[dict] = BATCH) -> tuple[Tensor, Tensor]:
    """Logits and boxes of all layers, and the gradient of all parameters, as two vectors."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        memory = model.encode(model.preprocess(batch))
        found = model.decode(model.make_queries(memory, None), memory)
    outputs = torch.cat([x.float().flatten() for x in found[:2]])
    torch.cat([found.logits.float(), found.boxes.float()], -1).sin().sum().backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return outputs.detach(), torch.cat(grads)


def distance(x: Tensor, y: Tensor) -> float:
    return ((x - y).norm() / y.norm()).item()


@pytest.fixture
def plain_model(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setenv("DETREX_ATTENTION", "pytorch")
    monkeypatch.setattr(decoder, "attention_rows", isolation_mask)
    monkeypatch.setattr(detector, "fold_norms", lambda part: None)
    return build()


def test_fast_and_plain_paths_agree(
    plain_model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, plain = predict(plain_model, bf16=False), predict(plain_model, bf16=True)
    monkeypatch.undo()
    model = build()
    for found, expected in zip(predict(model, bf16=False), exact, strict=True):
        assert distance(found, expected) < 1e-5
    for found, other, expected in zip(predict(model, bf16=True), plain, exact, strict=True):
        assert 0 < distance(found, expected) < 1.5 * distance(other, expected) + 1e-3
        assert distance(found, expected) < 0.05


def test_checkpointing_changes_no_number() -> None:
    model = build()
    expected = predict(model, bf16=False)
    model.transformer.encoder.use_checkpoint = model.transformer.decoder.use_checkpoint = True
    for found, reference in zip(predict(model, bf16=False), expected, strict=True):
        assert distance(found, reference) < 1e-6


def units(model: nn.Module) -> list[nn.Module]:
    """What ``train.compile`` compiles."""
    transformer = model.transformer
    return [model.backbone, *transformer.encoder.layers, *transformer.decoder.layers]


def test_compiled_parts_change_no_number_and_have_no_graph_break() -> None:
    model = build()
    expected = predict(model, bf16=False)
    for unit in units(model):
        unit.compile(backend="aot_eager", fullgraph=True)
    for found, reference in zip(predict(model, bf16=False), expected, strict=True):
        assert distance(found, reference) < 1e-5


def test_compiled_parts_take_other_image_sizes_without_compiling_again() -> None:
    model = build()
    other = [image(96, 128, 1), image(64, 128, 0)]
    expected = [predict(model, bf16=False, batch=batch) for batch in (BATCH, other)]
    for unit in units(model):
        unit.compile(backend="eager", fullgraph=True, dynamic=True)
    torch.compiler.reset()
    predict(model, bf16=False)
    graphs = counters["stats"]["unique_graphs"]
    found = predict(model, bf16=False, batch=other)
    assert counters["stats"]["unique_graphs"] == graphs > 0
    for x, reference in zip(found, expected[1], strict=True):
        assert distance(x, reference) < 1e-5


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles with g++ on the CPU")
def test_inductor_changes_no_number() -> None:
    model = build()
    expected = predict(model, bf16=False)
    model.transformer.decoder.layers[0].attentions[0].compile(fullgraph=True)
    for found, reference in zip(predict(model, bf16=False), expected, strict=True):
        assert distance(found, reference) < 1e-5
