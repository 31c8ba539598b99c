"""Every name and module of upstream's is there, or one clear error."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys

import detectron2.checkpoint
import pytest
import torch
import torch.nn.functional as F
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import SimpleTrainer
from omegaconf import OmegaConf
from torch import nn

from detrex.compat.names import MODULES, MOVED, NAMES
from tests.models import ROOT
from tests.refusals import refused

NAMES_OF_MODULES = [
    (module, name)
    for module, homes in NAMES.items()
    for names in homes.values()
    for name in names.split()
]
# what upstream has and this toolbox does not: module, name
REFUSED = [
    ("detrex", "_C"),
    ("detrex.config.config", "get_config_folder"),
    ("detrex.data", "ColorAugSSDTransform"),
    ("detrex.data", "COCOPanopticNewBaselineDatasetMapper"),
    ("detrex.data", "MotDatasetMapper"),
    ("detrex.data", "datasets"),
    ("detrex.data.dataset_mappers", "COCOInstanceNewBaselineDatasetMapper"),
    ("detrex.data.dataset_mappers", "maskformer_semantic_transform_gen"),
    ("detrex.layers", "DCNv3"),
    ("detrex.layers.attention", "FlashAttention"),
    ("detrex.layers.conv", "ConvGELU"),
    ("detrex.layers.denoising", "DenoisingGenerator"),
    ("detrex.layers.mlp", "SwiGLU"),
    ("detrex.layers.multi_scale_deform_attn", "MSDeformAttn"),
    ("detrex.layers.position_embedding", "PositionEmbeddingRandom"),
    ("detrex.layers.transformer", "CrossLayer"),
    ("detrex.modeling", "SwinTransformerV2"),
    ("detrex.modeling.backbone", "EVA02_ViT"),
    ("detrex.modeling.backbone", "SwinTransformerV2"),
    ("detrex.modeling.criterion", "BaseCriterion"),
    ("detrex.modeling.criterion.criterion", "BaseCriterion"),
    ("detrex.modeling.ema", "EMASchedule"),
    ("detrex.modeling.losses", "VariFocalLoss"),
    ("detrex.modeling.matcher", "ModifedMatcher"),
    ("detrex.modeling.matcher.matcher", "ModifedMatcher"),
    ("detrex.modeling.neck", "FPN"),
    ("detrex.utils", "NestedTensor"),
    ("detrex.utils.dist", "setup_for_distributed"),
    ("detrex.utils.misc", "nested_tensor_from_tensor_list"),
    ("aligndetr.losses", "IA_BCE_loss"),
    ("aligndetr.criterions", "BaseCriterion"),
]
REFUSED_MODULES = """
detrex._C detrex.data.datasets detrex.data.mot_build
detrex.data.dataset_mappers.coco_instance_new_baseline_dataset_mapper detrex.data.transforms
detrex.evaluation.dancetrack_evaluation
detrex.layers.dcn_v3 detrex.modeling.backbone.eva_02 detrex.modeling.backbone.eva_02_utils
detrex.modeling.backbone.swin_transformer_v2
detrex.modeling.backbone.utils detrex.modeling.criterion.base_criterion
detrex.modeling.criterion.two_stage_criterion detrex.modeling.losses.dice_loss
detrex.modeling.losses.giou_loss detrex.modeling.matcher.modified_matcher
detrex.modeling.meta_arch detrex.tokenizer detrex.utils.profiler
detrex.version aligndetr.utils
""".split()


@pytest.mark.parametrize(("module", "name"), NAMES_OF_MODULES)
def test_names_are_there(module: str, name: str) -> None:
    scope = {}
    exec(f"from {module} import {name}", scope)
    assert scope[name] is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_there(module: str) -> None:
    stands_in = importlib.import_module(module)
    assert stands_in is importlib.import_module(MODULES[module])
    assert stands_in.__spec__.name == stands_in.__name__ == MODULES[module]


@pytest.mark.parametrize("old", MOVED)
def test_paths_of_earlier_versions(old: str) -> None:
    assert importlib.import_module(old) is importlib.import_module(MOVED[old])


def test_modules_in_folders_of_earlier_versions() -> None:
    from detrex.engine.trainer import Trainer
    from detrex.experiments.report.page import write_report

    assert Trainer.__module__ == "detrex.train.trainer"
    assert write_report.__module__ == "detrex.report.page"
    with pytest.raises(ImportError, match="detrex.train.nothing is not offered"):
        importlib.import_module("detrex.engine.nothing")


def test_a_class_of_a_file_beside_a_saved_config_of_upstream(tmp_path) -> None:
    name = "detectron2._cfg_loader3a6d.focalnet.py.FocalNet"
    (tmp_path / "config.yaml").write_text(f"backbone: {{_target_: {name}, embed_dim: 8}}")
    backbone = instantiate(LazyConfig.load(str(tmp_path / "config.yaml")).backbone)
    assert type(backbone) is importlib.import_module("detrex.modeling.backbone").FocalNet
    with pytest.raises(ImportError):
        importlib.import_module("detectron2._cfg_loader3a6d.other.py")


@pytest.mark.parametrize(("module", "name"), REFUSED)
def test_names_that_are_not_offered_are_one_clear_error(module: str, name: str) -> None:
    with pytest.raises(ImportError, match=f"{name} is not offered: it belongs to a detrex project"):
        exec(f"from {module} import {name}")


@pytest.mark.parametrize("module", REFUSED_MODULES)
def test_modules_that_are_not_offered_are_one_clear_error(module: str) -> None:
    with pytest.raises(ImportError, match=f"{module} is not offered: ") as error:
        importlib.import_module(module)
    assert error.value.name == module


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("import detrex.modeling.meta_arch.detr", ["detrex.modeling.meta_arch "]),
        ("import detrex.layers.dcn_v3", ["timm_parts("]),
        ("import detrex._C", ["detrex.layers.multi_scale_deformable_attention"]),
        ("import detrex.modeling.losses.giou_loss", ["from detrex.modeling.losses"]),
        ("import detrex.data.datasets", ["detrex.data.DetrDatasetMapper"]),
        (
            "from detrex.modeling.backbone import EVA02_ViT",
            ["detrex.modeling.backbone.EVA02_ViT", "timm_parts("],
        ),
    ],
)
def test_the_error_says_what_to_use_instead(statement: str, names: list[str]) -> None:
    with refused("not offered", *names, error=ImportError):
        exec(statement)


def test_python_asks_modules_for_names_that_none_has() -> None:
    """pickle and inspect look up dunder names; submodules are imported after their look-up."""
    import detrex.layers.mlp
    from detrex.modeling import ema  # noqa: F401

    assert not hasattr(detrex.layers.mlp, "__wrapped__")
    assert pickle.loads(pickle.dumps(detrex.layers.MLP)) is detrex.layers.MLP
    assert importlib.util.find_spec("detrex.layers.conv") is not None


@pytest.mark.parametrize("first", ["aligndetr.losses", "detrex.layers.conv", "detrex.modeling.ema"])
def test_any_import_may_be_the_first(first: str) -> None:
    code = f"""
import {first}
for module in ("aligndetr.utils", "detrex.layers.nothing"):
    try:
        __import__(module)
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is not offered") == 2


def test_whoever_needs_another_package_gets_its_name() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package'"):
        importlib.import_module("no_such_package")
    assert detectron2.checkpoint.DetectionCheckpointer is DetectionCheckpointer


def test_layers() -> None:
    from detrex.layers import ConvNorm, ConvNormAct, LayerNorm

    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7)
    block = ConvNormAct(
        3, 4, 3, stride=2, padding=1, norm_layer=nn.GroupNorm(2, 4), activation=nn.ReLU()
    )
    expected = F.relu(block.norm(F.conv2d(x, block.conv.weight, block.conv.bias, 2, 1)))
    torch.testing.assert_close(block(x), expected)
    plain = ConvNorm(3, 4, bias=False)
    torch.testing.assert_close(plain(x), F.conv2d(x, plain.conv.weight))
    first, last = LayerNorm(3, channel_last=False), LayerNorm(3)
    nn.init.normal_(first.weight)
    last.load_state_dict(first.state_dict())
    mean = x.mean(1, keepdim=True)
    normal = (x - mean) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    torch.testing.assert_close(first(x), normal * first.weight[:, None, None])
    torch.testing.assert_close(first(x), last(x.movedim(1, -1)).movedim(-1, 1))


def test_deformable_attention_under_its_old_names() -> None:
    from benchmarks.baseline.attention import attention
    from detrex.layers import MultiScaleDeformableAttention as ours
    from detrex.layers.multi_scale_deform_attn import (
        MultiScaleDeformableAttention,
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    assert MultiScaleDeformableAttention is ours
    torch.manual_seed(0)
    shapes = torch.tensor([[4, 5], [2, 3]])
    value = torch.randn(2, 26, 2, 8, requires_grad=True)
    places, weights = torch.rand(2, 3, 2, 2, 4, 2), torch.rand(2, 3, 2, 2, 4)
    expected = attention(value, shapes.tolist(), places, weights)
    out = multi_scale_deformable_attn_pytorch(value, shapes, places, weights)
    torch.testing.assert_close(out, expected)
    start = torch.tensor([0, 20])
    applied = MultiScaleDeformableAttnFunction.apply(value, shapes, start, places, weights, 64)
    assert torch.equal(applied, out)
    grad = torch.randn_like(out)
    found, wanted = (torch.autograd.grad(x, value, grad)[0] for x in (applied, expected))
    torch.testing.assert_close(found, wanted)


def test_focal_loss_of_the_criterion() -> None:
    from detrex.modeling.criterion.criterion import sigmoid_focal_loss

    torch.manual_seed(0)
    logits, targets = torch.randn(2, 5, 3), torch.rand(2, 5, 3).round()
    p = logits.sigmoid()
    right = torch.where(targets > 0, p, 1 - p)
    loss = torch.where(targets > 0, 0.25, 0.75) * (1 - right) ** 2 * -right.log()
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, 4.0) * 5, loss.sum() / 4)


def test_losses_with_weights_and_reductions() -> None:
    from detrex.modeling.losses import DiceLoss, L1Loss, dice_loss, smooth_l1_loss

    torch.manual_seed(0)
    preds, targets, weight = torch.rand(3, 4), torch.rand(3, 4).round(), torch.rand(3)
    dice = 1 - (2 * (preds * targets).sum(1) + 1) / (preds.sum(1) + targets.sum(1) + 1)
    found = dice_loss(preds, targets, weight, eps=0.0, reduction="none")
    torch.testing.assert_close(found, dice * weight)
    logits = preds.logit()
    torch.testing.assert_close(DiceLoss(eps=0.0)(logits, targets), dice.mean())
    absolute = (preds - targets).abs()
    torch.testing.assert_close(L1Loss("sum", 3.0)(preds, targets), 3 * absolute.sum())
    smooth = torch.where(absolute < 0.5, absolute**2, absolute - 0.25)
    found = smooth_l1_loss(preds, targets, beta=0.5, avg_factor=7)
    torch.testing.assert_close(found, smooth.sum() / 7)
    nothing = torch.zeros(0, 4)
    assert L1Loss()(nothing, nothing) == smooth_l1_loss(nothing, nothing) == 0
    with pytest.raises(ValueError, match="avg_factor"):
        L1Loss("sum")(preds, targets, avg_factor=2)
    with pytest.raises(ValueError, match="reduction 'most': not one of none, mean, sum"):
        L1Loss("most")(preds, targets)


def test_focal_loss_of_probabilities() -> None:
    from detrex.modeling.losses import FocalLoss, focal_loss_with_prob

    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3), torch.tensor([0, 3, 2, 1])  # 3: no class
    expected = FocalLoss(loss_weight=2.0)(logits, labels, avg_factor=3)
    torch.testing.assert_close(
        FocalLoss(loss_weight=2.0, activated=True)(logits.sigmoid(), labels, avg_factor=3), expected
    )
    torch.testing.assert_close(
        2 * focal_loss_with_prob(logits.sigmoid(), labels, avg_factor=3), expected
    )


def test_costs_are_the_matchers() -> None:
    from detrex.modeling.matcher import (
        CrossEntropyCost,
        FocalLossCost,
        GIoUCost,
        HungarianMatcher,
        L1Cost,
    )

    torch.manual_seed(0)
    logits, boxes = torch.randn(6, 4), torch.rand(6, 4) * 0.4 + 0.3
    labels, gt = torch.tensor([1, 3]), torch.rand(2, 4) * 0.4 + 0.3
    from detrex.layers import box_cxcywh_to_xyxy as corners

    for kind, cost in {"focal_loss_cost": FocalLossCost, "ce_cost": CrossEntropyCost}.items():
        matcher = HungarianMatcher(2.0, 5.0, 3.0, kind)
        expected = matcher.cost(logits[None], boxes[None], labels, gt)[0]
        found = cost(weight=2.0)(logits, labels) + L1Cost(5.0)(boxes, gt)
        found = found + GIoUCost(3.0)(corners(boxes), corners(gt))
        torch.testing.assert_close(found, expected)


def ema_config(**options):
    settings = dict(enabled=True, decay=0.9, device="", use_ema_weights_for_eval_only=True)
    return OmegaConf.create({"train": {"model_ema": settings | options}, "model": {}})


class Halves(nn.Module):
    """Its only weight, 1 at first, is its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, data):
        self.count += 1
        return {"loss": self.weight}


def test_averaged_weights_as_train_scripts_use_them(tmp_path) -> None:
    from detrex.modeling import ema

    cfg, model = ema_config(), Halves()
    ema.may_build_model_ema(cfg, model)
    checkpointables = ema.may_get_ema_checkpointer(cfg, model)
    trainer = SimpleTrainer(model, [None] * 3, torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.register_hooks([ema.EMAHook(cfg, model)])
    trainer.train(0, 3)  # the weight: 0.9, 0.8, 0.7
    average = 1.0
    for weight in (0.9, 0.8, 0.7):
        average = 0.9 * average + 0.1 * weight
    assert model.weight.item() == pytest.approx(0.7)
    with ema.apply_model_ema_and_restore(model):
        assert model.weight.item() == pytest.approx(average) and model.count == 3
    assert model.weight.item() == pytest.approx(0.7)

    DetectionCheckpointer(model, str(tmp_path), **checkpointables).save("last")
    again = Halves()
    ema.may_build_model_ema(cfg, again)
    checkpointer = DetectionCheckpointer(again, **ema.may_get_ema_checkpointer(cfg, again))
    checkpointer.load(str(tmp_path / "last.pth"))
    assert again.weight.item() == pytest.approx(0.7)
    hook = ema.EMAHook(cfg, again)
    hook.before_train()  # continues from what is loaded
    before = ema.apply_model_ema(again, save_current=True)
    assert again.weight.item() == pytest.approx(average)
    ema.apply_model_ema(again, state=before)
    assert again.weight.item() == pytest.approx(0.7)


def test_averaged_weights_are_off_unless_enabled() -> None:
    from detrex.modeling import ema

    cfg, model = ema_config(enabled=False), Halves()
    ema.may_build_model_ema(cfg, model)
    assert not hasattr(model, "ema_state") and ema.may_get_ema_checkpointer(cfg, model) == {}


def test_ema_state() -> None:
    from detrex.modeling.ema import EMAState, EMAUpdater

    model = Halves()
    state = EMAState()
    assert not state.has_inited() and state.device is None
    updater = EMAUpdater(state, decay=0.5)
    updater.init_state(model)
    assert state.has_inited() and state.device == torch.device("cpu")
    model.weight.data.fill_(3.0)
    updater.update(model)
    assert state.get_ema_model(model).weight == 2.0 and model.weight == 3.0
    other = EMAState()
    other.load_state_dict(copy.deepcopy(state.state_dict()))
    with pytest.raises(RuntimeError), other.apply_and_restore(model) as own:
        assert (model.weight.item(), own.state["weight"].item()) == (2.0, 3.0)
        raise RuntimeError
    assert model.weight == 3.0  # also after an error
    assert not other.clear().has_inited()


def test_configs_of_upstream_load_its_fragments() -> None:
    """The names that its configs import from files beside them."""
    schedule = ROOT / "configs/common/coco_schedule.py"
    assert {f"lr_multiplier_{n}x" for n in (1, 2, 3, 6, 9)} <= set(LazyConfig.load(str(schedule)))


def test_pickle_may_ask_every_module_for_a_package():
    """As torch.compile's cache does for operators, whose qualified names begin with "torch"."""
    for module in ("detrex.utils", "detrex.layers", "detrex.modeling"):
        assert not hasattr(importlib.import_module(module), "torch")
