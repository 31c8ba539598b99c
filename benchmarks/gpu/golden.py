"""Every method's small model on the device against the numbers of tests/parity/golden.

In float32, as models run. Random numbers are drawn on the CPU, whatever the device, as the golden
files' were: a GPU's generator gives others. Convolutions do not round to TF32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from detectron2.config import instantiate
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmarks.gpu.checks import GOLDEN, CheckFailed, Result, within
from benchmarks.gpu.measures import full_float32
from detrex.layers import denoising as layer_denoising
from detrex.modeling import denoising as model_denoising
from tests import models
from tests.parity import recipe

# Ten times what the CPU is held to in float32: a GPU sums in another order.
LOSSES, SCORES, BOXES = 1e-4, 2e-4, 5e-2  # relative, absolute, pixels
DRAWS = {"rand", "randn", "rand_like", "randn_like", "randint", "randint_like"}


class CpuDraws(TorchFunctionMode):
    """Inside, random numbers come from the CPU's generator and go to where they were asked for."""

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = dict(kwargs or {})
        if getattr(function, "__name__", "") not in DRAWS:
            return function(*args, **kwargs)
        device = kwargs.pop("device", None)
        if args and isinstance(args[0], Tensor):
            device = device or args[0].device
            args = (torch.empty(args[0].shape, dtype=args[0].dtype), *args[1:])
        numbers = function(*args, **kwargs)
        return numbers if device is None else numbers.to(device)


@contextmanager
def label_noise_on_cpu() -> Iterator[None]:
    """Inside, labels are changed as on the CPU, which draws as many numbers as upstream; a GPU
    draws one for each label and so does not wait."""

    original = layer_denoising.apply_label_noise

    def on_cpu(labels: Tensor, *options: object) -> Tensor:
        return original(labels.cpu(), *options).to(labels.device)

    with (
        patch.object(layer_denoising, "apply_label_noise", on_cpu),
        patch.object(model_denoising, "apply_label_noise", on_cpu),
    ):
        yield


def check_model(device: str, name: str) -> Result:
    """Losses and detections of all cases of a golden file."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    overrides = {**golden["overrides"], "model.device": device}
    model = instantiate(models.load(golden["config"], overrides).model)
    recipe.fill(model, golden["seed"], golden["weight_tweaks"])
    errors: dict[str, tuple[float, float]] = {}
    with full_float32():
        model.to(device)
        for case, expected in golden["cases"].items():
            batch = recipe.batch(golden, case.split(".")[0], train="losses" in expected)
            if "losses" in expected:
                error = loss_error(model.train(), batch, expected)
                errors[f"{case}: losses"] = (error, LOSSES)
            if "scores" in expected:
                scores, boxes = detection_errors(model.eval(), batch, expected)
                errors[f"{case}: scores"] = (scores, SCORES)
                errors[f"{case}: boxes"] = (boxes, BOXES)
    return within(errors)


def loss_error(model: nn.Module, batch: list[dict], expected: dict) -> float:
    """The largest difference of a loss, relative to it, or to 0.01 where it is smaller.

    Raises:
        CheckFailed: other losses than expected.
    """
    for module in model.modules():
        if expected["iter"] is not None and hasattr(module, "iter"):
            module.iter = expected["iter"]
    torch.manual_seed(1234)
    with torch.no_grad(), CpuDraws(), label_noise_on_cpu():
        losses = model(batch)
    if losses.keys() != expected["losses"].keys():
        raise CheckFailed(f"losses {sorted(losses)}, not {sorted(expected['losses'])}")
    return max(
        abs(losses[key].item() - value) / max(abs(value), 1e-2)
        for key, value in expected["losses"].items()
    )


@torch.no_grad()
def detection_errors(model: nn.Module, batch: list[dict], expected: dict) -> tuple[float, float]:
    """The largest difference of scores, best first, and of boxes in pixels from the nearest of the
    same class and score: where two scores are nearly equal their order may change."""
    (result,) = model(batch)
    instances = result["instances"].to("cpu")
    scores = torch.tensor(expected["scores"], dtype=torch.float64)
    if len(scores) != len(instances):
        raise CheckFailed(f"{len(instances)} detections, not {len(scores)}")
    order = (instances.scores.double() - scores).abs().max().item()
    alike = (scores[:, None] - instances.scores.double()).abs() <= SCORES
    alike &= torch.tensor(expected["pred_classes"])[:, None] == instances.pred_classes
    boxes = torch.tensor(expected["pred_boxes"], dtype=torch.float64)
    distances = (boxes[:, None] - instances.pred_boxes.tensor.double()).abs().amax(-1)
    return order, distances.where(alike, torch.inf).min(1).values.max().item()
