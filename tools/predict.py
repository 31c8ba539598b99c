"""Detect objects in images and videos: draw them, and list them as JSON.

    python tools/predict.py CONFIG CHECKPOINT street.jpg photos/ -o found --json found.json
    python tools/predict.py CONFIG CHECKPOINT https://.../street.jpg -o found
    python tools/predict.py CONFIG CHECKPOINT --video clip.mp4 -o found

An entry of the JSON is {"file", "width", "height", "detections": [{"class", "label",
"category_id", "score", "box", "bbox"}]}: label counts classes from 0, category_id is the data
set's; box is x0, y0, x1, y1 in pixels, bbox the same as COCO writes it, x0, y0, width, height. A
frame of a video also has its number, "frame". The picture of a.jpg is a_found.jpg. Images that
cannot be read are named and left out; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from detrex.utils.cli import add_overrides, add_selection, add_trust_config, run_command
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable
from detrex.utils.text import printable


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file of the model")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("images", nargs="*", help="image files, folders or addresses")
    parser.add_argument("--video", metavar="FILE", help="a video; needs detrex[video]")
    parser.add_argument("-o", "--output", default="output/predictions", help="folder of pictures")
    parser.add_argument("--json", metavar="FILE", help="where to list the detections")
    add_selection(parser)
    add_overrides(parser)
    add_trust_config(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    from detrex import Predictor  # takes seconds: not before --help
    from detrex.inspect.pictures import image_files
    from detrex.predict import predictions

    folder = Path(args.output)
    sources, others = image_files(args.images)
    if not sources and not args.video:
        raise InputError("nothing to look at: give image files or folders, or --video FILE")
    targets = predictions.found_paths(sources, folder)
    clip = predictions.found_clip(args.video, folder) if args.video else None
    for path in filter(None, (clip, args.json)):
        check_writable(path)
    names = ("threshold", "calibrated", "overrides", "trust_config")
    options = {name: getattr(args, name) for name in names}
    predictor = Predictor(args.config, args.checkpoint, **options)
    errors: list[InputError] = []
    records = predictions.predict_images(
        predictor, targets, errors.append, lambda path, text: print(printable(f"{path}: {text}"))
    )
    if args.video:
        frames = predictions.predict_video(predictor, args.video, clip)
        print(printable(f"{clip}: {len(frames)} frames"))
        records += frames
    if errors and not records:
        raise errors[0]
    if args.json:
        with atomic_write(args.json) as stream:
            json.dump(records, stream, indent=1)
        print(printable(f"wrote {args.json}: {len(records)} images"))
    if others:
        names = ", ".join(path.name for path in others)
        warn(f"{len(others)} left out, no images: {names}")
    for error in errors:
        warn(f"left out: {error}")
    if errors:
        raise SystemExit(1)


def warn(text: str) -> None:
    print(printable(f"warning: {text}"), file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
