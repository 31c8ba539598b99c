"""Our models against numbers that upstream's computed in float64 (CPU, one thread).

Each golden file names a config, overrides for a small model, and the losses, gradients and
detections that upstream (LeapLabTHU/Rank-DETR 9b0f28f, IDEA-Research/detrex e244e6c,
FelixCaae/AlignDETR 4b125f7, IDEA-Research/Stable-DINO e3a5400) gets with the weights and images of
recipe.py. They are compared twice: with float64 throughout, in plain PyTorch, and as models run, in
float32 with the compiled kernels.
Gradients are compared in float64 alone: where a ReLU's input is near zero, or a sample near a pixel
line, float32 falls on one side or the other, depending on the processor.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate

from .. import models
from . import recipe
from .precision import float64

# losses and gradients relative (a gradient's dot product ten times that), scores, boxes in pixels
GATES = {
    "float64": dict(losses=1e-9, gradients=1e-8, scores=1e-9, boxes=1e-6),
    "float32": dict(losses=1e-5, scores=2e-5, boxes=5e-3),
}
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


@pytest.fixture(scope="module", params=GOLDEN, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> dict:
    return json.loads(request.param.read_text())


@pytest.fixture(scope="module", params=GATES)
def case(golden: dict, request: pytest.FixtureRequest) -> tuple[dict, torch.nn.Module, dict]:
    """The golden file, its model in the precision of the test, and the gates."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with float64() if request.param == "float64" else nullcontext():
        model = instantiate(models.load(golden["config"], golden["overrides"]).model)
        model.to(torch.get_default_dtype())
        recipe.fill(model, golden["seed"], golden["weight_tweaks"])
        yield golden, model, GATES[request.param]
    torch.set_num_threads(threads)


def test_state_dict_keys_shapes_and_aliases(case) -> None:
    golden, model, _ = case
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    assert set(state) - set(golden["keys"]) <= {k for k in state if k.startswith("criterion.")}
    for key, entry in golden["keys"].items():
        if isinstance(entry, str):
            assert state[key].data_ptr() == state[entry].data_ptr(), f"{key} is not {entry}"
        else:
            assert list(state[key].shape) == entry, key


def test_losses_and_gradients(case) -> None:
    golden, model, gates = case
    model.train()
    for name, want in golden["cases"].items():
        if "losses" not in want:
            continue
        model.zero_grad(set_to_none=True)
        set_iteration(model, want["iter"])
        torch.manual_seed(1234)
        losses = model(recipe.batch(golden, name.split(".")[0], train=True))
        assert set(losses) == set(want["losses"]), name
        for key, value in want["losses"].items():
            tolerance = gates["losses"] * max(abs(value), 1e-2)
            assert abs(losses[key].item() - value) <= tolerance, f"{name}: {key}"
        if "gradients" in gates:
            sum(losses.values()).backward()
            check_gradients(model, want, gates["gradients"], name)


def set_iteration(model: torch.nn.Module, iteration: int | None) -> None:
    for module in model.modules():
        if iteration is not None and hasattr(module, "iter"):
            module.iter = iteration


def check_gradients(model: torch.nn.Module, want: dict, gate: float, name: str) -> None:
    """Norm, and dot product with a fixed direction, of every gradient in the file."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for key, (norm, dot) in want["grads"].items():
        grad = parameters[key].grad
        grad = torch.zeros_like(parameters[key]) if grad is None else grad
        grad = grad.double().numpy()
        scale = max(norm, 1e-5 * want["grad_norm"])
        assert abs(np.sqrt((grad**2).sum()) - norm) <= gate * scale, f"{name}: {key}"
        direction = recipe.signed("g", key, grad.shape)
        assert abs((grad * direction).sum() - dot) <= 10 * gate * scale, f"{name}: {key}"


def test_detections(case) -> None:
    golden, model, gates = case
    model.eval()
    for name, want in golden["cases"].items():
        if "scores" not in want:
            continue
        with torch.no_grad():
            (result,) = model(recipe.batch(golden, name.split(".")[0], train=False))
        found = result["instances"]
        assert np.abs(found.scores.numpy() - want["scores"]).max() <= gates["scores"], name
        assert found.pred_classes.tolist() == want["pred_classes"], name
        boxes = found.pred_boxes.tensor.numpy()
        assert np.abs(boxes - want["pred_boxes"]).max() <= gates["boxes"], name
