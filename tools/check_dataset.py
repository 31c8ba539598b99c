"""Check a data set before training on it, and print the command that trains on it.

    python tools/check_dataset.py DATA

Reports classes, box sizes, splits and oddities, with pictures, and converts data of other formats
to COCO's (the images stay where they are). Nothing is written into DATA.

DATA is a folder, or one of the files named here:

    COCO         a JSON per split, or one (also given alone); images near it
    YOLO         data.yaml (also given alone), obj.data, or only images with their label files and
                 classes.txt; boxes, polygons, turned boxes, keypoints
    PASCAL VOC   XML files: VOCdevkit, beside the images, or in a folder beside theirs
    LabelMe      a JSON per image
    CSV          a row per box (also given alone): image, class and two corners
    Open Images  its CSVs
    Objects365   its JSONs

Splits are folders, files or lists called train, val, valid, validation, dev or test. Without val
the test set is validated on, without that a tenth of train.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from detrex.utils.cli import add_trust_config, run_command
from detrex.utils.errors import InputError
from detrex.utils.files import check_writable
from detrex.utils.text import printable_lines

# Relative to the folder that this runs in: the printed command is pasted there.
ROOT = Path(__file__).parents[1]
CONFIG = os.path.relpath(ROOT / "projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py")
TRAIN = os.path.relpath(ROOT / "tools/train_net.py")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder, or a JSON, YAML or CSV")
    parser.add_argument("--images", type=Path, help="image folder of a JSON or CSV, if not near it")
    parser.add_argument("-o", "--output", type=Path, help="default: output/data/NAME of DATA")
    parser.add_argument("--config-file", default=CONFIG, help="whose model the command trains")
    parser.add_argument(
        "--init-checkpoint", help="what the command starts from, e.g. rank_detr.pth"
    )
    add_trust_config(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    from detrex.checkpoint import existing_checkpoint  # take seconds: not before --help
    from detrex.config.load import load_config
    from detrex.data.formats import read_layout
    from detrex.inspect import dataset_check as check
    from detrex.train.data import prepare_data

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
    print(printable_lines(check.as_text(reports, shared, cfg)))
    check.write_report(output, {"data": str(data), **check.as_json(reports, shared)})
    settings = check.training_settings(reports, name, cfg, args.init_checkpoint)
    check.write_pictures(reports, output)
    pictures = ", ".join(f"{name}.png" for name in [*reports, "classes"])
    print(f"wrote {output}/: report.json, {pictures}")
    check.need_images(reports)
    # Other faults that would stop the training stop this tool with the same message.
    if "val" not in splits:
        raise InputError(f"{args.data}: one image cannot be trained and validated on: add another")
    cfg = load_config(args.config_file, settings, args.trust_config)
    prepare_data(cfg, settings, ["train", "test"])
    print(f"train on it:\n\n{check.training_command(TRAIN, args.config_file, settings)}")


if __name__ == "__main__":
    run_command(main)
