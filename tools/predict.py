"""Detect objects in images and videos: draw them, and list them as JSON.

    python tools/predict.py CONFIG CHECKPOINT street.jpg photos/ -o found --json found.json
    python tools/predict.py CONFIG CHECKPOINT https://.../street.jpg -o found
    python tools/predict.py CONFIG CHECKPOINT --video clip.mp4 -o found
    python tools/predict.py CONFIG CHECKPOINT --tile 1024 --overlap 0.2 aerial.tif -o found

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
from typing import TYPE_CHECKING

from detrex.utils.cli import add_overrides, add_selection, add_trust_config, run_command, whole
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable
from detrex.utils.text import printable

if TYPE_CHECKING:
    from detrex import Predictor


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file of the model")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("images", nargs="*", help="image files, folders or addresses")
    text = "a video, a camera (/dev/video0) or a stream's address; needs detrex[video]"
    parser.add_argument("--video", metavar="SOURCE", help=text)
    parser.add_argument("--frames", type=whole(), metavar="N", help="end the video after so many")
    parser.add_argument("-o", "--output", default="output/predictions", help="folder of pictures")
    parser.add_argument("--json", metavar="FILE", help="where to list the detections")
    parser.add_argument("--tile", type=whole(), metavar="PIXELS", help="cut larger images in tiles")
    text = "share of a tile that the next one shows as well (default: 0.2)"
    parser.add_argument("--overlap", type=float, metavar="SHARE", help=text)
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="list and draw these alone")
    add_selection(parser)
    add_overrides(parser)
    add_trust_config(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    from detrex.inspect.pictures import image_files  # takes seconds: not before --help
    from detrex.predict import predictions

    folder = Path(args.output)
    sources, others = image_files(args.images)
    if not sources and not args.video:
        raise InputError("nothing to look at: give image files or folders, or --video FILE")
    targets = predictions.found_paths(sources, folder)
    clip = predictions.found_clip(args.video, folder) if args.video else None
    for path in filter(None, (clip, args.json)):
        check_writable(path)
    predictor = build(args)
    errors: list[InputError] = []
    records = predictions.predict_images(
        predictor, targets, errors.append, lambda path, text: print(printable(f"{path}: {text}"))
    )
    if args.video:
        frames = predictions.predict_video(predictor, args.video, clip, args.frames)
        print(printable(f"{clip}: {len(frames)} frames"))
        records += frames
    if errors and not records:
        raise errors[0]
    if args.json:
        with atomic_write(args.json) as stream:
            json.dump(records, stream, indent=1)
        print(printable(f"wrote {args.json}: {len(records)} images"))
    warn_of(records, args.tile, others, errors)
    if errors:
        raise SystemExit(1)


def build(args: argparse.Namespace) -> Predictor:
    from detrex import Predictor
    from detrex.predict import Tiles

    if args.overlap is not None and not args.tile:
        raise InputError(f"--overlap {args.overlap} is of tiles: give their side with --tile")
    tiles = Tiles(args.tile, 0.2 if args.overlap is None else args.overlap) if args.tile else None
    names = ("threshold", "calibrated", "overrides", "trust_config")
    options = {name: getattr(args, name) for name in names}
    predictor = Predictor(args.config, args.checkpoint, **options)
    predictor.tiles = tiles
    if args.classes:
        predictor.only(args.classes)
    return predictor


def warn_of(
    records: list[dict], tile: int | None, others: list[Path], errors: list[InputError]
) -> None:
    """Warn of images that fit in a tile, or were left out."""
    whole = sum(max(record["width"], record["height"]) <= (tile or 0) for record in records)
    if whole:
        warn(f"--tile {tile}: {whole} of {len(records)} images are no larger, and were not cut")
    if others:
        names = ", ".join(path.name for path in others)
        warn(f"{len(others)} left out, no images: {names}")
    for error in errors:
        warn(f"left out: {error}")


def warn(text: str) -> None:
    print(printable(f"warning: {text}"), file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
