"""Draw what detectors find beside the ground truth: checkpoints or COCO results, side by side.

    # results of a run on its own validation data
    python tools/visualize_predictions.py output/demo/coco_instances_results.json \
        --json val.json --images val/ -o sheet.png
    # two checkpoints on a folder, files, or a video (then -o is an .mp4)
    python tools/visualize_predictions.py a/model_final.pth b/model_final.pth \
        --images photos/ -o sheet.png
    # how the queries of one checkpoint move through the decoder
    python tools/visualize_predictions.py a/model_final.pth --layers --count 4 -o layers.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from detrex.utils.cli import add_trust_config, run_command, score, whole
from detrex.utils.errors import InputError

if TYPE_CHECKING:
    from detrex.predict import Predictor


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", help="checkpoints (.pth) or COCO results (.json)")
    parser.add_argument("--config-file", help="of checkpoints without a config.yaml beside them")
    parser.add_argument("--json", help="COCO ground truth; default: the first checkpoint's config")
    parser.add_argument("--images", nargs="+", help="with --json its folder, else files or folders")
    parser.add_argument("--layers", action="store_true", help="follow queries through the decoder")
    parser.add_argument("--queries", type=whole(), default=6, help="queries to follow")
    parser.add_argument("--count", type=whole(), default=16, help="images to show")
    parser.add_argument("--threshold", type=score, default=0.3, help="least score to show")
    parser.add_argument("--calibrated", action="store_true", help="scores by tools/calibrate.py")
    parser.add_argument("--columns", type=whole(), default=4, help="columns for a single source")
    parser.add_argument(
        "-o", "--output", required=True, help="PNG, JPEG, or MP4 of a video, to write"
    )
    add_trust_config(parser)
    return parser.parse_args()


def open_models(args: argparse.Namespace) -> dict[str, Predictor]:
    from detrex.predict import Predictor  # takes seconds: not before --help

    paths = [source for source in args.sources if not source.endswith(".json")]
    if args.calibrated and len(paths) < len(args.sources):
        raise InputError("--calibrated: checkpoints have calibrations, JSON results do not")
    names = ("threshold", "calibrated", "trust_config")
    options = {name: getattr(args, name) for name in names}
    return {path: Predictor(args.config_file, path, **options) for path in paths}


def read_samples(args: argparse.Namespace, models: dict) -> tuple[dict | None, list]:
    """Ground truth, if there is, and the images to show."""
    from detrex.data.annotation_files import annotation_files
    from detrex.evaluation.coco_json import load_ground_truth
    from detrex.inspect import pictures

    json_file, images = args.json, args.images
    if json_file is None and images is not None:
        return None, pictures.file_samples(images, args.count)
    if json_file is None and not models:
        raise InputError("give the ground truth of the results: --json FILE --images FOLDER")
    if json_file is None:
        json_file, folder = annotation_files(next(iter(models.values())).config)
    elif images is None or len(images) != 1:
        raise InputError("--json needs its image folder: --images FOLDER")
    else:
        folder = images[0]
    truth = load_ground_truth(json_file)
    return truth, pictures.dataset_samples(truth, folder, args.count)


def open_sources(args: argparse.Namespace, models: dict, truth: dict | None) -> list:
    from detrex.inspect import pictures

    return [
        pictures.model_source(path, models[path])
        if path in models
        else pictures.results_source(path, truth, args.threshold)
        for path in args.sources
    ]


def main() -> None:
    args = parse()
    models = open_models(args)
    from detrex.inspect import pictures
    from detrex.inspect.contact_sheet import LEGEND, contact_sheet
    from detrex.predict import video

    clip = (args.images or [""])[0]
    if Path(clip).suffix.lower() in video.ENDINGS:
        count = video.draw_video(clip, args.output, open_sources(args, models, None))
        print(f"wrote {args.output}: {count} frames")
        return
    truth, samples = read_samples(args, models)
    if args.layers:
        if len(args.sources) != 1 or not models:
            raise InputError("--layers follows the queries of exactly one checkpoint")
        items = list(pictures.by_layer(samples, *models.values(), args.queries))
        legend, title = LEGEND[:1], "a colour is a query: #rank class score"
        columns = len(items) // max(1, len(samples))
    else:
        items = list(pictures.side_by_side(samples, open_sources(args, models, truth)))
        legend, title = LEGEND, f"scores from {args.threshold}"
        columns = args.columns if len(args.sources) == 1 else 1 + len(args.sources)
    contact_sheet(items, args.output, columns, title=title, legend=legend)
    print(f"wrote {args.output}: {len(samples)} images")


if __name__ == "__main__":
    run_command(main)
