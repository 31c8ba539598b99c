"""What a config's model costs: parameters by part, FLOPs of an inference, memory of activations.

python tools/analyze_model.py \
    --config-file projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py --size 800 1333

Counted, not timed: for images a second see `python tools/benchmark.py fps`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # projects/ of a checkout, from any folder

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from tabulate import tabulate

from detrex.engine.settings import load_config
from detrex.modeling.analysis import (
    activation_bytes,
    flops_by_part,
    parameters,
    parameters_by_part,
)
from detrex.utils.cli import add_trust_config, run_command
from detrex.utils.errors import InputError


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE")
    add("--size", nargs=2, type=int, default=[800, 1333], metavar=("H", "W"), help="of the image")
    add("opts", nargs="*", metavar="key=value", help="config overrides")
    add_trust_config(parser)
    args = parser.parse_intermixed_args()
    if min(args.size) < 32:
        raise InputError(f"--size {args.size[0]} {args.size[1]}: give at least 32 pixels a side")
    return args


def one_image(height: int, width: int) -> list[dict]:
    """A random image with one object."""
    torch.manual_seed(0)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor([[0.25, 0.25, 0.75, 0.75]]) * width)
    instances.gt_boxes.clip((height, width))
    instances.gt_classes = torch.zeros(1, dtype=torch.int64)
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return [{"image": pixels, "height": height, "width": width, "instances": instances}]


def main() -> None:
    args = parse()
    model = instantiate(load_config(args.config_file, args.opts, args.trust_config).model).eval()
    batch = one_image(*args.size)
    counted, operations = parameters_by_part(model), flops_by_part(model, batch)
    columns = [sum(column) for column in zip(*counted.values(), strict=True)]
    rows = [
        [part, *(f"{count / 1e6:.2f}" for count in counts), f"{operations[part] / 1e9:.2f}"]
        for part, counts in {**counted, "total": columns}.items()
    ]
    size = "x".join(map(str, args.size))
    head = ["part", "M parameters", "M trained", f"GFLOPs, {size}"]
    print(tabulate(rows, head, "github", disable_numparse=True))
    print(f"\nparameters that inference reads: {parameters(model)[1] / 1e6:.2f} M")
    kept = activation_bytes(model, batch)
    print(f"kept for the backward pass of one {size} image, fp32: {kept / 2**30:.2f} GiB")


if __name__ == "__main__":
    run_command(main)
