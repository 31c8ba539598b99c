"""Draw what a checkpoint finds in images and videos, and list it as JSON.

    python tools/predict.py CONFIG CHECKPOINT street.jpg photos/ -o found --json found.json
    python tools/predict.py CONFIG CHECKPOINT --video clip.mp4 -o found

A JSON entry is {"file", "width", "height", "detections": [{"class", "label", "score", "box"}]}, a
box x0, y0, x1, y1 in pixels; frames of a video have their number as "frame".
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from PIL import Image

from detrex import Predictor
from detrex.experiments import pictures, video
from detrex.utils.cli import run_command
from detrex.utils.contact_sheet import SheetItem, draw_item
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable
from detrex.utils.images import open_image

CHUNK = 32  # images that are read before the first of them is drawn


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file of the model")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("images", nargs="*", help="image files or folders")
    parser.add_argument("--video", metavar="FILE", help="a video; needs detrex[video]")
    parser.add_argument("-o", "--output", default="output/predictions", help="folder of pictures")
    parser.add_argument("--json", metavar="FILE", help="where to list the detections")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score")
    return parser.parse_args()


def drawn_paths(sources: list[Path], folder: Path) -> list[Path]:
    """Where each image's picture goes. Raises InputError where it cannot or must not go there."""
    targets = [folder / source.name for source in sources]
    twice = next((path for path, n in Counter(targets).items() if n > 1), None)
    if twice:
        raise InputError(f"{twice.name}: several images of this name: give one folder at a time")
    for source, target in zip(sources, targets, strict=True):
        if source.suffix.lower() not in pictures.ENDINGS:
            known = ", ".join(sorted(pictures.ENDINGS))
            raise InputError(f"{source}: not a known kind of image: {known}")
        keep(source, target)
    return targets


def keep(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        raise InputError(f"{source}: would be overwritten: give another folder with -o")


def draw(source: Path, target: Path, boxes: list[tuple]) -> None:
    image = open_image(source)
    picture = draw_item(SheetItem(image, predictions=boxes), max(image.size))
    with atomic_write(target, "wb") as stream:
        picture.save(stream, format=Image.registered_extensions()[target.suffix.lower()])


def predict_images(predictor: Predictor, sources: list[Path], targets: list[Path]) -> list[dict]:
    records = []
    for i in range(0, len(sources), CHUNK):
        chunk = slice(i, i + CHUNK)
        found = predictor(sources[chunk])
        for source, target, one in zip(sources[chunk], targets[chunk], found, strict=True):
            draw(source, target, predictor.labelled(one))
            records.append({"file": str(source), **predictor.to_dict(one)})
            seen = Counter(name for _, name, _ in predictor.labelled(one))
            print(f"{target}: " + (", ".join(f"{n} x {c}" for c, n in seen.items()) or "nothing"))
    return records


def predict_video(predictor: Predictor, source: str, target: Path) -> list[dict]:
    records = []

    def detect(sample: pictures.Sample, image: Image.Image) -> list:
        found = predictor(image)
        records.append({"file": source, "frame": len(records), **predictor.to_dict(found)})
        return predictor.labelled(found)

    count = video.draw_video(source, target, [("", detect)])
    print(f"{target}: {count} frames")
    return records


def main() -> None:
    args = parse()
    folder = Path(args.output)
    sources = [sample.path for sample in pictures.file_samples(args.images)]
    if not sources and not args.video:
        raise InputError("nothing to look at: give image files or folders, or --video FILE")
    targets = drawn_paths(sources, folder)
    clip = folder / f"{Path(args.video or '').stem}.mp4"
    keep(Path(args.video or ""), clip)
    for path in (clip, *targets, *([args.json] if args.json else [])):
        check_writable(path)
    predictor = Predictor(args.config, args.checkpoint, threshold=args.threshold)
    records = predict_images(predictor, sources, targets)
    if args.video:
        records += predict_video(predictor, args.video, clip)
    if args.json:
        with atomic_write(args.json) as stream:
            json.dump(records, stream, indent=1)
        print(f"wrote {args.json}: {len(records)} images")


if __name__ == "__main__":
    run_command(main)
