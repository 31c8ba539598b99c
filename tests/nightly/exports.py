"""Seven methods as ONNX and .pt2 files of any batch and size, against PyTorch.

python tests/nightly/exports.py [CONFIG...]

Exit status 1 if one of them differs by more than 1e-4 (ONNX) or 1e-5 (.pt2) from PyTorch's choices
among near ties, see ``SameChoices``. Full-size models: up to six minutes each.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from detrex.predict import trace, write_onnx, write_program
from tests.models import RANK_DETR
from tests.predict.graphs import assert_agrees, detector, onnx_runner

CONFIGS = (
    RANK_DETR,
    "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    "projects/align_detr/configs/aligndetr_k=2_r50_4scale_12ep.py",
    "projects/ddq_detr/configs/ddq_detr_efficientnet_lite0_sample_data.py",
    "projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py",
    "projects/rt_detr/configs/rtdetrv2_r50vd_dsp_1x_coco.py",
    "projects/rank_rt_detr/configs/rank_rtdetr_r50vd_6x_coco.py",
    "projects/d_fine/configs/dfine_hgnetv2_s_coco.py",
)
SHAPES = [(2, 480, 640), (1, 427, 533)]  # batch, height, width; the last image padded


def check(config: str, folder: Path) -> None:
    """Raises AssertionError if a file does not find what the model finds."""
    model = detector(config, small=False)
    program = trace(model)
    write_program(program, folder / "model.pt2", {})
    assert_agrees(torch.export.load(folder / "model.pt2").module(), model, 1e-5, SHAPES)
    write_onnx(program, folder / "model.onnx", {})
    assert_agrees(onnx_runner(folder / "model.onnx"), model, 1e-4, SHAPES)


def main() -> int:
    different = 0
    for config in sys.argv[1:] or CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(config, Path(folder))
                print(f"{config}: equal", flush=True)
            except AssertionError as error:
                different = 1
                print(f"{config}: {error}", flush=True)
    return different


if __name__ == "__main__":
    raise SystemExit(main())
