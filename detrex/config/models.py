"""Models by short names, to start from on one's own data. It imports little: commands list it."""

from __future__ import annotations

import difflib
from pathlib import Path

from detrex.utils.errors import InputError

ROOT = Path(__file__).resolve().parents[2]  # holds projects/, in a checkout as in a wheel
_PREFIX = "rank_detr_"  # may be left out
_CONFIGS = "projects/rank_detr/configs"
# Name: its config.
MODELS = {
    "small": f"{_CONFIGS}/rank_detr_small.py",
    "r50": f"{_CONFIGS}/rank_detr_r50_two_stage_12ep.py",
    "swin_tiny": f"{_CONFIGS}/rank_detr_swin_tiny_two_stage_12ep.py",
    "swin_large": f"{_CONFIGS}/rank_detr_swin_large_two_stage_12ep.py",
    "dino_r50": "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    "align_detr_r50": "projects/align_detr/configs/aligndetr_k=2_r50_4scale_12ep.py",
    "relation_detr_r50": "projects/relation_detr/configs/relation_detr_r50_12ep.py",
    "rank_dino_r50": f"{_CONFIGS}/rank_dino_r50_4scale_12ep.py",
}


def model_file(model: str) -> Path:
    """Return the config file of a model.

    Args:
        model: a name of ``MODELS``, with or without "rank_detr_" before it; or the path of a config
            file, from here or from the folder that holds ``projects/``.

    Raises:
        InputError: no such name; the nearest ones are named. A path is not checked.
    """
    if "/" in model or Path(model).suffix in (".py", ".yaml", ".yml"):
        path, shipped = Path(model).expanduser(), ROOT / model
        return shipped if shipped.is_file() and not path.is_file() else path
    if file := MODELS.get(model.removeprefix(_PREFIX)):
        return ROOT / file
    near = difflib.get_close_matches(model.removeprefix(_PREFIX), MODELS, n=3) or MODELS
    raise InputError(f"model {model!r}: give one of {', '.join(near)}, or a config file")


def model_name(model: str) -> str:
    """Return what output files of a model are called: its name in ``MODELS``, or its file's."""
    name = model.removeprefix(_PREFIX)
    return name if name in MODELS else model_file(model).stem
