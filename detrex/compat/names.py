"""Import paths of upstream and of earlier versions: where each name is now, what is not offered.

The finder below makes Python follow these tables. ``detrex/__init__.py`` installs it, so it
imports nothing else of this package.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

LOSSES = (
    "CrossEntropyLoss DiceLoss FocalLoss GIoULoss L1Loss cross_entropy dice_loss"
    " focal_loss_with_prob giou_loss l1_loss reduce_loss sigmoid_focal_loss smooth_l1_loss"
    " weight_reduce_loss"
)
CONVOLUTIONS = "BasicBlock BottleneckBlock DeformBottleneckBlock ResNetBlockBase"

# module: {module in which the names live: names}
NAMES: dict[str, dict[str, str]] = {
    "aligndetr.losses": {"detrex.compat.focal_loss": "sigmoid_focal_loss"},
    "detrex.checkpoint": {"detectron2.checkpoint": "DetectionCheckpointer"},
    "detrex.layers": {
        "detectron2.layers": "ShapeSpec",
        "detrex.compat.layers": "ConvNorm ConvNormAct LayerNorm PositionEmbeddingLearned",
        "detrex.compat.sampling": "multi_scale_deformable_attn_pytorch",
        "detrex.compat.transformer_layer": "BaseTransformerLayer",
        "projects.anchor_detr.modeling.row_column_attention": "Axis FeatureMap RowColumnAttention",
        "torchvision.ops": "masks_to_boxes",
    },
    "detrex.layers.box_ops": {"torchvision.ops": "masks_to_boxes"},
    "detrex.layers.position_embedding": {"detrex.compat.layers": "PositionEmbeddingLearned"},
    "detrex.modeling": {
        "detectron2.modeling.backbone.resnet": CONVOLUTIONS,
        "detrex.compat.losses": "dice_loss sigmoid_focal_loss",
        "detrex.modeling.backbone": "BasicStem ConvNeXt FocalNet ResNet TimmBackbone make_stage",
        "detrex.modeling.criterion": "SetCriterion",
        "detrex.modeling.matcher": "HungarianMatcher",
        "detrex.modeling.neck": "ChannelMapper",
    },
    "detrex.modeling.backbone": {
        "detectron2.modeling.backbone": "Backbone",
        "detectron2.modeling.backbone.resnet": CONVOLUTIONS,
        "detrex.compat.backbone": "TorchvisionBackbone get_vit_lr_decay_rate",
        "projects.rt_detr.modeling.resnet_vd": "DeepStem make_vd_stages",
    },
    "detrex.modeling.backbone.eva": {"detrex.compat.backbone": "get_vit_lr_decay_rate"},
    "detrex.modeling.backbone.resnet": {
        "detectron2.modeling.backbone.resnet": "DeformBottleneckBlock ResNetBlockBase",
    },
    "detrex.modeling.criterion": {"detrex.compat.focal_loss": "sigmoid_focal_loss"},
    "detrex.modeling.criterion.criterion": {"detrex.compat.focal_loss": "sigmoid_focal_loss"},
    "detrex.modeling.detector": {"detrex.compat.repeated": "check_repeated"},
    "detrex.modeling.ema": {
        "detrex.compat.ema": "EMAHook EMAState EMAUpdater apply_model_ema"
        " apply_model_ema_and_restore get_model_ema_state may_build_model_ema"
        " may_get_ema_checkpointer",
    },
    "detrex.modeling.losses": {"detrex.compat.losses": LOSSES},
    "detrex.modeling.matcher": {
        "detrex.compat.costs": "CrossEntropyCost FocalLossCost GIoUCost L1Cost",
    },
    "detrex.modeling.neck": {"projects.rt_detr.modeling.hybrid_encoder": "HybridEncoder"},
    "detrex.utils": {
        "detectron2.utils.comm": "get_rank",
        "detrex.utils.trackers": "WandbWriter",
        "torch.nn.functional": "interpolate",
    },
    "detrex.utils.events": {"detrex.utils.trackers": "WandbWriter"},
    "detrex.utils.dist": {"detectron2.utils.comm": "get_rank"},
    "detrex.utils.misc": {"torch.nn.functional": "interpolate"},
}

# upstream's module, or one that has moved: the module that stands in for it
MODULES = {
    "detrex.checkpoint.c2_model_loading": "detectron2.checkpoint.c2_model_loading",
    "detrex.checkpoint.detection_checkpoint": "detectron2.checkpoint.detection_checkpoint",
    "detrex.data.dataset_mappers": "detrex.data",
    "detrex.data.dataset_mappers.detr_dataset_mapper": "detrex.data.mapper",
    "detrex.layers.conv": "detrex.compat.layers",
    "detrex.layers.layer_norm": "detrex.compat.layers",
    "detrex.layers.multi_scale_deform_attn": "detrex.compat.sampling",
    "detrex.layers.row_column_attention": "projects.anchor_detr.modeling.row_column_attention",
    "detrex.layers.shape_spec": "detectron2.layers.shape_spec",
    "detrex.modeling.backbone.backbone": "detectron2.modeling.backbone.backbone",
    "detrex.modeling.backbone.resnet_vd": "projects.rt_detr.modeling.resnet_vd",
    "detrex.modeling.backbone.timm_backbone": "detrex.modeling.backbone.timm",
    "detrex.modeling.backbone.torchvision_backbone": "detrex.compat.backbone",
    "detrex.modeling.losses.cross_entropy_loss": "detrex.compat.losses",
    "detrex.modeling.losses.focal_loss": "detrex.compat.losses",
    "detrex.modeling.losses.utils": "detrex.compat.losses",
    "detrex.modeling.matcher.match_cost": "detrex.compat.costs",
    "detrex.modeling.neck.hybrid_encoder": "projects.rt_detr.modeling.hybrid_encoder",
}

# module or package of an earlier version: where it and what is in it are; the longest one counts
MOVED = {
    "detrex.data.custom_coco": "detrex.data.custom",
    "detrex.data.detr_dataset_mapper": "detrex.data.mapper",
    "detrex.data.layouts": "detrex.data.formats",
    "detrex.engine": "detrex.train",
    "detrex.engine.instantiation": "detrex.config.instantiation",
    "detrex.engine.performance": "detrex.modeling.performance",
    "detrex.engine.predictor": "detrex.predict.predictor",
    "detrex.engine.run_folder": "detrex.train.folder",
    "detrex.engine.schedule": "detrex.config.lengths",
    "detrex.engine.settings": "detrex.config.load",
    "detrex.engine.values": "detrex.config.values",
    "detrex.experiments": "detrex.ablation",
    "detrex.experiments.dataset_check": "detrex.inspect.dataset_check",
    "detrex.experiments.pictures": "detrex.inspect.pictures",
    "detrex.experiments.predictions": "detrex.predict.predictions",
    "detrex.experiments.query_paths": "detrex.inspect.query_paths",
    "detrex.experiments.report": "detrex.report",
    "detrex.experiments.runs": "detrex.report.runs",
    "detrex.experiments.video": "detrex.predict.video",
    "detrex.export": "detrex.predict",
    "detrex.modeling.analysis": "detrex.inspect.analysis",
    "detrex.utils.coco": "detrex.data.coco",
    "detrex.utils.contact_sheet": "detrex.inspect.contact_sheet",
}

# modules that upstream has, too: those of NAMES, the values of MODULES, and these
SHARED = {
    *NAMES,
    *(home for home in MODULES.values() if home.startswith("detrex.")),
    "aligndetr.criterions",
    "aligndetr.matchers",
    "detrex.config",
    "detrex.config.config",
    "detrex.data",
    "detrex.evaluation",
    "detrex.layers.attention",
    "detrex.layers.denoising",
    "detrex.layers.mlp",
    "detrex.layers.transformer",
    "detrex.modeling.backbone.convnext",
    "detrex.modeling.backbone.focalnet",
    "detrex.modeling.backbone.internimage",
    "detrex.modeling.backbone.torchvision_resnet",
    "detrex.modeling.matcher.matcher",
    "detrex.modeling.neck.channel_mapper",
}

# Files beside upstream's configs: in a config that it saved, a class is "<name>.py.FocalNet" in a
# package with a random name. The module that stands in for the file.
BESIDE_CONFIGS = {"focalnet": "detrex.modeling.backbone.focalnet"}

# beginnings of names that are not offered: what to use. The longest one counts.
TIMM = 'timm may have such a model: model.update(timm_parts("convnext_tiny"))'
INSTEAD = {
    "detrex._C": "nothing is compiled: detrex.layers.multi_scale_deformable_attention",
    "detrex.compat.backbone": TIMM,
    "detrex.data": "detrex.data.DetrDatasetMapper maps images and boxes",
    "detrex.layers.dcn_v3": TIMM,
    "detrex.layers.DCNv3": TIMM,
    "detrex.modeling.backbone": TIMM,
    "detrex.modeling.criterion": "detrex.modeling.SetCriterion has the losses of all methods",
    "detrex.modeling.losses.dice_loss": "import it from detrex.modeling.losses",
    "detrex.modeling.losses.giou_loss": "import it from detrex.modeling.losses",
    "detrex.modeling.losses.smooth_l1_loss": "import it from detrex.modeling.losses",
    "detrex.modeling.matcher": "detrex.modeling.HungarianMatcher has all costs",
}


class UpstreamModules(MetaPathFinder):
    """Finds modules of this toolbox, and old import paths by ``MODULES`` and ``MOVED``.

    A missing module, and a name that a module of ``SHARED`` lacks, is one clear ImportError.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith("detectron2._cfg_loader"):
            return beside_config(fullname)
        if not fullname.startswith(("detrex.", "aligndetr.")):
            return None
        if home := MODULES.get(fullname) or moved(fullname):
            return ModuleSpec(fullname, _StandIn(home))
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            raise not_offered(fullname)
        if fullname in SHARED and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Shared(fullname, spec.loader.path)
        return spec


def moved(name: str) -> str | None:
    """The present name of a module that an earlier version had elsewhere; None for others."""
    old = max((o for o in MOVED if f"{name}.".startswith(f"{o}.")), key=len, default=None)
    return None if old is None else MOVED[old] + name.removeprefix(old)


def beside_config(name: str) -> ModuleSpec | None:
    """The spec of "detectron2._cfg_loader12ab.focalnet.py", and of the packages it is in."""
    file = re.fullmatch(r"detectron2\._cfg_loader\w*(?:\.(\w+))?(\.py)?", name)
    if not file or file[1] not in (None, *BESIDE_CONFIGS):
        return None
    if file[2]:
        return ModuleSpec(name, _StandIn(BESIDE_CONFIGS[file[1]]))
    return ModuleSpec(name, None, is_package=True)  # a package without a file


class _StandIn(Loader):
    """Loads, under an old import path, the module that has taken its place."""

    def __init__(self, home: str) -> None:
        self.home = home

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's usual empty module, which ``exec_module`` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(self.home)


class _Shared(SourceFileLoader):
    """Loads a module that upstream has, too; names that it lacks are looked up in ``NAMES``."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        lazy = vars(module).get("__getattr__")
        module.__getattr__ = partial(missing, module, lazy)


def missing(module: ModuleType, lazy: Callable[[str], object] | None, name: str) -> object:
    """Return the object for a name that a module lacks; ``lazy``: its original ``__getattr__``.

    Raises:
        ImportError: it is not offered; names a replacement, if there is one.
        AttributeError: a dunder look-up (pickle, inspect), a package's name, for which pickle asks
            every module, or a submodule, which Python imports.
    """
    full, path = f"{module.__name__}.{name}", vars(module).get("__path__")
    if lazy and name in module.__all__:
        return lazy(name)
    is_submodule = full in MODULES or moved(full) or (path and PathFinder.find_spec(full, path))
    if name.startswith("__") or name in sys.modules or is_submodule:
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
    for home, names in NAMES.get(module.__name__, {}).items():
        if name in names.split():
            return getattr(import_module(home), name)
    raise not_offered(full)


def not_offered(name: str) -> ImportError:
    """The error for a name, or for a module, that this toolbox does not have."""
    known = [start for start in INSTEAD if name.startswith(start)]
    hint = f"; {INSTEAD[max(known, key=len)]}" if known else ""
    text = f"{name} is not offered: it belongs to a detrex project outside this toolbox{hint}"
    return ImportError(text, name=name)
