"""Write real ImageNet weights for the demo's backbone (timm's efficientnet_lite0).

python tools/make_sample_weights.py -o output/efficientnet_lite0.pth
"""

from __future__ import annotations

import argparse
import os

from detrex.utils.cli import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="output/efficientnet_lite0.pth")
    args = parser.parse_args()
    # Takes seconds: not before --help.
    from detrex.checkpoint.efficientnet_lite0 import write_backbone_weights

    count = write_backbone_weights(args.output)
    print(f"wrote {args.output}: {count} tensors, {os.path.getsize(args.output) / 1e6:.1f} MB")


if __name__ == "__main__":
    run_command(main)
