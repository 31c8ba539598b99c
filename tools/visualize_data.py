"""Draw the images of a data set with their boxes, as they are or as training sees them.

python tools/visualize_data.py --json train.json --images train/ -o sheet.png
python tools/visualize_data.py --config-file CONFIG --split train --augmented -o sheet.png

With augmentation in windows of the run, the images are shown once for each of them.
"""

from __future__ import annotations

import argparse

from detrex.utils.cli import add_trust_config, run_command, whole
from detrex.utils.errors import InputError


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="COCO annotation file")
    parser.add_argument("--images", help="folder of its images")
    parser.add_argument("--config-file", help="instead of --json and --images")
    parser.add_argument("--split", choices=["train", "val"], default="train", help="of the config")
    parser.add_argument("--augmented", action="store_true", help="as training sees them")
    parser.add_argument("--count", type=whole(), default=16, help="images, of each window")
    parser.add_argument("--columns", type=whole(), default=4)
    parser.add_argument("-o", "--output", required=True, help="PNG or JPEG to write")
    parser.add_argument("overrides", nargs="*", help="key=value, of the config")
    add_trust_config(parser)
    args = parser.parse_args()
    if bool(args.config_file) == bool(args.json and args.images):
        raise InputError("give --config-file, or --json and --images")
    if args.augmented and not args.config_file:
        raise InputError("--augmented needs the augmentations of a --config-file")
    if args.overrides and not args.config_file:
        raise InputError(f"{args.overrides[0]}: goes with --config-file")
    return args


def main() -> None:
    args = parse()
    from detectron2.config import instantiate  # take seconds: not before --help

    from detrex.config.lengths import resolve_schedule
    from detrex.config.load import load_config
    from detrex.data.annotation_files import annotation_files
    from detrex.data.windows import check_windows
    from detrex.evaluation.coco_json import load_ground_truth
    from detrex.inspect.contact_sheet import LEGEND, contact_sheet
    from detrex.inspect.pictures import augmented, dataset_samples, side_by_side

    config = (
        load_config(args.config_file, args.overrides, args.trust_config)
        if args.config_file
        else None
    )
    files = (args.json, args.images) if config is None else annotation_files(config, args.split)
    if args.augmented:
        length = len(load_ground_truth(files[0])["images"])
        resolve_schedule(config, -(-length // config.dataloader.train.total_batch_size))
        check_windows(config)
        mapper = instantiate(config.dataloader.train.mapper)
        items = list(augmented(mapper, *files, args.count, config.train.max_iter))
    else:
        samples = dataset_samples(load_ground_truth(files[0]), files[1], args.count)
        items = list(side_by_side(samples, []))
    contact_sheet(items, args.output, args.columns, title=files[0], legend=LEGEND[:1])
    print(f"wrote {args.output}: {len(items)} images")


if __name__ == "__main__":
    run_command(main)
