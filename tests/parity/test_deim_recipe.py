"""DEIM's recipe against what its released code (09d35d5) computes.

``deim_recipe.json``: learning rates by iteration, sizes of batches, the decay of averaged weights,
which transforms run in which epochs, and what Mosaic and MixUp make of images and boxes.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from omegaconf import OmegaConf
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from detrex.config import get_config
from detrex.config.lengths import resolve_schedule
from detrex.data import Mosaic, TorchvisionMapper
from detrex.modeling.ema import ModelEma
from detrex.train.optim import LearningRates
from detrex.train.schedules import FlatCosine
from tests.refusals import refused

from . import recipe

GOLDEN = json.loads((Path(__file__).parent / "deim_recipe.json").read_text())


def schedule(case: dict, unit: str) -> FlatCosine:
    """The schedule of a golden case with its lengths in epochs or in fractions of the run."""
    cfg = get_config("common/train.py")
    epochs = case["epochs"]
    flat, final = case["flat_epochs"], case["no_aug_epochs"]
    if unit == "epochs":
        flat, final = f"{flat}ep", f"{final}ep"
    else:
        flat, final = flat / epochs, final / epochs
    node = L(FlatCosine)(max_iter="${train.max_iter}", warmup=case["warmup_iter"])
    node.update(flat=flat, final=final, lowest=case["lr_gamma"])
    cfg.lr_multiplier = node
    cfg.train.max_iter = f"{epochs}ep"
    resolve_schedule(cfg, case["iterations_per_epoch"])
    return FlatCosine(**{k: v for k, v in cfg.lr_multiplier.items() if k != "_target_"})


@pytest.mark.parametrize("unit", ["epochs", "fractions"])
@pytest.mark.parametrize("name", GOLDEN["schedule"])
def test_learning_rates(name: str, unit: str) -> None:
    case = GOLDEN["schedule"][name]
    total = case["epochs"] * case["iterations_per_epoch"]
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in case["base_lrs"]]
    optimizer = torch.optim.SGD(groups)
    rates = LearningRates(optimizer, schedule(case, unit), total)
    for iteration, expected in zip(case["iterations"], case["lr"], strict=True):
        rates.load_state_dict({"last_epoch": iteration})
        actual = [group["lr"] for group in optimizer.param_groups]
        expected = expected if isinstance(expected, list) else [expected]
        assert actual == pytest.approx(expected, rel=1e-6, abs=1e-18), iteration


def test_a_schedule_that_is_longer_than_its_run_is_refused() -> None:
    with refused("lr_multiplier", "flat=80", "final=30", "train.max_iter=100"):
        FlatCosine(100, 5, 80, 30)


def test_decay_and_averages() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    model.double()
    ema = ModelEma(model, decay=0.9999, warmup=2000)
    for i in range(1, 5001):
        nn.init.constant_(model.weight, math.sin(0.01 * i))
        ema.update(model, i)
        if golden := GOLDEN["ema"].get(str(i)):
            assert 0.9999 * (1 - math.exp(-i / 2000)) == pytest.approx(golden["decay"], rel=1e-8)
            expected = golden["average_of_sin_0_01_i"]
            assert ema.averages["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_sizes_of_batches() -> None:
    model = get_config("../projects/rt_detr/configs/models/rtdetr_r50vd.py").model
    assert sorted(OmegaConf.to_container(model.train_sizes)) == sorted(GOLDEN["scales"])


POLICIES = {"r50_60ep": ("deim.py", 60), "base_58ep": ("deim.py", 58)}
NOT_HERE = {"ConvertPILImage", "ConvertBoxes", "RandomAffine"}  # types of upstream's, Mosaic's own


def mapper(name: str, windows: list | None = None) -> TorchvisionMapper:
    """The mapper of a recipe in a run of 10 iterations an epoch."""
    cfg = get_config("common/recipes/deim.py")
    file, epochs = POLICIES[name]
    cfg.train.max_iter = 10 * epochs
    for window, (start, stop) in zip(
        cfg.dataloader.train.mapper.windows, windows or [], strict=False
    ):
        window.update(start=f"{start}ep", stop=f"{stop}ep")
    resolve_schedule(cfg, 10)
    return instantiate(cfg.dataloader.train.mapper)


def names(transforms: list, chosen: int) -> list[str]:
    """Names of the transforms that run, with the first or second of a choice of two."""
    result: list[str] = []
    for transform in transforms:
        if isinstance(transform, v2.RandomChoice):
            assert list(transform.p) == [0.5, 0.5]
            result += names([transform.transforms[chosen]], chosen)
        elif isinstance(transform, v2.Compose | v2.RandomApply):
            result += names(transform.transforms, chosen)
        else:
            result.append(type(transform).__name__)
    return [name for name in result if name not in NOT_HERE]


@pytest.mark.parametrize("name", POLICIES)
def test_which_transforms_run_when(name: str) -> None:
    made = mapper(name, [(4, 29), (29, 50)] if name == "base_58ep" else None)
    checked = 0
    for rule in GOLDEN["policy"][name]:
        for first, last in rule["epochs"]:
            for made.iter in (10 * first, 10 * last + 9):
                transforms = [*made.window.transforms, *made.transforms]
                for chosen, key in enumerate(("mosaic", "plain")):
                    expected = [x for x in rule[key] if x not in NOT_HERE]
                    assert names(transforms, chosen) == expected
                    checked += 1
                assert bool(made.window.pairs) == ("Mosaic" in rule["mosaic"])
    assert checked == 16


def record(boxes: list, labels: list) -> dict:
    image = torch.full((3, 4, 4), len(boxes) * 50, dtype=torch.uint8)
    corners = Boxes(torch.tensor(boxes).reshape(-1, 4))
    return {"image": image, "instances": Instances((4, 4), gt_boxes=corners, gt_classes=labels)}


@pytest.mark.parametrize("name", GOLDEN["mixup"])
def test_mixup_of_a_batch(name: str) -> None:
    """The batch before it is mixed is the golden case of an epoch without MixUp."""
    golden = GOLDEN["mixup"][name]
    before = golden["cases"][0]
    batch = [
        record(b, torch.tensor(x)) for b, x in zip(before["boxes"], before["labels"], strict=True)
    ]
    made = mapper("r50_60ep")
    random.seed(golden["spec"]["python_seed"])
    for case in golden["cases"]:
        random.seed(golden["spec"]["python_seed"])
        made.iter = 10 * case["epoch"] + 5
        mixed, weight = batch, None
        for transform in made.window.pairs:
            weight = transform.draw()
            if weight is not None:
                mixed = [transform(x, batch[i - 1], weight) for i, x in enumerate(batch)]
        assert (weight is not None) == case["applied"]
        for i, x in enumerate(mixed):
            assert x["instances"].gt_classes.tolist() == case["labels"][i]
            assert (
                x["instances"].gt_boxes.tensor.tolist() == Boxes(case["boxes"][i]).tensor.tolist()
            )
            if case["applied"]:
                ratio = golden["draws"][1]
                assert case["ratio"][i][0] == pytest.approx(
                    ratio if before["labels"][i] else 1 - ratio
                )
                levels = [50 * len(before["boxes"][j]) for j in (i, i - 1)]
                expected = round(ratio * levels[0] + (1 - ratio) * levels[1])
                assert x["image"].unique().tolist() == [expected]


def test_mosaic_of_four_images() -> None:
    golden = GOLDEN["mosaic"]
    spec = golden["spec"]

    def sample(i: int) -> dict:
        (height, width), count = spec["sizes"][i], spec["boxes"][i]
        boxes = torch.from_numpy(recipe.boxes(spec["seed"], i, count, height, width, 0.2, 0.6))
        pixels = torch.from_numpy(recipe.image(spec["seed"], i, height, width))
        return {
            "image": tv_tensors.Image(pixels),
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
            "labels": torch.from_numpy(recipe.labels(spec["seed"], i, count, 6)),
        }

    others = iter(golden["other_tiles"])
    result = Mosaic(spec["tile"])({**sample(0), "further": lambda tile: tile(sample(next(others)))})
    assert list(result["image"].shape[1:]) == golden["canvas_hw"]
    assert tuple(result["boxes"].canvas_size) == tuple(golden["canvas_hw"])
    assert torch.allclose(result["boxes"].as_subclass(torch.Tensor), torch.tensor(golden["boxes"]))
    assert result["labels"].tolist() == golden["labels"]
    pixels = result["image"].as_subclass(torch.Tensor).double()
    # Upstream resizes with PIL: at most one grey level apart.
    assert pixels.mean((1, 2)).tolist() == pytest.approx(golden["mean_pixel"], abs=0.01)
    black = (pixels.sum(0) == 0).double().mean().item()
    assert black == pytest.approx(golden["black_fraction"])
