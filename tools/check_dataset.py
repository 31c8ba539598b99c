"""Check a data set before training on it, and print the command that trains on it.

    python tools/check_dataset.py DATA

DATA is a folder in the layout of COCO, YOLO, PASCAL VOC, Open Images or Objects365, or a COCO JSON.
Reports classes, box sizes, splits and what is odd, with pictures; converts to COCO's format what
is not (the images stay where they are). Nothing is written into DATA.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from detrex.checkpoint import existing_checkpoint
from detrex.data.layouts import read_layout
from detrex.engine.data import prepare_data
from detrex.engine.settings import load_config
from detrex.experiments import dataset_check as check
from detrex.utils.cli import add_trust_config, run_command
from detrex.utils.errors import InputError
from detrex.utils.files import check_writable

CONFIG = "projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="folder, COCO JSON or YOLO's YAML")
    parser.add_argument("--images", type=Path, help="image folder of a COCO JSON, if not near it")
    parser.add_argument("-o", "--output", type=Path, help="default: output/data/NAME of DATA")
    parser.add_argument("--config-file", default=CONFIG, help="whose model the command trains")
    parser.add_argument(
        "--init-checkpoint", help="what the command starts from, e.g. rank_detr.pth"
    )
    add_trust_config(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    data = args.data.resolve()
    name = check.data_name(data)
    output = args.output or Path("output/data") / name
    target = output.resolve()
    if target.is_relative_to(data) or (data.is_file() and target == data.parent):
        raise InputError(f"{output}: is inside the data; choose another folder with -o")
    check_writable(output / check.WRITTEN[0])
    if args.init_checkpoint and "://" not in args.init_checkpoint:
        existing_checkpoint(args.init_checkpoint)
    cfg = load_config(args.config_file, trust_config=args.trust_config)
    layout, splits = read_layout(args.data, args.images)
    print(f"{args.data}: {layout} layout")
    check.claim_folder(output, data)
    reports = {
        split: check.check_split(part, part.saved(output / f"{split}.json"), split == "train")
        for split, part in splits.items()
    }
    shared = check.shared_images(reports)
    print(check.as_text(reports, shared, cfg))
    check.write_report(output, {"data": str(data), **check.as_json(reports, shared)})
    settings = check.training_settings(reports, name, cfg, args.init_checkpoint)
    check.write_pictures(reports, output)
    print(f"wrote {output}/: report.json, train.png, val.png, classes.png")
    check.need_images(reports)
    # Whatever else would stop the training stops this, with the same words.
    cfg = load_config(args.config_file, settings, args.trust_config)
    prepare_data(cfg, settings, ["train", "test"])
    print(f"train on it:\n\n{check.training_command(args.config_file, settings)}")


if __name__ == "__main__":
    run_command(main)
