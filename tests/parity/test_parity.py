"""Our models against numbers that upstream's computed (CPU, fp32, one thread).

Each golden file names a config, overrides for a small model, and the losses, gradients and
detections that upstream (LeapLabTHU/Rank-DETR 9b0f28f, IDEA-Research/detrex e244e6c,
FelixCaae/AlignDETR 4b125f7) gets with the weights and images of recipe.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate

from .. import models
from . import recipe

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


@pytest.fixture(scope="module", params=GOLDEN, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> tuple[dict, torch.nn.Module]:
    golden = json.loads(request.param.read_text())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = instantiate(models.load(golden["config"], golden["overrides"]).model)
    recipe.fill(model, golden["seed"], golden["weight_tweaks"])
    yield golden, model
    torch.set_num_threads(threads)


def test_state_dict_keys_shapes_and_aliases(case) -> None:
    golden, model = case
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    assert set(state) - set(golden["keys"]) <= {k for k in state if k.startswith("criterion.")}
    for key, entry in golden["keys"].items():
        if isinstance(entry, str):
            assert state[key].data_ptr() == state[entry].data_ptr(), f"{key} is not {entry}"
        else:
            assert list(state[key].shape) == entry, key


def test_losses_and_gradients(case) -> None:
    golden, model = case
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
            tolerance = 1e-5 * max(abs(value), 1e-2)
            assert abs(losses[key].item() - value) <= tolerance, f"{name}: {key}"
        sum(losses.values()).backward()
        check_gradients(model, want, name)


def set_iteration(model: torch.nn.Module, iteration: int | None) -> None:
    for module in model.modules():
        if iteration is not None and hasattr(module, "iter"):
            module.iter = iteration


def check_gradients(model: torch.nn.Module, want: dict, name: str) -> None:
    """Norm, and dot product with a fixed direction, of every gradient in the file."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for key, (norm, dot) in want["grads"].items():
        grad = parameters[key].grad
        grad = torch.zeros_like(parameters[key]) if grad is None else grad
        grad = grad.double().numpy()
        scale = max(norm, 1e-5 * want["grad_norm"])
        assert abs(np.sqrt((grad**2).sum()) - norm) <= 1e-4 * scale, f"{name}: {key}"
        direction = recipe.signed("g", key, grad.shape)
        assert abs((grad * direction).sum() - dot) <= 1e-3 * scale, f"{name}: {key}"


def test_detections(case) -> None:
    golden, model = case
    model.eval()
    for name, want in golden["cases"].items():
        if "scores" not in want:
            continue
        with torch.no_grad():
            (result,) = model(recipe.batch(golden, name.split(".")[0], train=False))
        found = result["instances"]
        assert np.abs(found.scores.numpy() - want["scores"]).max() <= 2e-5, name
        assert found.pred_classes.tolist() == want["pred_classes"], name
        boxes = found.pred_boxes.tensor.numpy()
        assert np.abs(boxes - want["pred_boxes"]).max() <= 5e-3, name
