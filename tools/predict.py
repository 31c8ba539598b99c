"""Draw what a checkpoint finds in images and videos, and list it as JSON.

    python tools/predict.py CONFIG CHECKPOINT street.jpg photos/ -o found --json found.json
    python tools/predict.py CONFIG CHECKPOINT --video clip.mp4 -o found

A JSON entry is {"file", "width", "height", "detections": [{"class", "label", "score", "box"}]}, a
box x0, y0, x1, y1 in pixels; frames of a video have their number as "frame". The picture of a.jpg
is a_found.jpg. Images that cannot be read are named and left out; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from detrex import Predictor
from detrex.data.image import as_pixels
from detrex.experiments import pictures, video
from detrex.utils.cli import add_trust_config, run_command
from detrex.utils.contact_sheet import SheetItem, draw_item
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable

CHUNK = 16  # images that are read before the first of them is drawn


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
    add_trust_config(parser)
    return parser.parse_args()


def drawn_paths(sources: list[Path], folder: Path) -> list[Path]:
    """Where each image's picture goes. Raises InputError where it cannot or must not go there."""
    twice = next((n for n, k in Counter(source.name for source in sources).items() if k > 1), None)
    if twice:
        raise InputError(f"{twice}: several images of this name: give one folder at a time")
    targets = [check_writable(found_path(source, folder)) for source in sources]
    written = {target.resolve() for target in targets}
    for source in sources:
        if source.suffix.lower() not in pictures.ENDINGS:
            known = ", ".join(sorted(pictures.ENDINGS))
            raise InputError(f"{source}: not a known kind of image: {known}")
        if source.resolve() in written:
            raise InputError(f"{source}: would be overwritten: give another folder with -o")
    return targets


def found_path(source: Path, folder: Path) -> Path:
    """A name of its own: the folder may hold the photographs themselves."""
    return folder / f"{source.stem}_found{source.suffix}"


def draw(image: Image.Image, target: Path, boxes: list[tuple]) -> None:
    picture = draw_item(SheetItem(image, predictions=boxes), max(image.size))
    with atomic_write(target, "wb") as stream:
        picture.save(stream, format=Image.registered_extensions()[target.suffix.lower()])


def read(sources: list[Path], errors: list[InputError]) -> dict[Path, np.ndarray]:
    """Pixels of the images that can be read; ``errors`` takes what is wrong with the others."""
    images = {}
    for source in sources:
        try:
            images[source] = as_pixels(source)
        except InputError as error:
            errors.append(error)
    return images


def predict_images(
    predictor: Predictor, targets: dict[Path, Path], errors: list[InputError]
) -> list[dict]:
    """Draw each image to its target; return what was found."""
    records, sources = [], list(targets)
    for i in range(0, len(sources), CHUNK):
        images = read(sources[i : i + CHUNK], errors)
        found = predictor(list(images.values()))
        for (source, pixels), one in zip(images.items(), found, strict=True):
            draw(Image.fromarray(pixels), targets[source], predictor.labelled(one))
            records.append({"file": str(source), **predictor.to_dict(one)})
            seen = Counter(name for _, name, _ in predictor.labelled(one))
            text = ", ".join(f"{n} x {c}" for c, n in seen.items()) or "nothing"
            print(f"{targets[source]}: {text}")
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
    targets = dict(zip(sources, drawn_paths(sources, folder), strict=True))
    clip = found_path(Path(args.video or "").with_suffix(".mp4"), folder) if args.video else None
    for path in filter(None, (clip, args.json)):
        check_writable(path)
    predictor = Predictor(
        args.config, args.checkpoint, threshold=args.threshold, trust_config=args.trust_config
    )
    errors: list[InputError] = []
    records = predict_images(predictor, targets, errors)
    if args.video:
        records += predict_video(predictor, args.video, clip)
    if errors and not records:
        raise errors[0]
    if args.json:
        with atomic_write(args.json) as stream:
            json.dump(records, stream, indent=1)
        print(f"wrote {args.json}: {len(records)} images")
    for error in errors:
        print(f"warning: left out: {error}", file=sys.stderr)
    if errors:
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
