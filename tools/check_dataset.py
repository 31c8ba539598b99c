"""Check a data set before training on it, and write a config file that trains on it.

    python tools/check_dataset.py DATA --model small

Reports classes, box sizes, splits and oddities, with pictures, and converts data of other formats
to COCO's (the images stay where they are). Writes output/data/NAME/<model>.py, a config of some 20
lines to change, and prints the command that trains with it. Nothing is written into DATA.

DATA is a folder, or one of the files named here:

    COCO         a JSON per split, or one (also given alone); images near it
    YOLO         data.yaml (also given alone), obj.data, or only images with their label files and
                 classes.txt; boxes, polygons, turned boxes, keypoints
    PASCAL VOC   XML files: VOCdevkit, beside the images, or in a folder beside theirs
    LabelMe      a JSON per image
    CSV          a row per box (also given alone): image, class and two corners
    Open Images  its CSVs
    Objects365   its JSONs
    CrowdHuman   its .odgt files, boxes of whole bodies

Splits are folders, files or lists called train, val, valid, validation, dev or test. Without val
the test set is validated on, without that a tenth of train.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from detrex.config.models import MODELS
from detrex.utils.cli import run_command


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder, or a JSON, YAML or CSV")
    parser.add_argument("--images", type=Path, help="image folder of a JSON or CSV, if not near it")
    parser.add_argument("-o", "--output", type=Path, help="default: output/data/NAME of DATA")
    names = f"{', '.join(MODELS)}, or a config file (default: r50)"
    parser.add_argument("--model", "--config-file", default="r50", help=names)
    text = "weights to start from, e.g. rank_detr.pth (default: the model's)"
    parser.add_argument("--init-checkpoint", metavar="FILE", help=text)
    text = "those to train on; objects of others are left out (default: all)"
    parser.add_argument("--classes", nargs="+", default=[], metavar="NAME", help=text)
    text = "replace a config file of an earlier check that you have changed"
    parser.add_argument("--overwrite", action="store_true", help=text)
    return parser.parse_args()


def main() -> None:
    args = parse()
    from detrex.train.own_data import check  # takes seconds: not before --help

    result = check(**vars(args), show=print)
    print(f"train on it:\n\n{result.command}")


if __name__ == "__main__":
    run_command(main)
