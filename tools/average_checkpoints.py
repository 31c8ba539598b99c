"""Average the weights of several checkpoints of one run.

python tools/average_checkpoints.py output/run/model_0089999.pth output/run/model_0029999.pth \
    -o output/run/averaged.pth --weights 0.9 0.1

Averaged late checkpoints often score a little better than the last; Mr. DETR reports 0.1 to 0.2 AP
for 0.8, 0.15 and 0.05 of the iterations 89,999, 29,999 and 59,999.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a checkout, from any folder

from detrex.utils.cli import run_command
from detrex.utils.errors import InputError
from detrex.utils.files import check_writable


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("sources", metavar="IN", nargs="+", help="the checkpoints")
    add("-o", dest="target", metavar="OUT", type=Path, required=True, help=".pth file to write")
    add("--weights", type=float, nargs="+", metavar="W", help="share of each; default: equal")
    args = parser.parse_args()
    if args.target.suffix != ".pth":
        raise InputError(f"{args.target}: name it .pth")
    if args.target.resolve() in [Path(source).resolve() for source in args.sources]:
        raise InputError(f"{args.target}: is a file to read; name another")
    check_writable(args.target)
    return args


def main() -> None:
    args = parse()
    from detrex.checkpoint import read_checkpoint, save_checkpoint  # not before --help: PyTorch
    from detrex.checkpoint.average import average

    contents = [read_checkpoint(source) for source in args.sources]
    try:
        averaged = average([content["model"] for content in contents], args.weights)
    except InputError as error:
        raise InputError(f"{', '.join(args.sources)}: {error}") from None
    metadata = [content.get("metadata") or {} for content in contents]
    if any(about.get("calibration") for about in metadata):
        print(
            "maps of scores are left out: they are not the mean's; tools/calibrate.py fits new ones"
        )
    about = {key: value for key, value in metadata[0].items() if key != "calibration"}
    save_checkpoint({"model": averaged, "metadata": about}, args.target)
    print(f"{len(contents)} checkpoints, {len(averaged)} tensors averaged to {args.target}")


if __name__ == "__main__":
    run_command(main)
