"""Compare training runs on one HTML page that needs no network and no other file.

python tools/report.py output/rank_detr output/h_deformable_detr -o report.html
"""

from __future__ import annotations

import argparse
import os

from detrex.utils.cli import run_command, score, whole
from detrex.utils.files import check_writable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="OUTPUT_DIR", help="output folder of a run")
    parser.add_argument("-o", "--output", required=True, help="HTML file to write")
    parser.add_argument("--images", type=whole(0), default=96, help="images to show at most")
    text = "least score that counts in choosing them; the page's slider begins with it"
    parser.add_argument("--threshold", type=score, default=0.3, help=text)
    args = parser.parse_args()
    check_writable(args.output)
    from detrex.report import write_report  # takes seconds: not before --help
    from detrex.report.runs import read_run

    runs = [read_run(folder) for folder in args.folders]
    for note in write_report(runs, args.output, args.images, args.threshold):
        print(f"note: {note}")
    size = os.path.getsize(args.output) / 1e6
    print(f"wrote {args.output}: {len(runs)} run{'s' * (len(runs) > 1)}, {size:.1f} MB")


if __name__ == "__main__":
    run_command(main)
