"""Make the sample data set: photographs with handwritten digits, COCO JSON and JPEG.

python tools/make_sample_data.py --output output/sample_data
"""

from __future__ import annotations

import argparse
import time

from detrex.utils.cli import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/sample_data", help="folder to make")
    parser.add_argument("--train", type=int, default=1000, help="training images")
    parser.add_argument("--val", type=int, default=200, help="validation images")
    parser.add_argument("--size", type=int, default=256, help="image side, pixels")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from detrex.data.sample.files import make_sample_data  # takes seconds: not before --help

    start = time.perf_counter()
    meta = make_sample_data(args.output, args.train, args.val, args.size, args.seed)
    seconds = time.perf_counter() - start
    for split, counts in meta["splits"].items():
        print(
            f"{args.output}/{split}: {counts['images']} images of {args.size}x{args.size}, "
            f"{counts['objects']} objects ({counts['occluded']} partly hidden), "
            f"{counts['bytes'] / 1e6:.1f} MB"
        )
    print(f"ready in {seconds:.1f} s")


if __name__ == "__main__":
    run_command(main)
