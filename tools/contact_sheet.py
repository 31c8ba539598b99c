"""Draw images of a COCO-format data set with ground truth and, if given, detections.

    python tools/contact_sheet.py --json val.json --images val/ \
        --results output/demo/coco_instances_results.json -o sheet.png
"""

from __future__ import annotations

import argparse

from detrex.utils.cli import run_command
from detrex.utils.contact_sheet import coco_items, contact_sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", required=True, help="COCO annotation file")
    parser.add_argument("--images", required=True, help="folder of the images")
    parser.add_argument("--results", help="detections in COCO's results format")
    parser.add_argument("-o", "--output", required=True, help="PNG to write")
    parser.add_argument("--count", type=int, default=16, help="images to show")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score to show")
    parser.add_argument("--columns", type=int, default=4)
    args = parser.parse_args()
    items = coco_items(args.json, args.images, args.results, args.count, args.threshold)
    title = f"{args.json}" + (f", scores from {args.threshold}" if args.results else "")
    contact_sheet(items, args.output, args.columns, title=title)
    print(f"wrote {args.output}: {len(items)} images")


if __name__ == "__main__":
    run_command(main)
