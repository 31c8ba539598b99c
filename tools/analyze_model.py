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

from tabulate import tabulate

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


def main() -> None:
    args = parse()
    from detectron2.config import instantiate  # take seconds: not before --help

    from detrex.config.load import load_config
    from detrex.inspect import analysis

    model = instantiate(load_config(args.config_file, args.opts, args.trust_config).model).eval()
    batch = analysis.one_image(*args.size)
    counts, operations = analysis.parameters_by_part(model), analysis.flops_by_part(model, batch)
    totals = [sum(column) for column in zip(*counts.values(), strict=True)]
    rows = [
        [part, f"{every / 1e6:.2f}", f"{trained / 1e6:.2f}", f"{operations[part] / 1e9:.2f}"]
        for part, (every, trained) in {**counts, "total": totals}.items()
    ]
    size = "x".join(map(str, args.size))
    head = ["part", "M parameters", "M trained", f"GFLOPs, {size}"]
    print(tabulate(rows, head, "github", disable_numparse=True))
    print(f"\nparameters that inference reads: {analysis.parameters(model)[1] / 1e6:.2f} M")
    size_kept = analysis.activation_bytes(model, batch) / 2**30
    print(f"kept for the backward pass of one {size} image, fp32: {size_kept:.2f} GiB")


if __name__ == "__main__":
    run_command(main)
