"""The plain model of the step benchmark computes upstream's numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from detectron2.config import instantiate

from benchmarks.baseline.model import PlainRankDetr
from tests import models
from tests.parity import recipe
from tests.parity.precision import float64
from tests.parity.test_parity import GATES, GOLDEN, check_gradients, set_iteration


@pytest.fixture(scope="module")
def golden() -> dict:
    (path,) = (path for path in GOLDEN if path.stem == "rank_detr__base")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def plain(golden: dict) -> Iterator[PlainRankDetr]:
    config = models.load(golden["config"], golden["overrides"]).model
    with float64():
        model = instantiate(config)
        recipe.fill(model, golden["seed"], golden["weight_tweaks"])
        yield PlainRankDetr(model, instantiate(config.backbone)).double()


@pytest.mark.parametrize("case", ["A.train_before", "A.train_after", "B.train_after"])
def test_loss_and_gradients_are_upstreams(golden: dict, plain: PlainRankDetr, case: str) -> None:
    want = golden["cases"][case]
    plain.train().zero_grad(set_to_none=True)
    set_iteration(plain, want["iter"])
    loss = plain(recipe.batch(golden, case[0], train=True))["loss"]
    assert loss.item() == pytest.approx(sum(want["losses"].values()), rel=1e-5)
    loss.backward()
    check_gradients(plain.model, want, GATES["float64"]["gradients"], case)


def test_detections_are_upstreams(golden: dict, plain: PlainRankDetr) -> None:
    want = golden["cases"]["E1.eval"]
    with torch.no_grad():
        (result,) = plain.eval()(recipe.batch(golden, "E1", train=False))
    found = result["instances"]
    assert np.abs(found.scores.numpy() - want["scores"]).max() <= 2e-5
    assert found.pred_classes.tolist() == want["pred_classes"]
