"""A training step of every method against DINO's: time and memory of forward, losses and backward
of the R50 models (D-FINE: L), each in a process of its own (Linux).

2 images of 320x480 with 7 and 12 objects. At this size queries weigh more than at COCO's 800x1333,
which has seven times as many tokens.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.config import LazyConfig

from benchmarks.attention import resident_peak
from benchmarks.step import ROOT, images, seconds
from detrex.checkpoint.model import build_model
from detrex.config.schema import defaults
from detrex.utils.errors import InputError

SIZE = (320, 480)
MR = "configs/deformable_detr_r50_two_stage_12ep_plusplus.py"
METHODS = {  # their configs in projects/; a matching cost of its own is no other step
    "DINO": "dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    "Deformable DETR, two stages": "deformable_detr/configs/deformable_detr_r50_two_stage_50ep.py",
    "DAB-Deformable-DETR, two stages": (
        "dab_deformable_detr/configs/dab_deformable_detr_r50_two_stage_50ep.py"
    ),
    "DN-Deformable-DETR": "dn_deformable_detr/configs/dn_deformable_detr_r50_50ep.py",
    "H-Deformable-DETR": "h_deformable_detr/configs/h_deformable_detr_r50_two_stage_12ep.py",
    "Rank-DETR": "rank_detr/configs/rank_detr_r50_two_stage_12ep.py",
    "Rank-DETR on DINO": "rank_detr/configs/rank_dino_r50_4scale_12ep.py",
    "Align-DETR": "align_detr/configs/aligndetr_k=2_r50_4scale_12ep.py",
    "Stable-DINO": "stabledino/configs/stabledino_r50_4scale_12ep.py",
    "Rank-DETR on Stable-DINO": "rank_detr/configs/rank_stabledino_r50_4scale_12ep.py",
    "Relation-DETR": "relation_detr/configs/relation_detr_r50_12ep.py",
    "Rank-DETR on Relation-DETR": "rank_detr/configs/rank_relation_detr_r50_12ep.py",
    "Co-DETR on DINO": "co_detr/configs/models/co_dino_r50.py",  # four levels; the runs have five
    "MS-DETR": "ms_detr/configs/ms_detr_r50_12ep_900queries.py",
    "DAC-DETR": "dac_detr/configs/dac_detr_r50_12ep.py",
    "Mr. DETR": f"mr_detr_deformable/{MR}",
    "Mr. DETR with denoising": f"mr_detr_dino/{MR}",
    "Mr. DETR-Align": f"mr_detr_align/{MR}",
    "Rank-DETR on Mr. DETR-Align": "rank_detr/configs/rank_mr_detr_align_r50_12ep.py",
    "DDQ": "ddq_detr/configs/ddq_detr_r50_4scale_12ep.py",
    "RT-DETR": "rt_detr/configs/rtdetr_r50vd_6x_coco.py",
    "Rank-DETR on RT-DETR": "rank_rt_detr/configs/rank_rtdetr_r50vd_6x_coco.py",
    "DEIM": "deim/configs/deim_r50vd_60e_coco.py",
    "D-FINE": "d_fine/configs/dfine_hgnetv2_l_coco.py",
    "Rank-DETR on D-FINE": "rank_d_fine/configs/rank_dfine_hgnetv2_l_coco.py",
    "DETR": "detr/configs/detr_r50_300ep.py",
    "Conditional DETR": "conditional_detr/configs/conditional_detr_r50_50ep.py",
    "Anchor DETR": "anchor_detr/configs/anchor_detr_r50_50ep.py",
    "DAB-DETR": "dab_detr/configs/dab_detr_r50_50ep.py",
    "DN-DETR": "dn_detr/configs/dn_detr_r50_50ep.py",
    "Group-DETR": "group_detr/configs/group_detr_r50_50ep.py",
    "Align-DAB-DETR": "align_dab_detr/configs/align_dab_detr_r50_50ep.py",
}


def measure(config: str, repeats: int) -> dict[str, float]:
    """Median seconds of a step after the first, and the MiB that the first adds to the model."""
    cfg = LazyConfig.load(config)
    cfg.setdefault("train", defaults("train"))  # a file of configs/models has a model alone
    if "train_sizes" in cfg.model:
        cfg.model.train_sizes = []  # RT-DETR would draw one for each batch
    torch.manual_seed(0)
    model, batch = build_model(cfg).train(), images(2, SIZE, "cpu")

    def step() -> None:
        model.zero_grad()
        sum(model(batch).values()).backward()

    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = resident_peak()
    step()
    memory = (resident_peak() - before) / 1024
    return {
        "step_s": statistics.median(seconds(step, "cpu") for _ in range(repeats)),
        "memory_mib": memory,
    }


def measured_alone(config: str, repeats: int) -> dict[str, float]:
    """``measure`` in a process of its own, whose memory is not another model's."""
    command = [sys.executable, "-m", "benchmarks.methods", config, str(repeats)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(repeats: int = 2, device: str = "cpu", config_file: str = "") -> Iterator[dict]:
    """A row per method, or for DINO and ``config_file``; ``time`` and ``memory`` are ratios to
    DINO's.

    Raises:
        InputError: for another device than the CPU.
    """
    if device != "cpu":
        raise InputError(f"--device {device}: benchmark methods measures on the CPU")
    configs = {name: str(ROOT / "projects" / path) for name, path in METHODS.items()}
    if config_file:
        configs = {"DINO": configs["DINO"], Path(config_file).stem: config_file}
    first = measured_alone(configs.pop("DINO"), repeats)
    yield {"what": "DINO", **first, "time": 1.0, "memory": 1.0}
    for name, config in configs.items():
        row = measured_alone(config, repeats)
        ratios = (row[key] / first[key] for key in ("step_s", "memory_mib"))
        yield {"what": name, **row, **dict(zip(("time", "memory"), ratios, strict=True))}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
