"""Full-size models have upstream's parameters: names, order, shapes, aliases, initial values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from tests.models import ROOT

FULL = json.loads((Path(__file__).parent / "full_size.json").read_text())


@pytest.mark.parametrize("config", FULL, ids=lambda c: Path(c).stem)
def test_parameters_equal_upstream(config: str) -> None:
    want = FULL[config]
    torch.manual_seed(0)
    model = instantiate(LazyConfig.load(str(ROOT / config)).model)
    assert sum(p.numel() for p in model.parameters()) == want["parameters"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == want["trainable"]
    lines = describe(model)
    assert len(lines) == want["keys"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == want["sha256"]
    for name, (mean, std, _, _) in want.get("init", {}).items():
        value = model.state_dict()[name].double()
        noise = 6 * std / value.numel() ** 0.5 + 1e-4
        assert abs(value.mean().item() - mean) <= noise, name
        assert abs(value.std(correction=0).item() - std) <= 0.1 * std + 1e-3, name


def describe(model: torch.nn.Module) -> list[str]:
    """ "name [shape]" of each tensor, or "name =first name" where it is stored a second time."""
    first: dict[int, str] = {}
    lines = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name.startswith("criterion."):
            continue
        known = first.setdefault(id(tensor), name)
        lines.append(f"{name} {list(tensor.shape)}" if known == name else f"{name} ={known}")
    return lines
